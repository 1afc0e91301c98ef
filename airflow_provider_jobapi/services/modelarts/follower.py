# SPDX-License-Identifier: Apache-2.0
"""Follow one job from the triggerer: poll its state and the logs of its nodes.

keystoneauth1 and requests are synchronous, so each request runs in a thread of a small pool that all followers of a
service share, and the event loop is never blocked. ModelArts has no long poll and publishes no rate limit, so the state
and the logs of a job are requested at one interval, with some jitter.
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

from airflow_provider_jobapi.exceptions import JobGone, ServiceUnavailable, TrainingError
from airflow_provider_jobapi.services import retry
from airflow_provider_jobapi.services.answer import Answer
from airflow_provider_jobapi.services.modelarts.api_session import Mask, session_of
from airflow_provider_jobapi.services.modelarts.calls import Call
from airflow_provider_jobapi.services.modelarts.connection import ModelArtsConnection
from airflow_provider_jobapi.services.modelarts.dialect_base import JobDetails
from airflow_provider_jobapi.services.modelarts.dialects import handle_text, read_handle
from airflow_provider_jobapi.services.modelarts.errors import ENDED, GONE, code_of, succeeded
from airflow_provider_jobapi.services.modelarts.job_logs import JobLogs
from airflow_provider_jobapi.services.polling import (
    DEFAULT_LIMITS,
    JITTER,
    QUIET_SECONDS,
    Complaints,
    QuietEnd,
    ReadLimits,
    jittered,
)
from airflow_provider_jobapi.training.logs import LogChunk
from airflow_provider_jobapi.training.status import JobState, JobStatus

log = logging.getLogger(__name__)

THREADS = 16
"""Requests to one service that all followers of a process send at the same time."""

BUSY_RETRY = retry.Retry(total=20.0, attempts=4, only_if_asked=True)
"""For a request that the service wants to be repeated after some seconds. The trigger repeats other failed polls."""

Result = TypeVar("Result")


class ModelArtsFollower:
    """Follows one job; see :class:`~airflow_provider_jobapi.services.base.LogFollower`.

    :param handle: ``job_id``, ``dialect``, ``modelarts_id``, and for v1 ``version_id``.
    :param mask: Receives each new token.
    :param quiet: Seconds without a new line after which the log of an ended job is complete.
    :param limits: Limits of one read of the logs.
    """

    replayable = True

    def __init__(
        self,
        connection: ModelArtsConnection,
        handle: dict[str, Any],
        mask: Mask = lambda _secret: None,
        *,
        quiet: float = QUIET_SECONDS,
        limits: ReadLimits = DEFAULT_LIMITS,
    ) -> None:
        self._dialect, self._key = read_handle(handle)
        self._job_id = handle_text(handle, "job_id")
        self._session = session_of(connection, mask)
        self._pool = _pool_of(connection.url)
        self._interval = connection.poll_interval
        self._limits = limits
        # Polling: when the next read is due, and the last known state of the job with the time of its request.
        self._due = time.monotonic() + random.uniform(0, JITTER) * self._interval  # noqa: S311 -- no secret
        self._details: JobDetails | None = None
        self._asked_at = float("-inf")
        # When lines came: those that were there at first count as one moment.
        self._opened_at, self._is_live = time.time(), False
        self._end = QuietEnd(quiet)
        # Errors: those reported, and until when the logs are not to be requested, and why.
        self._unknown_reported, self._complaints = False, Complaints(self._job_id, log)
        self._logs_busy_until, self._logs_busy = float("-inf"), ServiceUnavailable("")
        # Requests of a job are sent one at a time, and none before this time.
        self._one_at_a_time, self._not_before = asyncio.Lock(), 0.0

    async def __aenter__(self) -> Self:
        """Return the follower; session and threads belong to the process."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Do nothing; session and threads belong to the process."""

    async def read(self, cursor: Any) -> LogChunk:
        """Wait until the next poll is due, and return the lines after the cursor.

        A read that was cancelled can be repeated with the same cursor. If a log cannot be read, a warning is logged;
        the state of the job does not depend on it.

        :raises ServiceUnavailable: if a later attempt may succeed.
        :raises ConnectionProblem: if the service refuses the connection.
        :raises JobGone: if the job was deleted.
        :raises BrokenContract: if an answer is invalid.
        """
        await retry.sleep_async(self._due - time.monotonic())
        began = time.monotonic()
        self._due = began + self._next_interval()
        logs = JobLogs(self._dialect, self._key, cursor, self._limits)
        details = self._details
        if details is None or not logs.behind or began - self._asked_at >= self._interval:
            details = await self._request_details()
        await self._read_logs(logs, details)
        if logs.behind:
            self._due = began
        state = details.status.status
        complete = self._end.reached(ended=state.ended, news=bool(logs.lines) or logs.behind, whole=logs.whole)
        came = time.time() if self._is_live else self._opened_at
        self._is_live = self._is_live or not logs.behind
        return LogChunk(tuple(logs.lines), logs.cursor(), state, complete, came=came, behind=logs.behind)

    async def status(self) -> JobStatus:
        """Return the state of the job from the last read, or request it if that is older than an interval."""
        known, age = self._details, time.monotonic() - self._asked_at
        if known is not None and age < self._interval * (1 + 2 * JITTER):
            return known.status
        return (await self._request_details()).status

    async def stop(self) -> None:
        """Request that the job be stopped; no error if it has ended or was deleted."""
        self._asked_at = float("-inf")
        try:
            await self._repeat(
                self._dialect.stop(self._key), lambda answer: succeeded(answer) or code_of(answer) in ENDED | GONE
            )
        except ServiceUnavailable:
            raise
        except TrainingError:
            # A job that has ended may be refused with other codes than those documented.
            if not await self._has_ended():
                raise

    async def _has_ended(self) -> bool:
        try:
            return (await self._request_details()).status.status.ended
        except JobGone:
            return True
        except TrainingError:
            return False

    async def _request_details(self) -> JobDetails:
        asked_at = time.monotonic()
        details = self._dialect.read_details(await self._send(self._dialect.details(self._key)))
        if details.status.status is JobState.UNKNOWN and not self._unknown_reported:
            self._unknown_reported = True
            log.warning(
                f"ModelArts reports the unknown state {details.phase!r} for job {self._job_id}; the job is treated as "
                "running."
            )
        status = details.status.model_copy(update={"job_id": self._job_id})
        self._details, self._asked_at = replace(details, status=status), asked_at
        return self._details

    async def _read_logs(self, logs: JobLogs, details: JobDetails) -> None:
        """Read the logs, unless the service has named a later time."""
        now = time.monotonic()
        if not retry.is_testing() and now < self._logs_busy_until:
            logs.skip(self._logs_busy)
            return
        send = partial(self._send, until=now + self._limits.seconds)
        await logs.read(details, send, self._fetch, final=self._end.begun)
        if isinstance(logs.trouble, ServiceUnavailable) and logs.trouble.retry_after is not None:
            self._logs_busy_until, self._logs_busy = time.monotonic() + logs.trouble.retry_after, logs.trouble
        self._complaints.note(logs.trouble)

    def _next_interval(self) -> float:
        """Return the seconds to the next poll."""
        ended = self._details is not None and self._details.status.status.ended
        return jittered(self._end.interval(self._interval, ended=ended))

    async def _send(
        self, call: Call, accept: Callable[[Answer], bool] = succeeded, *, until: float = float("inf")
    ) -> Answer:
        """Send a request after the job's other requests, and not before a time that the service has named.

        :param until: The time after which the request is not repeated.
        """
        async with self._one_at_a_time:
            await retry.sleep_async(self._not_before - time.monotonic())
            return await self._repeat(call, accept, until)

    async def _repeat(self, call: Call, accept: Callable[[Answer], bool], until: float = float("inf")) -> Answer:
        """Send a request; if the service names a time for a repetition, wait and repeat it."""

        async def send_once() -> Answer:
            try:
                return await self._in_thread(lambda: self._session.send(call, accept))
            except ServiceUnavailable as error:
                if error.retry_after is not None and error.retry_after <= BUSY_RETRY.total:
                    self._not_before = time.monotonic() + error.retry_after
                raise

        left = min(BUSY_RETRY.total, until - time.monotonic())
        return await replace(BUSY_RETRY, total=left).call_async(send_once)

    async def _fetch(self, url: str, begin: int, most: int) -> tuple[int, bytes]:
        return await self._in_thread(lambda: self._session.fetch(url, begin, most))

    async def _in_thread(self, work: Callable[[], Result]) -> Result:
        from asgiref.sync import sync_to_async

        # Not run_in_executor: Airflow's masker receives a new token in the thread, and reaches its supervisor only
        # through this event loop.
        return await sync_to_async(work, thread_sensitive=False, executor=self._pool)()


@lru_cache(16)
def _pool_of(url: str) -> ThreadPoolExecutor:
    """Return the threads for one service, so that a service that hangs does not delay the jobs of others."""
    return ThreadPoolExecutor(THREADS, thread_name_prefix=f"modelarts {url}")
