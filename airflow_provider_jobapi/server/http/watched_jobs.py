# SPDX-License-Identifier: Apache-2.0
"""Notice when the files of jobs grow, by inotify where the system has it, and by looking at their sizes elsewhere.

Where it has, the sizes are looked at, too, but seldom: no record is ever missed, and a file system that reports no
changes, since another host made them, is found out.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from pathlib import Path

from airflow_provider_jobapi.server.http.directory_events import DirectoryEvents, is_limit, shared_file_system
from airflow_provider_jobapi.server.http.log_reader import size_of
from airflow_provider_jobapi.server.store.job_record import JobKey

POLL_SECONDS = 0.2
"""Seconds between two looks at the sizes of files whose changes are not reported."""

SAFETY_SECONDS = 5.0
"""Seconds between two looks at the sizes of the others."""

KEPT_SECONDS = 60.0
"""Seconds that a watch is kept after the last request for its job, so that the next one need not begin it again."""

_GATE_SECONDS = 0.05
"""Seconds between two reads of what changed: a job that writes a thousand lines a second wakes nobody as often."""

_TURN = 500
"""Jobs that are looked at before the event loop does something else."""

log = logging.getLogger(__name__)


class WatchedJob:
    """The log and the scalars of a job, as they were last seen.

    :ivar home: The directory of the job.
    :ivar log: The path of its log.
    :ivar scalars_file: The path of its scalars.
    :ivar number: The watch of the directory; None where the sizes of the files are looked at instead.
    :ivar changed: Whether the files may have grown since the log was last read for a request that follows many jobs.
    :ivar size: The bytes of all whole records of the log, as last read for one.
    :ivar scalars: The bytes of the scalars, as last read for one.
    :ivar checked: Which version of the list of clients the job was looked up for; see ``ClientRegistry.changes``.
    :ivar used: When a request last asked for the job, by the clock of the event loop.
    :ivar waiters: The requests that wait for the job.
    """

    __slots__ = (
        "changed", "checked", "events", "events_before", "home", "key", "log", "number", "scalars", "scalars_file",
        "seen", "size", "used", "waiters",
    )  # fmt: skip

    def __init__(self, key: JobKey, home: Path, number: int | None, now: float) -> None:
        self.key = key
        self.home = home
        self.log, self.scalars_file = f"{home}/log", f"{home}/scalars"  # used too often for a Path
        self.number = number
        self.changed = True
        self.size = self.scalars = 0
        self.checked = -1
        self.used = now
        self.seen = self.sizes()
        self.events = self.events_before = 0
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


class WatchedJobs:
    """The jobs whose files are watched. Everything happens in the event loop.

    :param root: The root directory of the server.
    :param changed: Called with a job whose files may have grown.
    :param poll: Seconds between two looks at the sizes of files whose changes are not reported.
    :param safety: Seconds between two looks at the sizes of the others.
    :param kept: Seconds that a watch is kept after the last request.
    """

    def __init__(
        self,
        root: Path,
        changed: Callable[[WatchedJob], None],
        *,
        poll: float = POLL_SECONDS,
        safety: float = SAFETY_SECONDS,
        kept: float = KEPT_SECONDS,
    ) -> None:
        self._root = root
        self._changed = changed
        self._poll = poll
        self._safety = safety
        self._kept = kept
        self._loop: asyncio.AbstractEventLoop
        self._events: DirectoryEvents | None = None
        self._gate: asyncio.TimerHandle | None = None
        self._jobs: dict[JobKey, WatchedJob] = {}
        self._numbers: dict[int, WatchedJob] = {}
        self._polled: set[WatchedJob] = set()
        self._suspects: list[tuple[WatchedJob, int]] = []
        self._looking: asyncio.Task[None] | None = None
        self._is_full = self._is_closed = False

    @property
    def reports(self) -> bool:
        """Whether the system reports changes of files."""
        return self._events is not None

    def open(self) -> None:
        """Begin, in the running event loop."""
        self._loop = asyncio.get_running_loop()
        if name := shared_file_system(self._root):
            log.info("%s is on %s, which reports no changes of other hosts: logs are polled.", self._root, name)
            return
        try:
            self._events = DirectoryEvents(("log", "scalars"))
        except OSError as error:
            log.warning("Logs are polled, which costs more time: inotify cannot be used (%s).", error.strerror)
        else:
            self._listen()

    def close(self) -> None:
        """End all watches."""
        self._is_closed = True
        if self._looking is not None:
            self._looking.cancel()
        self._stop_events()

    def get(self, key: JobKey) -> WatchedJob | None:
        """Return the watch of a job, where there is one."""
        return self._jobs.get(key)

    def watch(self, key: JobKey, home: Path) -> WatchedJob:
        """Return the watch of a job. It begins with the first request, and lasts some time after the last one.

        :param home: The directory of the job.
        """
        now, job = self._loop.time(), self._jobs.get(key)
        if job is not None:
            job.used = now
            return job
        number = self._begin(home)  # before the first look at the sizes: no change is between them
        job = self._jobs[key] = WatchedJob(key, home, number, now)
        if number is None:
            self._polled.add(job)
        else:
            self._numbers[number] = job
        if self._looking is None and not self._is_closed:
            self._looking = asyncio.create_task(self._look())
        return job

    def _begin(self, home: Path) -> int | None:
        if self._events is None:
            return None
        try:
            return self._events.add(home)
        except OSError as error:
            if is_limit(error) and not self._is_full:
                self._is_full = True
                log.warning("Some logs are polled, which costs more time: raise the limit fs.inotify.max_user_watches.")
            return None

    def _listen(self) -> None:
        self._gate = None
        if self._events is not None:
            self._loop.add_reader(self._events.handle, self._on_events)

    def _on_events(self) -> None:
        assert self._events is not None  # noqa: S101 -- for the type checker
        self._loop.remove_reader(self._events.handle)
        self._gate = self._loop.call_later(_GATE_SECONDS, self._listen)
        self._read_events()

    def _read_events(self) -> None:
        if self._events is None:
            return
        changed, ended, lost = self._events.read()
        for number in ended:
            if job := self._numbers.pop(number, None):
                job.number = None
                self._polled.add(job)
        for number in list(self._numbers) if lost else changed:
            if job := self._numbers.get(number):
                job.events += 1
                self._changed(job)

    def _stop_events(self) -> None:
        if self._events is None:
            return
        if self._gate is not None:
            self._gate.cancel()
        else:
            self._loop.remove_reader(self._events.handle)
        self._events.close()
        self._events = None
        self._numbers.clear()
        for job in self._jobs.values():
            job.number = None
        self._polled = set(self._jobs.values())

    async def _look(self) -> None:
        """Look at the sizes of files, over and over while any are watched."""
        full = self._loop.time() + self._safety
        try:
            while self._jobs:
                await asyncio.sleep(self._poll)
                self._judge_suspects()
                if self._loop.time() < full:
                    await self._look_at(self._polled)
                    continue
                self._forget()
                self._try_again()
                await self._look_at(self._jobs.values())
                full = self._loop.time() + self._safety
        finally:
            self._looking = None

    async def _look_at(self, jobs: Iterable[WatchedJob]) -> None:
        for place, job in enumerate(list(jobs), 1):
            if place % _TURN == 0:
                await asyncio.sleep(0)
            is_silent = job.events == job.events_before
            job.events_before = job.events
            if (sizes := job.sizes()) == job.seen:
                continue
            job.seen = sizes
            if job.number is None:
                self._changed(job)
            elif is_silent:  # its report may be under way
                self._suspects.append((job, job.events))
                self._changed(job)

    def _judge_suspects(self) -> None:
        """Stop to rely on reports where one is missing for a change that was seen some time ago."""
        if not self._suspects:
            return
        self._read_events()
        if any(job.events == events and job.number is not None for job, events in self._suspects):
            log.warning("Logs are polled, which costs more time: the system does not report all changes of files.")
            self._stop_events()
        self._suspects.clear()

    def _forget(self) -> None:
        before = self._loop.time() - self._kept
        for job in [each for each in self._jobs.values() if each.used < before and not each.waiters]:
            del self._jobs[job.key]
            self._polled.discard(job)
            if job.number is not None and self._events is not None:
                del self._numbers[job.number]
                self._events.remove(job.number)

    def _try_again(self) -> None:
        """Begin watches for which there was no directory, or no room, before."""
        for job in list(self._polled) if self._events is not None else ():
            job.number = self._begin(job.home)
            if job.number is not None:
                self._numbers[job.number] = job
                self._polled.discard(job)
                self._changed(job)  # perhaps, before this watch began
