# SPDX-License-Identifier: Apache-2.0
"""Wait for news of jobs (long poll, RFC 7240 ``Prefer: wait``).

All requests that wait for a job share one watch of its files.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from airflow_provider_jobapi.server.http.log_reader import LogPart, size_of
from airflow_provider_jobapi.server.store.job_record import JobKey
from airflow_provider_jobapi.training.status import JobState

WAIT_LIMIT = 25.0
"""The most seconds that one request waits. Proxies close a silent connection after 30 seconds or more."""

POLL_SECONDS = 0.2
"""Seconds between two looks at the sizes of the files that are watched."""

KEPT_SECONDS = 60.0
"""Seconds that a watch is kept after the last request for its job, so that the next one need not begin it again."""

_TURN = 500
"""Files that are looked at before the event loop does something else."""


class WatchedJob:
    """The log and the scalars of a job, as they were last seen.

    :ivar home: The directory of the job.
    :ivar changed: Whether the files may have grown since the log was last read for a request.
    :ivar size: The bytes of all whole records of the log, as last read.
    :ivar scalars: The bytes of the scalars, as last read.
    :ivar checked: Which version of the list of clients the job was looked up for; see ``ClientRegistry.changes``.
    """

    __slots__ = (
        "changed",
        "checked",
        "home",
        "key",
        "log",
        "scalars",
        "scalars_file",
        "seen",
        "size",
        "used",
        "waiters",
    )

    def __init__(self, key: JobKey, home: Path, now: float) -> None:
        self.key = key
        self.home = home
        self.log, self.scalars_file = home / "log", home / "scalars"
        self.changed = True
        self.size = self.scalars = 0
        self.checked = -1
        self.used = now
        self.seen = self.sizes()
        self.waiters: set[Waiter] = set()

    def sizes(self) -> tuple[int, int]:
        """Look at the bytes of the log and of the scalars."""
        return size_of(self.log), size_of(self.scalars_file)


class Waiter:
    """A request that waits for jobs.

    :ivar news: The jobs that changed since the request last took them.
    """

    __slots__ = ("_event", "closed", "news")

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self.news: set[WatchedJob] = set()
        self.closed = False

    def wake(self, job: WatchedJob) -> None:
        """Note that a job changed."""
        self.news.add(job)
        self._event.set()

    def close(self) -> None:
        """End the wait."""
        self.closed = True
        self._event.set()

    async def wait(self, deadline: float) -> set[WatchedJob]:
        """Wait until jobs have changed, and return them: none when the wait is over.

        :param deadline: By the clock of the event loop.
        """
        if not self._event.is_set():
            try:
                async with asyncio.timeout_at(deadline):
                    await self._event.wait()
            except TimeoutError:
                return set()
        self._event.clear()
        news, self.news = self.news, set()
        return news


class LogWatcher:
    """Watch the files of the jobs that requests ask for, and wake those requests.

    The files of a job are looked at once for all requests, however many there are. All of it happens in the event loop.

    :param poll: Seconds between two looks.
    :param kept: Seconds that a watch is kept after the last request.
    """

    def __init__(self, poll: float = POLL_SECONDS, kept: float = KEPT_SECONDS) -> None:
        self._poll = poll
        self._kept = kept
        self._loop: asyncio.AbstractEventLoop
        self._jobs: dict[JobKey, WatchedJob] = {}
        self._waiters: set[Waiter] = set()
        self._polling: asyncio.Task[None] | None = None
        self.closed = False

    def open(self) -> None:
        """Allow requests to wait, in the running event loop."""
        self._loop = asyncio.get_running_loop()

    def notify(self, key: JobKey) -> None:
        """Wake the requests that wait for this job. May be called in any thread."""
        try:
            self._loop.call_soon_threadsafe(self._changed, key)
        except RuntimeError:  # the event loop is closed, and no request waits
            pass

    def close(self) -> None:
        """Wake all requests and let none wait any more, so that the server can end. Call it in the event loop."""
        self.closed = True
        for waiter in self._waiters:
            waiter.close()
        if self._polling is not None:
            self._polling.cancel()

    def watch(self, key: JobKey, home: Path) -> WatchedJob:
        """Return the watch of a job. It begins with the first request, and lasts some time after the last one.

        :param home: The directory of the job.
        """
        job = self._jobs.get(key)
        if job is None:
            job = self._jobs[key] = WatchedJob(key, home, self._loop.time())
            if self._polling is None and not self.closed:
                self._polling = asyncio.create_task(self._look())
        else:
            job.used = self._loop.time()
        return job

    def watched(self, key: JobKey) -> WatchedJob | None:
        """Return the watch of a job, where there is one."""
        return self._jobs.get(key)

    @contextmanager
    def waiting(self, jobs: Iterable[WatchedJob]) -> Iterator[Waiter]:
        """Make a waiter that is woken by changes of these jobs until the end of the context."""
        waiter, waited = Waiter(), list(jobs)
        for job in waited:
            job.waiters.add(waiter)
        self._waiters.add(waiter)
        if self.closed:
            waiter.close()
        try:
            yield waiter
        finally:
            self._waiters.discard(waiter)
            now = self._loop.time()
            for job in waited:
                job.waiters.discard(waiter)
                job.used = now

    async def wait_for_news(
        self, job: WatchedJob, read: Callable[[], LogPart], known: JobState | None, wait: float
    ) -> LogPart:
        """Read a log until there are records, the log is complete, the state changes, or the time is over.

        The first scalars of the job end it, too, so that its client learns that there are any.

        :param read: Reads the log. It is called in the event loop.
        :param known: The state that the client knows; by default the state at the first read.
        :param wait: The most seconds to wait.
        """
        deadline = self._loop.time() + wait
        with self.waiting([job]) as waiter:
            part = read()
            known, had_scalars = known or part.state, part.scalars > 0
            while not (part.body or part.complete or part.state is not known):
                if (part.scalars and not had_scalars) or waiter.closed or not await waiter.wait(deadline):
                    break
                part = read()
        return part

    def _changed(self, key: JobKey) -> None:
        if job := self._jobs.get(key):
            self._wake(job)

    def _wake(self, job: WatchedJob) -> None:
        job.changed = True
        for waiter in job.waiters:
            waiter.wake(job)

    async def _look(self) -> None:
        """Look at the sizes of all files that are watched, over and over while there are any."""
        try:
            while self._jobs:
                await asyncio.sleep(self._poll)
                self._forget()
                for number, job in enumerate(list(self._jobs.values())):
                    if number % _TURN == _TURN - 1:
                        await asyncio.sleep(0)
                    if (sizes := job.sizes()) != job.seen:
                        job.seen = sizes
                        self._wake(job)
        finally:
            self._polling = None

    def _forget(self) -> None:
        before = self._loop.time() - self._kept
        for job in [each for each in self._jobs.values() if each.used < before and not each.waiters]:
            del self._jobs[job.key]
