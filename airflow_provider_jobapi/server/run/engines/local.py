# SPDX-License-Identifier: Apache-2.0
"""The engine that runs jobs as processes of this machine.

The supervisors are in sessions of their own, so they and their jobs outlive the server; the next server finds them by
the lock that each holds in its directory.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from airflow_provider_jobapi.server.run import supervisor
from airflow_provider_jobapi.server.run.engines.base import EngineState
from airflow_provider_jobapi.server.run.supervisor import process_tree
from airflow_provider_jobapi.server.run.supervisor.step import MARK

_ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
"""All that a supervisor sees of the server's environment: nothing."""

_LAST_STEPS = 5.0
"""Seconds that a supervisor gets from its exit record to its own end."""


class LocalEngine:
    """Supervisors on this machine, of the server's own user."""

    def __init__(self) -> None:
        self._started: dict[Path, subprocess.Popen[bytes]] = {}

    def submit(self, directory: Path) -> None:
        """Start a supervisor, unless this process has one running there."""
        if self._coming_up(directory):
            return
        with (directory / "supervisor.err").open("ab") as errors:
            self._started[directory] = subprocess.Popen(
                [sys.executable, "-I", "-S", str(Path(supervisor.__file__).parent), str(directory)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                env=_ENVIRONMENT,
                cwd="/",
                start_new_session=True,
            )

    def poll(self, directories: Iterable[Path]) -> dict[Path, EngineState]:
        """ACTIVE while the lock is held, or while a supervisor that was just started has not taken it yet."""
        return {
            directory: EngineState.ACTIVE if self._coming_up(directory) or is_locked(directory) else EngineState.GONE
            for directory in directories
        }

    def cancel(self, directory: Path, by: str, grace: float) -> None:
        """Leave the wish as a file; the supervisor looks for it several times a second."""
        wish = directory / "stop"
        if wish.exists():
            return
        incoming = directory / "stop.new"
        try:
            incoming.write_text(json.dumps({"by": by, "grace": grace}))
            incoming.replace(wish)
        except OSError:
            wish.touch()  # on a full disk a name is enough

    def forget(self, directory: Path) -> None:
        """End what a supervisor that was killed has left running: it is marked in its environment."""
        if not (directory / "exit.json").exists():
            process_tree.end_marked(f"{MARK}={directory}".encode())
        if process := self._started.get(directory):
            try:
                process.wait(_LAST_STEPS)
            except subprocess.TimeoutExpired:
                return
            del self._started[directory]

    def _coming_up(self, directory: Path) -> bool:
        process = self._started.get(directory)
        return process is not None and process.poll() is None


def is_locked(directory: Path) -> bool:
    """Whether a supervisor holds the lock of this directory."""
    try:
        handle = os.open(directory / "lock", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False
