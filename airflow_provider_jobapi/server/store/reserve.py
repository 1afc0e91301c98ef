# SPDX-License-Identifier: Apache-2.0
"""Keep some room on the disk, so that the server and ``jobapi gc`` can start and free more when the disk is full.

The reserve is a few files below the root: SQLite needs bytes for its ``-wal`` and ``-shm``, and a file system may have
no room for another file although it has room for bytes. Where even that is not enough, files are removed that can be
made again: uploads that were cut off, and the caches of packages.
"""

from __future__ import annotations

import logging
import shutil
from contextlib import suppress
from pathlib import Path

from airflow_provider_jobapi.server.errors import DiskFull
from airflow_provider_jobapi.server.store import layout
from airflow_provider_jobapi.server.store.database import Database
from airflow_provider_jobapi.server.store.disk import allocate, is_full
from airflow_provider_jobapi.training.units import size_text

log = logging.getLogger(__name__)

FOLDER = "reserve"
"""The folder below the root."""

_FILES = 8
_BLOCK_BYTES = 4096
_MOST_BYTES = 32 * 2**20
_PART_OF_DISK = 32
"""The reserve takes 32 MiB, or a thirty-second of a small disk."""


class Reserve:
    """The reserve of a root directory.

    :param root: The root directory of a server.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._folder = root / FOLDER

    def release(self) -> bool:
        """Remove the reserve; returns whether there was one."""
        try:
            places = list(self._folder.iterdir())
        except OSError:
            return False
        for place in places:
            with suppress(OSError):
                place.unlink()
        return bool(places)

    def keep(self) -> bool:
        """Make the reserve, where the disk has room for twice its size; returns whether it is there."""
        try:
            usage = shutil.disk_usage(self._root)
            blocks = max(1, min(_MOST_BYTES, usage.total // _PART_OF_DISK) // (_BLOCK_BYTES * _FILES))
            if self._count() == _FILES:
                return True
            if usage.free < 2 * _FILES * blocks * _BLOCK_BYTES:
                return False
            self._folder.mkdir(mode=0o700, exist_ok=True)
            for number in range(_FILES):
                allocate(self._folder / str(number), blocks * _BLOCK_BYTES)
        except OSError as error:
            self.release()
            log.warning("The reserve for a full disk cannot be made in %s: %s", self._folder, error.strerror)
            return False
        return True

    def make_room(self) -> None:
        """Release the reserve of a full disk and, where this is not enough, remove files that can be made again.

        Call it while no other server uses the root.
        """
        if not is_full(self._root) or (self.release() and not is_full(self._root)):
            return
        for place in self._root.glob("clients/*/data/*.part"):
            with suppress(OSError):
                place.unlink()
        for home in self._root.glob("clients/*"):
            if not layout.running_jobs(home):
                layout.remove_tree(home / "environments" / "uv-cache")

    def room(self) -> str:
        """Return a sentence about a disk that has too little room for the reserve."""
        usage = shutil.disk_usage(self._root)
        return (
            f"The disk of {self._root} is full: {size_text(usage.free)} of {size_text(usage.total)} are free. Delete "
            "jobs, free space beside the server, or collect with a shorter --retention or --work-retention."
        )

    def _count(self) -> int:
        try:
            return sum(1 for _ in self._folder.iterdir())
        except FileNotFoundError:
            return 0


def open_database(root: Path) -> Database:
    """Open the database of a root directory. On a full disk the reserve is released first.

    :raises DiskFull: when there is no room even then.
    :raises SettingsError: as for :class:`Database`.
    """
    place = root / "jobapi.sqlite"
    try:
        return Database(place)
    except DiskFull:
        if not Reserve(root).release():
            raise
    return Database(place)
