# SPDX-License-Identifier: Apache-2.0
"""A job's log by offset: whole records, and a wait for news (long poll, RFC 7240 ``Prefer: wait``).

The file is appended to by the job's supervisor and by nobody else; records never change, so an offset means the same
for ever. Status is read before the file: once a job has ended, what the file holds is all that it will ever hold.
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
"""The most seconds that one request waits: proxies give up on silence after 30 and more."""

_FIRST_LOOK, _LAST_LOOK = 0.05, 0.25
"""Seconds between two looks at a file that does not grow."""


@dataclass(frozen=True, slots=True)
class LogPart:
    """Some whole records of a log.

    ``size`` is the size of all whole records so far; ``complete`` says that the job is over and nothing follows.
    """

    body: bytes
    next_offset: int
    size: int
    complete: bool
    state: JobState


def read_part(path: Path, offset: int, limit: int, state: JobState) -> LogPart:
    """Read whole records from an offset on.

    :param limit: The most bytes wanted; one record is given even where it is longer.
    :param state: The job's state, read before this.
    :raises Problem: 416, when no record begins at the offset.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        handle = -1
    try:
        size = 0 if handle < 0 else _whole_size(handle)
        body = b"" if offset == size == 0 else _records(handle, offset, limit, size)
    finally:
        if handle >= 0:
            os.close(handle)
    end = offset + len(body)
    return LogPart(body, end, size, state.ended and end == size, state)


def _whole_size(handle: int) -> int:
    """The size up to the last newline; a record that is being written does not count."""
    size = os.fstat(handle).st_size
    while size:
        start = max(0, size - RECORD_LIMIT)
        if (found := os.pread(handle, size - start, start).rfind(b"\n")) >= 0:
            return start + found + 1
        size = start
    return 0


def _records(handle: int, offset: int, limit: int, size: int) -> bytes:
    before = b"\n" if offset == 0 else os.pread(handle, 1, offset - 1) if offset <= size else b""
    if before != b"\n":
        raise Problem(
            416,
            "offset",
            f"No record of this log begins at offset {offset}; it has {size} bytes: go on from a Job-Log-Next-Offset, "
            "or from 0.",
            headers={"Content-Range": f"bytes */{size}", "Job-Log-Size": str(size)},
        )
    body = os.pread(handle, min(max(limit, RECORD_LIMIT), size - offset), offset)
    cut = body.rfind(b"\n", 0, limit) + 1 or body.find(b"\n") + 1
    return body[:cut]


class LogWatcher:
    """Wakes those who wait for a job; changes are told from any thread."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop
        self._waiting: dict[JobKey, set[asyncio.Event]] = defaultdict(set)
        self._closed = False

    def open(self) -> None:
        """Let people wait, in the loop that is running."""
        self._loop = asyncio.get_running_loop()

    def notify(self, key: JobKey) -> None:
        """Wake those who wait for this job."""
        try:
            self._loop.call_soon_threadsafe(self._wake, key)
        except RuntimeError:  # the loop is gone, and with it everybody who waits
            pass

    def close(self) -> None:
        """Wake everybody and let nobody wait any more, so that the server can end. In the loop's own thread."""
        self._closed = True
        for key in list(self._waiting):
            self._wake(key)

    def _wake(self, key: JobKey) -> None:
        for event in self._waiting.get(key, ()):
            event.set()

    async def wait_for_news(
        self, key: JobKey, look: Callable[[], LogPart], known: JobState | None, wait: float
    ) -> LogPart:
        """Look until there are records, the log is complete, the state changes, or the time is over.

        :param look: Reads the log; called in the loop.
        :param known: The state that the caller knows; by default the one at the first look.
        :param wait: Seconds.
        """
        part = look()
        known = known or part.state
        deadline, pause = self._loop.time() + wait, _FIRST_LOOK
        event = asyncio.Event()
        self._waiting[key].add(event)
        try:
            while not (part.body or part.complete or part.state is not known or self._closed):
                left = deadline - self._loop.time()
                if left <= 0:
                    break
                await _first(event, min(pause, left))
                event.clear()
                pause = min(pause * 1.5, _LAST_LOOK)
                part = look()
        finally:
            self._waiting[key].discard(event)
            if not self._waiting[key]:
                del self._waiting[key]
        return part


async def _first(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
