# SPDX-License-Identifier: Apache-2.0
"""Follow a job until it is over: the one loop of the trigger and of the command line."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from airflow_provider_jobapi.exceptions import ConnectionProblem, JobGone, ServiceUnavailable
from airflow_provider_jobapi.services.base import ScalarFollower
from airflow_provider_jobapi.services.retry import Outage, backoff

if TYPE_CHECKING:
    from airflow_provider_jobapi.services.base import Cursor, LogFollower, ScalarChunk
    from airflow_provider_jobapi.training.logs import LogChunk

OpenFollower = Callable[[], Awaitable["LogFollower"]]
"""Makes a follower of the job, which is not entered yet."""

Warn = Callable[[str], object]
"""Takes one sentence about the connection to the service."""


class End(StrEnum):
    """Why following a job ended. How the job itself ended, its status says."""

    OVER = "over"
    """The service reported that the job is over, or that it is gone."""

    TIMEOUT = "timeout"
    """The deadline passed."""

    UNREACHABLE = "unreachable"
    """The service did not answer for longer than the patience."""


@dataclass(frozen=True, slots=True)
class Followed:
    """How following a job ended.

    :ivar error: The last error, where the job is gone or the service did not answer.
    """

    end: End
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class Deadline:
    """When following a job ends at the latest.

    :ivar at: An aware time. Absolute, so that a restart does not extend it.
    :ivar limit: What the deadline is, in the words of messages: "timeout of 1 day, 0:00:00".
    :ivar stop: Whether the job is stopped, too.
    """

    at: datetime
    limit: str
    stop: bool = True

    def seconds_left(self) -> float:
        """Return the seconds until the deadline; negative when it has passed."""
        return (self.at - datetime.now(UTC)).total_seconds()


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds that following a job waits for what may never come.

    :ivar read: For the answer to one read; a long poll is at most 25 seconds.
    :ivar end_of_stopped: For the end of a job after it was asked to stop, so that its last lines are shown.
    :ivar complete_log: For more lines of a job that is over, where the service does not say that its log is complete.
    :ivar scalars: For the last scalars of a job whose log is complete.
    """

    read: float = 120.0
    end_of_stopped: float = 120.0
    complete_log: float = 30.0
    scalars: float = 30.0


async def follow(
    open_follower: OpenFollower,
    *,
    start: Callable[[LogFollower], Awaitable[Cursor]],
    take: Callable[[LogChunk, LogFollower], Awaitable[None]],
    patience: float,
    warn: Warn,
    take_scalars: Callable[[ScalarChunk], Awaitable[None]] | None = None,
    finish: Callable[[], Awaitable[None]] | None = None,
    deadline: Deadline | None = None,
    fail_early: bool = False,
    limits: Limits = Limits(),
) -> Followed:
    """Read a job's log and state until the job is over and its log complete.

    A read that failed or was interrupted is repeated at the same cursor, so no line is lost or doubled. While
    ``take`` waits, nothing more is read; the deadline does not depend on it.

    :param open_follower: Called again when the service refused the connection, which may have been corrected since.
    :param start: Returns the cursor to read from; called once, before the first read.
    :param take: Takes what one read brought.
    :param patience: Seconds without an answer after which following ends as UNREACHABLE.
    :param warn: Called when the service stops to answer, when it answers again, and when the deadline stops the job.
    :param take_scalars: Takes what one read of the scalars brought, where the service has them. They are read beside
        the log, which waits for none of them; their errors are not said and end nothing.
    :param finish: Called at the end, while the follower is still open.
    :param fail_early: Whether an error that time does not cure ends it before the first answer. After that every
        error is waited for: a proxy in front of a service that restarts may answer anything.
    """
    async with AsyncExitStack() as stack:
        following = _Following(stack, open_follower, start, take, patience, warn, fail_early, limits)
        following.timed_out = deadline is not None and deadline.seconds_left() <= 0
        reading = asyncio.create_task(following.read_to_end())
        tasks: set[asyncio.Task[Followed]] = {reading}
        if deadline is not None:
            tasks.add(asyncio.create_task(following.keep(deadline)))
        scalars = asyncio.create_task(following.read_scalars(take_scalars))
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            followed = (reading if reading in done else done.pop()).result()
            if following.misses_scalars:
                await asyncio.wait({scalars}, timeout=limits.scalars)
        finally:
            for task in (*tasks, scalars):
                task.cancel()
            await asyncio.wait({*tasks, scalars})
        if finish is not None:
            await finish()
        return followed


async def stop_job(open_follower: OpenFollower, *, patience: float, warn: Warn) -> None:
    """Ask the service to stop a job, with a follower of its own, until it accepts or the patience ends.

    :raises Exception: the last error.
    """
    outage = Outage(patience, warn, longest_wait=2.0)  # seconds: a stop is urgent
    while True:
        try:
            async with await open_follower() as follower:
                await follower.stop()
        except Exception as error:
            pause = outage.failed(error)
            if pause is None:
                raise
            await asyncio.sleep(pause)
        else:
            return


