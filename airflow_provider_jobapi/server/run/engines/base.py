# SPDX-License-Identifier: Apache-2.0
"""What the runner asks of an engine, and no more.

An engine never supplies logs or verdicts: those are in the job's directory, written by the supervisor that the engine
starts there. So an engine's own idea of exit codes and outputs, which is wrong in many of them, does not matter.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Protocol


class EngineState(StrEnum):
    """What an engine knows of a job's supervisor."""

    QUEUED = "QUEUED"
    """It will run."""
    ACTIVE = "ACTIVE"
    """It runs."""
    GONE = "GONE"
    """It ran, or never came up: the job's directory tells which."""


class Engine(Protocol):
    """A place where jobs run. A job is known by its directory, which holds its ``spec.json``."""

    def submit(self, directory: Path) -> None:
        """Let a supervisor run on this directory.

        May be repeated: the supervisor itself sees to it that a job never starts twice.

        :raises OSError: when nothing could be started.
        """

    def poll(self, directories: Iterable[Path]) -> dict[Path, EngineState]:
        """How the supervisors of these directories are, all in one go."""

    def cancel(self, directory: Path, by: str, grace: float) -> None:
        """Ask a job to end. May be repeated; the first wish counts.

        :param by: Who wants it; it becomes part of the job's message.
        :param grace: Seconds from SIGTERM to SIGKILL.
        :raises OSError: when the wish could not be left.
        """

    def forget(self, directory: Path) -> None:
        """The job is over: end what may be left of it, and let go of what is kept for it."""
