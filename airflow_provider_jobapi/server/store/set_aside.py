# SPDX-License-Identifier: Apache-2.0
"""Move files that the database does not know out of the way. Nothing of them is deleted.

After an older copy of the database was restored, files that look like the leftovers of a crash may be the only copy of
a client's data. So they are moved to a folder that only the user of the server can read, below the same path::

    <root>/set-aside/<time>-<random>/clients/<client>/jobs/<job id>/
"""

from __future__ import annotations

import logging
import secrets
import stat
from datetime import UTC, datetime
from pathlib import Path

from airflow_provider_jobapi.training.units import size_text

FOLDER = "set-aside"
"""The folder below the root."""

log = logging.getLogger(__name__)


class SetAside:
    """The folder to which one sweep moves what it does not know; it is made when it is needed.

    :ivar folder: The folder.
    :ivar count: How many files and directories were moved.
    :ivar size: The bytes of the files that were moved; those of directories are not counted.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self.folder = root / FOLDER / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"
        self.count = 0
        self.size = 0

    def move(self, path: Path) -> bool:
        """Move a file or a directory of the root. Return False where the system refuses; then it stays."""
        target = self.folder / path.relative_to(self._root)
        try:
            status = path.lstat()
            for parent in [*reversed(target.parents)]:
                if parent.is_relative_to(self._root / FOLDER):
                    parent.mkdir(mode=0o700, exist_ok=True)
            path.rename(target)
        except OSError as error:
            log.warning("%s is not in the database and cannot be set aside; it stays: %s", path, error.strerror)
            return False
        self.count += 1
        self.size += 0 if stat.S_ISDIR(status.st_mode) else status.st_size
        return True

    def __str__(self) -> str:
        if not self.count:
            return ""
        size = f" ({size_text(self.size)} and directories)" if self.size else ""
        return (
            f"{self.count} files and directories that the database does not know were set aside{size}: look into "
            f"{self.folder}, and remove it when you do not need them."
        )
