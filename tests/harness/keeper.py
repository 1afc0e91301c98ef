# SPDX-License-Identifier: Apache-2.0
"""End programs with the tests that started them, also where those are killed by SIGKILL and can clean up nothing.

A second process, the keeper, is told each program and each temporary folder, and reads a pipe that ends with the tests.
Then it kills what still runs, and removes the folders. ``PR_SET_PDEATHSIG`` would not do: it ends a program with the
*thread* that started it, and some tests restart one from a thread.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_lock = threading.Lock()
_keepers: dict[int, subprocess.Popen[str]] = {}
"""The keeper of this process, by its id: one that was forked has another."""


def keep(pid: int) -> None:
    """End a program with this process."""
    _tell(f"program {pid}")


def keep_folder(path: Path) -> None:
    """Remove a folder with this process."""
    _tell(f"folder {path}")


def end(process: subprocess.Popen[bytes], how: signal.Signals = signal.SIGKILL) -> None:
    """End a program now and wait for it, by SIGKILL where another signal does not end it within 30 seconds."""
    with suppress(ProcessLookupError):
        process.send_signal(how)
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _tell(line: str) -> None:
    with _lock:
        keeper = _keepers.get(os.getpid())
        if keeper is None:
            keeper = _keepers[os.getpid()] = subprocess.Popen(
                [sys.executable, "-S", "-E", __file__],
                stdin=subprocess.PIPE,
                text=True,
                start_new_session=True,  # what is sent to the group of the tests is not for it
                cwd="/",
            )
            atexit.register(_end)
        assert keeper.stdin is not None
        keeper.stdin.write(f"{line}\n")
        keeper.stdin.flush()


def _end() -> None:
    keeper = _keepers.pop(os.getpid(), None)
    if keeper is not None and keeper.stdin is not None:
        keeper.stdin.close()
        keeper.wait(30)


def _watch(lines: Iterable[str]) -> None:
    """Be the keeper."""
    programs: list[int] = []
    folders: list[str] = []
    for line in lines:
        what, _, value = line.rstrip("\n").partition(" ")
        if what == "folder":
            folders.append(value)
            continue
        with suppress(ProcessLookupError):  # a number of a process may be given to another, this stays
            programs.append(os.pidfd_open(int(value)))
    for program in programs:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(program, signal.SIGKILL)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    _watch(sys.stdin)
