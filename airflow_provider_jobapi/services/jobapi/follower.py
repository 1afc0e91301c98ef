# SPDX-License-Identifier: Apache-2.0
"""Follows one job from the triggerer by long polls; each answer holds new log lines and the job's state."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from types import TracebackType
from typing import Any, Self

from airflow_provider_jobapi.exceptions import BrokenContract
from airflow_provider_jobapi.services.answer import Answer
from airflow_provider_jobapi.services.base import ScalarChunk
from airflow_provider_jobapi.services.jobapi import async_client, contract
from airflow_provider_jobapi.services.jobapi.client import Mask
from airflow_provider_jobapi.services.jobapi.connection import JobApiConnection
from airflow_provider_jobapi.services.jobapi.follow_many import Place
from airflow_provider_jobapi.services.jobapi.tokens import TokenSource
from airflow_provider_jobapi.services.retry import Retry, sleep_async
from airflow_provider_jobapi.training.logs import LogChunk
from airflow_provider_jobapi.training.status import JobState, JobStatus

log = logging.getLogger(__name__)

LEAST_INTERVAL = 0.2
"""Seconds between two requests of a job, at the least."""

QUIET_INTERVAL = 1.0
"""Seconds between two requests, at the least, to a service without long polls."""

SCALARS_INTERVAL = 2.0
"""Seconds between two requests for a job's scalars, at the least; they are written about as often."""

MOST_REQUESTS = 1_000
"""Requests a second of all followers of a process together, at the most."""

_NO_SUCH_OFFSET = frozenset({416})

STOP = Retry(total=6.0, attempts=3, longest_wait=2.0)
"""How the request to stop a job is repeated; short, since the trigger repeats it as a whole."""


