# SPDX-License-Identifier: Apache-2.0
"""Wait for news of jobs (long poll, RFC 7240 ``Prefer: wait``).

All requests that wait for a job share one watch of its files.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from airflow_provider_jobapi.server.http.log_reader import LogPart
from airflow_provider_jobapi.server.http.watched_jobs import Waiter, WatchedJob, WatchedJobs
from airflow_provider_jobapi.server.store.job_record import JobKey
from airflow_provider_jobapi.training.status import JobState

WAIT_LIMIT = 25.0
"""The most seconds that one request waits. Proxies close a silent connection after 30 seconds or more."""


class LogWatcher:
    """Wake the requests that wait for jobs. Everything but :meth:`notify` happens in the event loop.

    :param root: The root directory of the server.
    :param bounds: Other seconds than those of :class:`WatchedJobs`.
    """

    def __init__(self, root: Path, **bounds: float) -> None:
        self._loop: asyncio.AbstractEventLoop
        self._waiters: set[Waiter] = set()
        self.jobs = WatchedJobs(root, self._wake, **bounds)
        self.closed = False

    def open(self) -> None:
        """Allow requests to wait, in the running event loop."""
        self._loop = asyncio.get_running_loop()
        self.jobs.open()

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
        self.jobs.close()

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
        if job := self.jobs.get(key):
            self._wake(job)

    def _wake(self, job: WatchedJob) -> None:
        job.changed = True
        for waiter in job.waiters:
            waiter.wake(job)
