# SPDX-License-Identifier: Apache-2.0
"""Find, measure and end all processes of a job.

A part of the supervisor: standard library only, Python 3.8 and newer. On Linux every process is found, since orphans
and daemons become children of the supervisor (their subreaper). On other systems (:data:`WATCHES` is False) there is
only the process group, and memory is not measured.
"""

from __future__ import annotations

import hashlib
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Callable, Iterable  # noqa: UP035 -- Python 3.8 has the others only as annotations

WATCHES = sys.platform.startswith("linux") and Path("/proc/self/statm").exists()
"""Whether processes can be found and their memory measured."""

_PAGE = os.sysconf("SC_PAGE_SIZE")
_RLIMIT_RTTIME = 15
"""The number of this limit on Linux; Python has no name for it everywhere."""

_STOP_ROUNDS = 50
"""How often more processes of a tree are looked for before it is killed."""

_SET_PDEATHSIG, _SET_DUMPABLE, _SET_CHILD_SUBREAPER, _SET_NO_NEW_PRIVS = 1, 4, 36, 38


def _find_prctl() -> Callable[..., int] | None:
    if not sys.platform.startswith("linux"):
        return None
    try:
        import ctypes

        prctl = ctypes.CDLL(None, use_errno=True).prctl
        prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]
    except (ImportError, OSError, AttributeError):
        return None
    return prctl


_prctl = _find_prctl()


def adopt_orphans() -> bool:
    """Make this process the parent of every orphan below it; returns whether this system can do that."""
    return _prctl is not None and _prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0


def die_with_parent(parent: int) -> None:
    """Make this process end when the process ``parent`` ends; called between fork and exec, after any change of uid."""
    if _prctl is None:
        return
    _prctl(_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(137)


def renounce_privileges() -> None:
    """Make programs with a set-uid bit harmless for this process and all below it."""
    if _prctl is not None:
        _prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def refuse_to_be_read() -> None:
    """Keep other processes of this user from reading this one's memory and variables, until it starts a program."""
    if _prctl is not None:
        _prctl(_SET_DUMPABLE, 0, 0, 0, 0)


def offer_to_the_oom_killer() -> None:
    """Let the kernel end this process rather than the server when the machine's memory is full."""
    try:
        Path("/proc/self/oom_score_adj").write_text("500")
    except OSError:
        pass


def _read(path: str) -> bytes:
    """A file of /proc; nothing where the process has gone in the meantime."""
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""


def _processes() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()] if WATCHES else []


def _children(process: int) -> list[int]:
    found: list[int] = []
    try:
        for thread in Path(f"/proc/{process}/task").iterdir():
            found += map(int, _read(f"{thread}/children").split())
    except OSError:
        pass
    return found


def _below() -> dict[int, list[int]]:
    """The children of every process, for kernels that do not list them."""
    below: dict[int, list[int]] = {}
    for process in _processes():
        parent = _read(f"/proc/{process}/stat").rpartition(b")")[2].split()[1:2]
        if parent:
            below.setdefault(int(parent[0]), []).append(process)
    return below


_LISTS_CHILDREN = Path(f"/proc/self/task/{os.getpid()}/children").exists()


def descendants(ancestor: int) -> list[int]:
    """Find every process below ``ancestor``, zombies included; without /proc an empty list."""
    if not WATCHES:
        return []
    below = None if _LISTS_CHILDREN else _below()
    found: list[int] = []
    queue = [ancestor]
    while queue:
        process = queue.pop()
        children = _children(process) if below is None else below.get(process, [])
        found += children
        queue += children
    return found


def resident(processes: Iterable[int]) -> int:
    """The bytes of memory that the processes hold, what they share counted for each of them (RSS)."""
    return sum(int((_read(f"/proc/{process}/statm").split() or (b"0", b"0"))[1]) for process in processes) * _PAGE


def proportional(processes: Iterable[int]) -> int:
    """The bytes of memory that the processes hold, what they share counted once (PSS).

    It takes some milliseconds a gigabyte, so it is read only when RSS is above the limit.
    """
    total = 0
    for process in processes:
        shares = [line for line in _read(f"/proc/{process}/smaps_rollup").splitlines() if line.startswith(b"Pss:")]
        total += int(shares[0].split()[1]) * 1024 if shares else resident([process])
    return total


def kills_by_the_kernel() -> int:
    """Count the processes of this machine that the kernel has killed for lack of memory."""
    counts = [line for line in _read("/proc/vmstat").splitlines() if line.startswith(b"oom_kill ")]
    return int(counts[0].split()[1]) if counts else 0


def send(number: int, processes: Iterable[int]) -> None:
    """Send a signal to each process that still exists."""
    for process in processes:
        try:
            os.kill(process, number)
        except (ProcessLookupError, PermissionError):
            pass


def send_group(number: int, leader: int) -> None:
    """Send a signal to a process group that may have ended."""
    try:
        os.killpg(leader, number)
    except (ProcessLookupError, PermissionError):
        pass


def threads_of(uid: int) -> int:
    """Count the threads of all processes of a user."""
    total = 0
    for process in _processes():
        lines = _read(f"/proc/{process}/status").splitlines()
        fields = dict(line.split(b":", 1) for line in lines if line.startswith((b"Uid:", b"Threads:")))
        if fields.get(b"Uid", b"").split()[:1] == [str(uid).encode()]:
            total += int(fields.get(b"Threads", b"1"))
    return total


def label(mark: bytes) -> int:
    """The number that stands for a mark, of nineteen digits."""
    return 2**60 + int.from_bytes(hashlib.sha256(mark).digest()[:7], "big")


def put_label(mark: bytes) -> None:
    """Label this process and all that it starts with a limit that nothing uses and nothing clears.

    A process loses the mark in its environment when it is started with another environment, as ``env -i`` does. Limits
    are inherited by every child. This one bounds the time of real-time scheduling, at 36,000 years.
    """
    if WATCHES:
        number = label(mark)
        try:
            resource.setrlimit(_RLIMIT_RTTIME, (number, number))
        except (OSError, ValueError):  # it is lower, and this process may not raise it
            pass


def marked(mark: bytes) -> list[int]:
    """Find the processes with this ``NAME=value`` in their environment or its label, as far as they can be read."""
    number = str(label(mark)).encode()
    return [
        process
        for process in _processes()
        if process != os.getpid()
        and (
            number in _read(f"/proc/{process}/limits").split() or mark in _read(f"/proc/{process}/environ").split(b"\0")
        )
    ]


def kill_all(find: Callable[[], Iterable[int]]) -> None:
    """Kill every process that ``find`` finds. All are stopped first, so that none starts another one meanwhile."""
    stopped: set[int] = set()
    for _ in range(_STOP_ROUNDS):
        started = set(find()) - stopped
        if not started:
            break
        send(signal.SIGSTOP, started)
        stopped |= started
    send(signal.SIGKILL, stopped)


def end_marked(mark: bytes, timeout: float = 5.0) -> list[int]:
    """Kill every process with this mark; returns those that exist after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while (left := marked(mark)) and time.monotonic() < deadline:
        kill_all(lambda: marked(mark))
        time.sleep(0.02)
    return left
