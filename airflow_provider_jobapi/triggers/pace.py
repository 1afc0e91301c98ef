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
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from weakref import WeakKeyDictionary

BATCH = 50
"""Lines that may be written at once, before the event loop is given back."""

MOST_UNREAD = 64 * 1024
"""Bytes that may be unread; a line beyond what the socket holds would block the event loop."""

_LOOK_EVERY = 0.02
"""Seconds between two looks at the socket; the kernel signals nothing."""


@dataclass(slots=True)
class _Turns:
    """The order of the lines of one event loop.

    :ivar order: Held by the line whose turn it is; an ``asyncio.Lock`` serves in the order in which it is asked.
    :ivar due: When the lines so far would have been written at exactly the rate, on the loop's clock.
    :ivar lines: The lines so far.
    :ivar draining: The triggers that end.
    """

    order: asyncio.Lock = field(default_factory=asyncio.Lock)
    due: float = float("-inf")
    lines: int = 0
    draining: int = 0


class Pace:
    """Slows the log lines of a process down; all its triggers share one pace.

    Every line waits for its own turn, behind those that asked before it, so that a job with many lines does not hold
    those of other jobs. Only the line whose turn it is looks at the clock and at the sockets.

    :param rate: Lines a second of all triggers. What the parent process reads is less where the machine is busy, and
        then bounds them: see :data:`MOST_UNREAD`.
    :param drain_wait: Seconds that the end of a trigger waits for its last lines to be read.
    :param stall_wait: Seconds after which a line no longer waits for sockets of which nothing is read. The socket to
        the parent has room for it then: one that is full for so long belongs to something else.
    """

    def __init__(self, rate: int = 4_000, drain_wait: float = 20.0, stall_wait: float = 60.0) -> None:
        self._rate = rate
        self._drain_wait = drain_wait
        self._stall_wait = stall_wait
        self._turns: WeakKeyDictionary[asyncio.AbstractEventLoop, _Turns] = WeakKeyDictionary()

    async def step(self) -> None:
        """Wait until the next line may be written, and count it."""
        loop = asyncio.get_running_loop()
        turns = self._turns_of(loop)
        async with turns.order:
            now = loop.time()
            start = max(turns.due, now)
            turns.due = start + 1 / self._rate
            turns.lines += 1
            if turns.lines % BATCH == 0:
                await asyncio.sleep(start - now)
            while turns.draining:  # noqa: ASYNC110 -- bounded by drain_wait
                await asyncio.sleep(_LOOK_EVERY)
            seen, until = 0, 0.0
            while (waiting := unread()) > MOST_UNREAD:
                if waiting != seen:
                    seen, until = waiting, loop.time() + self._stall_wait
                elif loop.time() > until:
                    return
                await asyncio.sleep(_LOOK_EVERY)

    async def drain(self) -> None:
        """Wait until every line so far was read; the other triggers of the process write none meanwhile."""
        loop = asyncio.get_running_loop()
        turns, until = self._turns_of(loop), loop.time() + self._drain_wait
        turns.draining += 1
        try:
            while unread() and loop.time() < until:  # noqa: ASYNC110 -- the kernel sets no event
                await asyncio.sleep(_LOOK_EVERY)
        finally:
            turns.draining -= 1

    def _turns_of(self, loop: asyncio.AbstractEventLoop) -> _Turns:
        """The turns of an event loop: a triggerer has one, a worker one for each trigger that it runs itself."""
        turns = self._turns.get(loop)
        if turns is None:
            turns = self._turns[loop] = _Turns()
        return turns


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
