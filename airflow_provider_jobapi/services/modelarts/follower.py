# SPDX-License-Identifier: Apache-2.0
"""Follows one job from the triggerer: asks where it stands and what its nodes have logged, at one pace.

keystoneauth1 and requests are synchronous, so each call runs in a thread of a small pool that all followers of a
service share; the event loop never waits for a socket. ModelArts knows no long poll, and publishes no limit for how
often it may be asked, so a job has one schedule for all its questions, and that of each job is a little different.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache, partial
from types import TracebackType
from typing import Any, Self, TypeVar

from airflow_provider_jobapi.exceptions import BrokenContract, JobGone, ServiceUnavailable, TrainingError, describe
from airflow_provider_jobapi.services import retry
from airflow_provider_jobapi.services.answer import Answer
from airflow_provider_jobapi.services.modelarts import logbook, mapping
from airflow_provider_jobapi.services.modelarts.connection import ModelArtsConnection
from airflow_provider_jobapi.services.modelarts.refusals import ENDED, GONE, code_of, succeeded
from airflow_provider_jobapi.services.modelarts.session import Mask, session_of
from airflow_provider_jobapi.services.modelarts.wire import Call
from airflow_provider_jobapi.training.logs import LogChunk
from airflow_provider_jobapi.training.status import JobState, JobStatus

log = logging.getLogger(__name__)

THREADS = 16
"""Calls to one service that all followers of a process may have under way at a time."""

QUIET = 8.0
"""Seconds without a line after which the log of a job that is over counts as complete; lines arrive late."""

JITTER = 0.1
"""How much earlier or later than the interval a poll may come, as a part of it."""

ROUNDS = 2, 6
"""Looks in a row that find no line where the job is over: as many as make its log complete, and as many where the
service does not answer all of them."""

BUSY = retry.Retry(total=20.0, attempts=4, only_if_asked=True)
"""How a call is repeated where ModelArts says when; a poll that fails otherwise is repeated by the trigger."""

Result = TypeVar("Result")


class ModelArtsFollower:
    """Follows one job; see :class:`~airflow_provider_jobapi.services.base.LogFollower`.

    :param handle: ``job_id``, ``dialect``, ``modelarts_id``, and for v1 ``version_id``.
    :param mask: Told each new token.
    """

    replayable = True

    def __init__(
        self, connection: ModelArtsConnection, handle: dict[str, Any], mask: Mask = lambda _secret: None
    ) -> None:
        self._interval = connection.poll_interval
        self._session = session_of(connection, mask)
        self._pool = _pool_of(connection.url)
        self._dialect = mapping.dialect_of(str(handle.get("dialect")))
        self._job_id = str(handle.get("job_id", ""))
        self._key = mapping.Key(_id(handle, "modelarts_id"), str(handle.get("version_id") or ""))
        self._due = time.monotonic() + random.uniform(0, JITTER) * self._interval  # noqa: S311 -- no secret
        self._details: mapping.Details | None = None
        self._asked = float("-inf")
        self._told_unknown, self._told = False, set[type[Exception]]()
        self._rounds, self._whole, self._quiet_since = 0, 0, 0.0
        self._troubles, self._rest = 0, (float("-inf"), ServiceUnavailable(""))
        self._turn, self._not_before = asyncio.Lock(), 0.0

    async def __aenter__(self) -> Self:
        """Nothing is to be opened: the session and the threads are those of the process."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is to be closed."""

    async def read(self, cursor: Any) -> LogChunk:
        """The lines after the cursor; waits until the job's next poll is due, and answers what that finds.

        A read that was cancelled is repeated by reading at the same cursor again. A log that cannot be read is told of
        in the task's log; where the job stands does not depend on it.

        :raises ServiceUnavailable: when it is worth trying again.
        :raises ConnectionProblem: when the service refuses the connection.
        :raises JobGone: when somebody deleted the job.
        :raises BrokenContract: when its answer cannot be true.
        """
        await retry.sleep_async(self._due - time.monotonic())
        began = time.monotonic()
        self._due = began + self._pace()
        book = logbook.Logbook(self._dialect, self._key, cursor)
        details = self._details
        if details is None or not book.behind or began - self._asked >= self._interval:
            details = await self._ask()
        await self._look(book, details)
        if book.behind:
            self._due = began
        complete = self._is_complete(details.status.status, book)
        return LogChunk(tuple(book.lines), book.cursor(), details.status.status, complete)

    async def status(self) -> JobStatus:
        """Where the job stands, as the reading has just found it; asked for where that is long ago."""
        known, age = self._details, time.monotonic() - self._asked
        if known is not None and age < self._interval * (1 + 2 * JITTER):
            return known.status
        return (await self._ask()).status

    async def stop(self) -> None:
        """Ask the service to stop the job; a job that has ended is no error, nor is one that was deleted."""
        call = self._dialect.stop(self._key)
        self._asked = float("-inf")
        try:
            await self._repeat(call, lambda answer: succeeded(answer) or code_of(answer) in ENDED | GONE)
        except ServiceUnavailable:
            raise
        except TrainingError:
            if not await self._has_ended():
                raise

    async def _has_ended(self) -> bool:
        """Whether the job is over, which is why a request to stop it may be refused in many words."""
        try:
            return (await self._ask()).status.status.ended
        except JobGone:
            return True
        except TrainingError:
            return False

    async def _look(self, book: logbook.Logbook, details: mapping.Details) -> None:
        """Look at the logs, unless the service has said that it is too early."""
        until, busy = self._rest
        now = time.monotonic()
        if not retry.is_testing() and now < until:
            book.leave(busy)
            return
        send = partial(self._send, until=now + logbook.LOOK)
        await book.read(details, send, self._fetch, final=self._rounds > 0)
        if isinstance(book.trouble, ServiceUnavailable) and book.trouble.retry_after is not None:
            self._rest = time.monotonic() + book.trouble.retry_after, book.trouble
        self._tell(book.trouble)

    def _tell(self, trouble: Exception | None) -> None:
        """Tell of what is wrong with the log, once for each kind; of what may pass by itself, when it has not."""
        self._troubles = 0 if trouble is None else self._troubles + 1
        if trouble is None or type(trouble) in self._told or (_may_pass(trouble) and self._troubles < 3):
            return
        self._told.add(type(trouble))
        log.warning(
            f"The log of job {self._job_id} cannot be read, so lines may be missing here; the job is followed none the "
            f"less. {describe(trouble)}"
        )

    async def _ask(self) -> mapping.Details:
        asked = time.monotonic()
        details = self._dialect.read_details(await self._send(self._dialect.details(self._key)))
        if details.status.status is JobState.UNKNOWN and not self._told_unknown:
            self._told_unknown = True
            log.warning(
                f"ModelArts says {details.word!r} of job {self._job_id}, which is no state that we know; it is taken "
                "as still going on."
            )
        status = details.status.model_copy(update={"job_id": self._job_id})
        self._details, self._asked = replace(details, status=status), asked
        return self._details

    def _pace(self) -> float:
        """Seconds to the next poll; a log that is about to be complete is looked at a little more often."""
        interval = self._interval if self._details is None else self._interval_of(self._details.status.status)
        return interval * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 -- no secret

    def _interval_of(self, state: JobState) -> float:
        return min(self._interval, QUIET / 2) if state.ended else self._interval

    def _is_complete(self, state: JobState, book: logbook.Logbook) -> bool:
        """Whether the job is over and looks in a row, over some seconds, have found no line."""
        now = time.monotonic()
        if book.lines or book.behind or not state.ended:
            self._rounds = self._whole = 0
            self._quiet_since = now
            return False
        self._quiet_since = self._quiet_since if self._rounds else now
        self._rounds += 1
        self._whole = self._whole + 1 if book.whole else 0
        if self._whole < ROUNDS[0] and self._rounds < ROUNDS[1]:
            return False
        return now - self._quiet_since >= QUIET * (1 if not retry.is_testing() else 0)

    async def _send(
        self, call: Call, accept: Callable[[Answer], bool] = succeeded, *, until: float = float("inf")
    ) -> Answer:
        """Send a call when it is its turn: of a job one at a time, and none before the time that the service named.

        :param until: When it is too late for the call to wait for the service.
        """
        async with self._turn:
            await retry.sleep_async(self._not_before - time.monotonic())
            return await self._repeat(call, accept, until)

    async def _repeat(self, call: Call, accept: Callable[[Answer], bool], until: float = float("inf")) -> Answer:
        """Send a call; where the service says after how many seconds it may be sent again, wait for them."""

        async def once() -> Answer:
            try:
                return await self._in_thread(lambda: self._session.send(call, accept))
            except ServiceUnavailable as error:
                if error.retry_after is not None and error.retry_after <= BUSY.total:
                    self._not_before = time.monotonic() + error.retry_after
                raise

        return await replace(BUSY, total=min(BUSY.total, until - time.monotonic())).call_async(once)

    async def _fetch(self, url: str, begin: int, most: int) -> tuple[int, bytes]:
        return await self._in_thread(lambda: self._session.fetch(url, begin, most))

    async def _in_thread(self, work: Callable[[], Result]) -> Result:
        from asgiref.sync import sync_to_async

        # Airflow's masker, which is told a new token there, may speak to its supervisor by this event loop alone.
        return await sync_to_async(work, thread_sensitive=False, executor=self._pool)()


@lru_cache(16)
def _pool_of(url: str) -> ThreadPoolExecutor:
    """The threads for one service: what waits for one that hangs does not hold up the others' jobs."""
    return ThreadPoolExecutor(THREADS, thread_name_prefix=f"modelarts {url}")


def _may_pass(trouble: Exception) -> bool:
    return isinstance(trouble, ServiceUnavailable)


def _id(handle: dict[str, Any], name: str) -> str:
    found = handle.get(name)
    if not found:
        raise BrokenContract(f"The handle of a job of ModelArts has no {name}.")
    return str(found)
