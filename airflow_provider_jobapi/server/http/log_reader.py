# SPDX-License-Identifier: Apache-2.0
"""Read the log of a job by offset, in whole records, and wait for new ones (long poll, RFC 7240 ``Prefer: wait``).

The scalars of a job are a second such file. A *stream* is one of the two, in the spelling of the headers. Only the
supervisor of the job appends to them, and to the log once the server, after the supervisor and before the job has
ended. Records never change, so an offset always means the same record. The status is read before the file: after a job
has ended, the file is complete.
"""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from airflow_provider_jobapi.server.http.problems import Problem
from airflow_provider_jobapi.server.store.jobs import JobKey
from airflow_provider_jobapi.training.logs import RECORD_LIMIT
from airflow_provider_jobapi.training.status import JobState

CHUNK_LIMIT = 2**20
"""The most bytes of one answer."""

WAIT_LIMIT = 25.0
"""The most seconds that one request waits. Proxies close a silent connection after 30 seconds or more."""

_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.05, 0.25
"""Seconds between two reads of a file that does not grow."""


@dataclass(frozen=True, slots=True)
class LogPart:
    """Whole records of a log.

    :ivar size: The bytes of all whole records so far.
    :ivar complete: Whether the job has ended and no record follows.
    :ivar state: The state of the job before the records were read.
    :ivar scalars: The bytes of the job's scalars, where the records are those of its log.
    """

    body: bytes
    next_offset: int
    size: int
    complete: bool
    state: JobState
    scalars: int = 0


def read_part(path: Path, offset: int, limit: int, state: JobState, stream: str = "Log") -> LogPart:
    """Read whole records from an offset on.

    :param limit: The most bytes; one record is returned even if it is longer.
    :param state: The state of the job, read before the file.
    :param stream: ``Log`` or ``Scalars``.
    :raises Problem: 416, when no record begins at the offset.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        handle = -1
    try:
        size = 0 if handle < 0 else _whole_size(handle)
        body = b"" if offset == size == 0 else _records(handle, offset, limit, size, stream)
    finally:
        if handle >= 0:
            os.close(handle)
    end = offset + len(body)
    return LogPart(body, end, size, state.ended and end == size, state)


def size_of(path: Path) -> int:
    """The bytes of a stream, a record that is being written included; 0 where there is none."""
    try:
        return path.lstat().st_size
    except OSError:
        return 0


def _whole_size(handle: int) -> int:
    """Return the size up to the last newline. A record that is being written does not count."""
    size = os.fstat(handle).st_size
    while size:
        start = max(0, size - RECORD_LIMIT)
        if (found := os.pread(handle, size - start, start).rfind(b"\n")) >= 0:
            return start + found + 1
        size = start
    return 0


def _records(handle: int, offset: int, limit: int, size: int, stream: str) -> bytes:
    before = b"\n" if offset == 0 else os.pread(handle, 1, offset - 1) if offset <= size else b""
    if before != b"\n":
        raise Problem(
            416,
            "offset",
            f"No record of the {stream.lower()} begins at offset {offset} of {size} bytes: continue from a "
            f"Job-{stream}-Next-Offset, or from 0.",
            headers={"Content-Range": f"bytes */{size}", f"Job-{stream}-Size": str(size)},
        )
    body = os.pread(handle, min(max(limit, RECORD_LIMIT), size - offset), offset)
    cut = body.rfind(b"\n", 0, limit) + 1 or body.find(b"\n") + 1
    return body[:cut]


class LogWatcher:
    """Wake the requests that wait for a job when it changes."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop
        self._waiting: dict[JobKey, set[asyncio.Event]] = defaultdict(set)
        self._closed = False

    def open(self) -> None:
        """Allow requests to wait, in the running event loop."""
        self._loop = asyncio.get_running_loop()

    def notify(self, key: JobKey) -> None:
        """Wake the requests that wait for this job. May be called in any thread."""
        try:
            self._loop.call_soon_threadsafe(self._wake, key)
        except RuntimeError:  # the event loop is closed, and no request waits
            pass

    def close(self) -> None:
        """Wake all requests and let none wait any more, so that the server can end. Call it in the event loop."""
        self._closed = True
        for key in list(self._waiting):
            self._wake(key)

    def _wake(self, key: JobKey) -> None:
        for event in self._waiting.get(key, ()):
            event.set()

    async def wait_for_news(
        self, key: JobKey, read: Callable[[], LogPart], known: JobState | None, wait: float
    ) -> LogPart:
        """Read a log until there are records, the log is complete, the state changes, or the time is over.

        The first scalars of the job end it, too, so that its client learns that there are any.

        :param read: Reads the log. It is called in the event loop.
        :param known: The state that the client knows; by default the state at the first read.
        :param wait: The most seconds to wait.
        """
        part = read()
        known, had_scalars = known or part.state, part.scalars > 0
        deadline, pause = self._loop.time() + wait, _SHORTEST_PAUSE
        event = asyncio.Event()
        self._waiting[key].add(event)
        try:
            while not (part.body or part.complete or part.state is not known or self._closed):
                if part.scalars and not had_scalars:
                    break
                left = deadline - self._loop.time()
                if left <= 0:
                    break
                await _wait(event, min(pause, left))
                event.clear()
                pause = min(pause * 1.5, _LONGEST_PAUSE)
                part = read()
        finally:
            self._waiting[key].discard(event)
            if not self._waiting[key]:
                del self._waiting[key]
        return part


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
