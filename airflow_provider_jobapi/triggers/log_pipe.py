# SPDX-License-Identifier: Apache-2.0
"""How much of what this process has written its parent has not read yet.

A triggerer runs its triggers in a child process, which writes their log lines into a socket. The parent takes 4 KiB of
it each time it comes round, between queries to its database: some hundred lines a second on a busy machine. What it has
not read does harm twice. A full socket blocks the event loop of all triggers at the next line; and where a trigger
ends, the parent closes its log at once, so that lines which still wait go to the triggerer's own output instead (seen
on Airflow 3.3.2: ``TriggerRunnerSupervisor._handle_request`` drops the logger of a finished trigger).
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import termios
from contextlib import suppress
from functools import lru_cache
from pathlib import Path


def unread() -> int:
    """Bytes of the kernel's memory that hold what nobody has read yet, on all pipes to the parent; 0 where unknown."""
    return sum(_queued(descriptor) for descriptor in _pipes(os.getpid()))


@lru_cache(maxsize=1)
def _pipes(_process: int) -> tuple[int, ...]:
    """The local stream sockets that this process holds when it first writes: those that it was born with, mostly."""
    try:
        descriptors = [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]
    except (OSError, ValueError):
        return ()
    return tuple(each for each in descriptors if _is_local_stream(each))


def _is_local_stream(descriptor: int) -> bool:
    # The descriptor is looked at through a copy: the socket object closes what it is given.
    with suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as copy:
        return copy.family == socket.AF_UNIX and copy.type == socket.SOCK_STREAM
    return False


def _queued(descriptor: int) -> int:
    """What a socket has not delivered: SIOCOUTQ, whose number is TIOCOUTQ's. Closed or replaced meanwhile: nothing."""
    with suppress(OSError):
        return int(struct.unpack("i", fcntl.ioctl(descriptor, termios.TIOCOUTQ, b"\0" * 4))[0])
    return 0