class _Following:
    """One call of :func:`follow`: the task that reads, and the task that keeps the deadline.

    :ivar timed_out: Whether the deadline has stopped the job, or had passed before. A trigger that is restarted then
        cannot know whether the one before stopped the job.
    """

    def __init__(
        self,
        stack: AsyncExitStack,
        open_follower: OpenFollower,
        start: Callable[[LogFollower], Awaitable[Cursor]],
        take: Callable[[LogChunk, LogFollower], Awaitable[None]],
        patience: float,
        warn: Warn,
        fail_early: bool,
        limits: Limits,
    ) -> None:
        self._stack = stack
        self._open = open_follower
        self._start = start
        self._take = take
        self._patience = patience
        self._warn = warn
        self._fail_early = fail_early
        self._limits = limits
        self._cursor: Cursor = None
        self._started = self._answered = self._job_ended = False
        self.timed_out = False
        self._interrupted = False
        self._last_news = time.monotonic()
        self._read_timeout: asyncio.Timeout | None = None
        self._follower: LogFollower | None = None
        self._reading = asyncio.Event()
        self._log_is_complete = False

    @property
    def misses_scalars(self) -> bool:
        """Whether the job is over and has scalars, of which the last may be unread."""
        return self._log_is_complete and isinstance(self._follower, ScalarFollower) and self._follower.has_scalars

    async def read_to_end(self) -> Followed:
        """Read until the job is over, gone, or out of reach."""
        outage = Outage(self._patience, self._warn)
        while True:
            try:
                follower = self._follower
                if follower is None:
                    follower = self._follower = await self._stack.enter_async_context(await self._open())
                chunk = await self._read(follower)
            except JobGone as error:
                return Followed(End.TIMEOUT if self.timed_out else End.OVER, error)
            except Exception as error:  # noqa: BLE001 -- no trouble with the log may fail a job that trains
                pause = None if self._is_final(error) else outage.failed(error)
                if pause is None:
                    return Followed(End.UNREACHABLE, error)
                if isinstance(error, ConnectionProblem):
                    self._follower = None
                    self._reading.clear()
                    await self._stack.aclose()
                await asyncio.sleep(pause)
                continue
            if chunk is None:
                continue
            outage.succeeded()
            self._answered = True
            self._job_ended = chunk.state is not None and chunk.state.ended
            await self._take(chunk, follower)
            self._cursor = chunk.cursor
            await asyncio.sleep(0)  # for the deadline, whatever the follower does
            if self._is_last(chunk):
                self._log_is_complete = True
                return Followed(End.TIMEOUT if self.timed_out else End.OVER)

    async def keep(self, deadline: Deadline) -> Followed:
        """Wait for the deadline, stop the job where it says so, and give the job time to end."""
        longest_sleep = 30.0  # seconds: the clock may be set meanwhile
        while (left := deadline.seconds_left()) > 0:  # noqa: ASYNC110 -- time sets no event
            await asyncio.sleep(min(left, longest_sleep))
        if self._job_ended and not self.timed_out:
            await asyncio.Event().wait()  # the reading ends by itself
        if deadline.stop:
            # Both before the stop: the reading may see its effect, and end, before the stop is answered.
            self.timed_out = True
            self._warn(f"The {deadline.limit} is over; the job is being stopped.")
            try:
                await stop_job(self._open, patience=self._patience, warn=lambda _: None)
            except Exception as error:  # noqa: BLE001 -- as for a read: the worker looks at the job again
                return Followed(End.UNREACHABLE, error)
            if self._read_timeout is not None and not self._read_timeout.expired():
                self._interrupted = True
                self._read_timeout.reschedule(0)
            await asyncio.sleep(self._limits.end_of_stopped)
        return Followed(End.TIMEOUT)

    async def read_scalars(self, take: Callable[[ScalarChunk], Awaitable[None]] | None) -> None:
        """Read the scalars beside the log, where somebody takes them and the service has them."""
        cursor, failures = None, 0
        while take is not None:
            await self._reading.wait()
            follower = self._follower
            if not isinstance(follower, ScalarFollower):
                return
            try:
                async with asyncio.timeout(self._limits.read):
                    chunk = await follower.read_scalars(cursor)
            except Exception as error:  # noqa: BLE001 -- the reading of the log says what is wrong with the service
                if self._log_is_complete and not isinstance(error, ServiceUnavailable):
                    return
                failures += not isinstance(error, TimeoutError)
                await asyncio.sleep(backoff(failures, first=1.0, longest=60.0))
                continue
            cursor, failures = chunk.cursor, 0
            await take(chunk)
            if chunk.complete:
                return

    async def _read(self, follower: LogFollower) -> LogChunk | None:
        """Read once; None when the read was interrupted because the job was stopped."""
        if not self._started:
            self._cursor = await self._start(follower)
            self._started = True
        self._reading.set()
        try:
            async with asyncio.timeout(self._limits.read) as self._read_timeout:
                return await follower.read(self._cursor)
        except TimeoutError:
            if self._interrupted:
                self._interrupted = False
                return None
            raise ServiceUnavailable(f"The service did not answer within {self._limits.read:g} seconds.") from None
        finally:
            self._read_timeout = None

    def _is_final(self, error: Exception) -> bool:
        return self._fail_early and not self._answered and not isinstance(error, ServiceUnavailable)

    def _is_last(self, chunk: LogChunk) -> bool:
        now = time.monotonic()
        if chunk.lines or chunk.behind or not self._job_ended:
            self._last_news = now
        return chunk.complete or now - self._last_news > self._limits.complete_log
