# SPDX-License-Identifier: Apache-2.0
"""Mark on the disk which job ids a client has used, so that they stay used after an older database was restored."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from airflow_provider_jobapi.server.store import layout

_SIGNS = ("spec.json", "started", "exit.json")
"""Files of a job's directory that exist only after the job was accepted."""


class UsedIds:
    """The used job ids of one client: an empty file for each, and the directories of its jobs.

    :param home: The directory of the client.
    """

    def __init__(self, home: Path) -> None:
        self._folder = home / "ids"
        self._jobs = home / "jobs"

    def __contains__(self, job_id: str) -> bool:
        return (self._folder / job_id).exists() or self.was_accepted(self._jobs / job_id)

    @staticmethod
    def was_accepted(directory: Path) -> bool:
        """Whether the directory is that of a job that was accepted once, and not one of a submit that crashed."""
        return layout.is_locked(directory) or any((directory / name).exists() for name in _SIGNS)

    def add(self, *job_ids: str) -> None:
        """Mark ids as used. On a full disk the next start of the server marks those of the database."""
        with suppress(OSError):
            self._folder.mkdir(mode=0o700, exist_ok=True)
            for job_id in job_ids:
                os.close(os.open(self._folder / job_id, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))

    def complete(self, job_ids: Iterable[str]) -> None:
        """Mark the ids of the database that have no mark yet."""
        marked = {each.name for each in self._folder.iterdir()} if self._folder.exists() else set()
        self.add(*(set(job_ids) - marked))