class _Crowd:
    """Counts the followers of this process in all event loops."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0

    def add(self, number: int) -> None:
        with self._lock:
            self._count += number

    def interval(self) -> float:
        """Seconds between two requests of one follower, so that all together keep the rate."""
        return max(LEAST_INTERVAL, self._count / MOST_REQUESTS)


_crowd = _Crowd()


class JobApiFollower:
    """Follows one job; see :class:`~airflow_provider_jobapi.services.base.LogFollower` and ``ScalarFollower``.

    :param tokens: The source of tokens; called in a thread.
    :param mask: Called with each new token.
    """

    replayable = True

    def __init__(self, connection: JobApiConnection, tokens: TokenSource, job_id: str, mask: Mask) -> None:
        self._connection = connection
        self._tokens = tokens
        self._job_id = job_id
        self._mask = mask
        self._client: async_client.AsyncClient | None = None
        self._next = 0.0
        self._turn = asyncio.Lock()
        self._state: JobState | None = None
        self.has_scalars = False
        self._complete = False
        self._news_of_scalars = asyncio.Event()
        self._asked_for_scalars: float | None = None

    async def __aenter__(self) -> Self:
        """Join the client that all followers of this connection share."""
        self._client = async_client.join(self._connection, self._tokens)
        _crowd.add(1)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the client."""
        left, self._client = self._client, None
        if left is not None:
            _crowd.add(-1 if self._asked_for_scalars is None else -2)
            self._asked_for_scalars = None
            await async_client.leave(left)

    async def read(self, cursor: Any) -> LogChunk:
        """Return the lines after the cursor, ``{"offset": bytes}``; waits for new ones up to 25 seconds.

        A read that was cancelled is repeated at the same cursor.

        :raises ServiceUnavailable: when it is worth trying again.
        :raises ConnectionProblem: when the service refuses the connection.
        :raises JobNotFound: when the service never had the job.
        :raises JobGone: when it had it.
        :raises BrokenContract: when its answer cannot be true.
        """
        offset = _offset(cursor)
        await self._joined().prepare(self._mask)
        answer = await self._read_with_others(offset) or await self._read_alone(offset)
        if answer.status == 416:
            return LogChunk((), {"offset": self._shrunk(answer, offset, "log")})
        page = contract.read_log_page(answer, offset)
        self._state = page.state
        self.has_scalars = self.has_scalars or page.scalars > 0
        self._complete = page.complete
        if self.has_scalars or page.complete:
            self._news_of_scalars.set()
        return LogChunk(page.lines, {"offset": page.next_offset}, page.state, page.complete)

    async def _read_with_others(self, offset: int) -> Answer | None:
        """Read the log by the request for all jobs that are followed; None where it has to be read alone."""
        place = Place(self._job_id, offset, self._state, self.has_scalars)
        answer = await self._joined().read_log(place, self._mask)
        request = contract.log_page(self._job_id, offset)
        return None if answer is None else self._joined().checked(request, answer, _NO_SUCH_OFFSET)

    async def _read_alone(self, offset: int) -> Answer:
        """Read the log by the job's own route."""
        await self._pace()
        asked = time.monotonic()
        request = contract.log_page(self._job_id, offset, wait=contract.LONGEST_WAIT, known=self._state)
        answer = await self._joined().send(request, self._mask, wait=contract.LONGEST_WAIT, accept=_NO_SUCH_OFFSET)
        is_news = answer.body or answer.status == 416 or answer.headers.get("job-log-complete") == "true"
        if not is_news and time.monotonic() - asked < QUIET_INTERVAL:
            self._next = max(self._next, asked + max(QUIET_INTERVAL, _crowd.interval()))
        return answer

    async def read_scalars(self, cursor: Any) -> ScalarChunk:
        """Return the points after the cursor, ``{"offset": bytes}``; waits for new ones.

        Nothing is requested before an answer with the log has said that there are any: a service that does not read
        event files does not know the request.
        """
        offset = _offset(cursor)
        await self._news_of_scalars.wait()
        if not self.has_scalars:
            return ScalarChunk((), {"offset": offset}, self._state, complete=True, at_end=True)
        await self._pace_of_scalars()
        request = contract.scalars_page(self._job_id, offset, wait=contract.LONGEST_WAIT)
        answer = await self._joined().send(request, self._mask, wait=contract.LONGEST_WAIT, accept=_NO_SUCH_OFFSET)
        if answer.status == 416:
            return ScalarChunk((), {"offset": self._shrunk(answer, offset, "scalars")})
        page = contract.read_log_page(answer, offset, "scalars")
        cursor, at_end = {"offset": page.next_offset}, page.next_offset == page.size
        return ScalarChunk(page.lines, cursor, page.state, page.complete, at_end=at_end)

    async def status(self) -> JobStatus:
        """Return the job's status; one request, at the rate of the reads."""
        await self._joined().prepare(self._mask)
        await self._pace()
        answer = await self._joined().send(contract.status(self._job_id), self._mask)
        return contract.read_status(answer, self._job_id)

    async def stop(self) -> None:
        """Ask the service to stop the job; a job that has ended is no error."""
        await STOP.call_async(lambda: self._joined().send(contract.stop(self._job_id), self._mask))

    def _joined(self) -> async_client.AsyncClient:
        if self._client is None:
            raise RuntimeError("A follower is an asynchronous context manager: use it within 'async with'.")
        return self._client

    async def _pace(self) -> None:
        async with self._turn:  # since a status may be asked for while a read waits
            await sleep_async(self._next - time.monotonic())
            self._next = time.monotonic() + _crowd.interval()

    async def _pace_of_scalars(self) -> None:
        if self._asked_for_scalars is None:
            _crowd.add(1)
        else:
            wait = LEAST_INTERVAL if self._complete else max(SCALARS_INTERVAL, _crowd.interval())
            await sleep_async(self._asked_for_scalars + wait - time.monotonic())
        self._asked_for_scalars = time.monotonic()

    def _shrunk(self, answer: Answer, offset: int, stream: str) -> int:
        """Go on at the end of a log that has become shorter: a server that lost power had not written all of it.

        :raises BrokenContract: when the log is long enough, and the offset was refused none the less.
        """
        size = contract.read_size(answer, stream)
        if size >= offset:
            raise BrokenContract(
                f"The service's {stream} of job {self._job_id} has no record at offset {offset} of {size}, where the "
                "last one ended; offsets never change by the contract."
            )
        log.warning(
            f"The service has lost the end of the {stream} of job {self._job_id}; following it from where it ends now."
        )
        return size


def _offset(cursor: Any) -> int:
    if cursor is None:
        return 0
    offset = cursor.get("offset") if isinstance(cursor, dict) else None
    if not isinstance(offset, int) or isinstance(offset, bool) or offset < 0:
        raise BrokenContract(f"The log cursor {str(cursor)[:80]} is invalid; expected {{'offset': <bytes>}}.")
    return offset
