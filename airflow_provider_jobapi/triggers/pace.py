# SPDX-License-Identifier: Apache-2.0
"""Limit the log lines of a triggerer to what it and its parent process can carry.

A triggerer runs its triggers in a child process, which writes their log lines into a socket. The parent reads 4 KiB of
it in each of its rounds, between queries to its database: some hundred lines a second on a busy machine. What is unread
does harm twice. A full socket blocks the event loop of all triggers at the next line; and where a trigger ends, the
parent closes its log at once, so that unread lines go to the triggerer's own output instead (seen on Airflow 3.3.2:
``TriggerRunnerSupervisor._handle_request`` drops the logger of a finished trigger).
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import struct
import termios
import time
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

BATCH = 50
"""Lines after which the event loop is given back."""

MOST_UNREAD = 64 * 1024
"""Bytes that may be unread; a line beyond what the socket holds would block the event loop."""

_LOOK_EVERY = 0.02
"""Seconds between two looks at the socket; the kernel signals nothing."""


class Pace:
    """Slows the log lines of a process down; all its triggers share one pace.

    :param rate: Lines a second. A triggerer manages about 2,000 at best.
    :param drain_wait: Seconds that the end of a trigger waits for its last lines to be read.
    :param stall_wait: Seconds after which a line no longer waits for sockets of which nothing is read. The socket to
        the parent has room for it then: one that is full for so long belongs to something else.
    """

    def __init__(self, rate: int = 1_000, drain_wait: float = 20.0, stall_wait: float = 60.0) -> None:
        self._rate = rate
        self._drain_wait = drain_wait
        self._stall_wait = stall_wait
        self._lines = 0
        self._due = 0.0
        self._draining = 0

    async def step(self) -> None:
        """Wait until the next line may be written, and count it."""
        self._lines += 1
        if self._lines % BATCH == 0:
            now = time.monotonic()
            self._due = max(self._due, now) + BATCH / self._rate
            await asyncio.sleep(self._due - now)
        while self._draining:  # noqa: ASYNC110 -- bounded by drain_wait
            await asyncio.sleep(_LOOK_EVERY)
        seen, until = 0, 0.0
        while (waiting := unread()) > MOST_UNREAD:
            if waiting != seen:
                seen, until = waiting, time.monotonic() + self._stall_wait
            elif time.monotonic() > until:
                return
            await asyncio.sleep(_LOOK_EVERY)

    async def drain(self) -> None:
        """Wait until every line so far was read; the other triggers of the process write none meanwhile."""
        until = time.monotonic() + self._drain_wait
        self._draining += 1
        try:
            while unread() and time.monotonic() < until:  # noqa: ASYNC110 -- the kernel sets no event
                await asyncio.sleep(_LOOK_EVERY)
        finally:
            self._draining -= 1


def unread() -> int:
    """Return the bytes of kernel memory that hold what is unread in all sockets to the parent; 0 where unknown."""
    return sum(_queued(descriptor) for descriptor in _sockets(os.getpid()))


@lru_cache(maxsize=1)
def _sockets(_process: int) -> tuple[int, ...]:
    """The local stream sockets of this process at its first line: mostly those that it was started with."""
    try:
        descriptors = [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]
    except (OSError, ValueError):
        return ()
    return tuple(each for each in descriptors if _is_local_stream(each))


def _is_local_stream(descriptor: int) -> bool:
    try:
        opened = socket.socket(fileno=descriptor)
    except OSError:  # not a socket
        return False
    try:
        return opened.family == socket.AF_UNIX and opened.type == socket.SOCK_STREAM
    finally:
        opened.detach()  # whoever opened the descriptor closes it


def _queued(descriptor: int) -> int:
    """The bytes that a socket has not delivered: SIOCOUTQ, whose number is TIOCOUTQ's. 0 once it is closed."""
    with suppress(OSError):
        return int(struct.unpack("i", fcntl.ioctl(descriptor, termios.TIOCOUTQ, b"\0" * 4))[0])
    return 0
