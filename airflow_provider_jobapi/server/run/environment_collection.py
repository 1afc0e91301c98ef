# SPDX-License-Identifier: Apache-2.0
"""Bring the Python environments of all clients below their bound.

First each client's package cache is emptied, then environments are removed, the longest unused first. An environment is
in use while a job holds a shared lock on its file in ``locks/``, whose modification time is that of the last use.
"""

from __future__ import annotations

import fcntl
import logging
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_provider_jobapi.server.config import Settings
from airflow_provider_jobapi.server.store.layout import remove_tree
from airflow_provider_jobapi.training.units import size_text

log = logging.getLogger(__name__)

_UV_TIMEOUT_SECONDS = 120
_LEAVING = "leaving-"
"""The beginning of the names of directories with environments that are being removed."""

_DISK_BLOCK_BYTES = 512
"""The unit of ``st_blocks``."""


@dataclass(frozen=True, slots=True)
class Collected:
    """The result of a collection.

    :ivar before: Bytes of the environments and caches before it.
    :ivar after: Bytes of the environments and caches after it.
    :ivar removed: How many environments were removed.
    """

    before: int
    after: int
    removed: int

    def __str__(self) -> str:
        return (
            f"{self.removed} environments were removed; they and the cache of packages took {size_text(self.before)} "
            f"and take {size_text(self.after)} now."
        )


def collect(settings: Settings, uv: str) -> Collected:
    """Bring the environments of all clients below ``environment_bound``; an environment in use is never removed.

    :param uv: The path of the program uv.
    """
    homes = sorted((settings.root / "clients").glob("*/environments"))
    before = after = _size(homes)
    removed = 0
    if after > settings.environment_bound:
        for home in homes:
            clean_cache(uv, home)
        after = _size(homes)
    for lock in sorted(_locks(homes), key=_last_use):
        if after <= settings.environment_bound:
            break
        if _remove(lock):
            removed += 1
            after = _size(homes)
    return Collected(before, after, removed)


def _locks(homes: list[Path]) -> list[Path]:
    """The lock files of some clients' environments; what else lies among them is left alone."""
    found: list[Path] = []
    for home in homes:
        try:
            found += [Path(entry.path) for entry in os.scandir(home / "locks") if entry.is_file(follow_symlinks=False)]
        except OSError as error:
            log.warning("The environments in %s could not be collected: %s", home, error)
    return found


def _last_use(lock: Path) -> float:
    try:
        return lock.lstat().st_mtime
    except OSError:  # removed in the meantime
        return 0.0


def _remove(lock: Path) -> bool:
    """Remove the environment of a lock file, unless a job uses it.

    It is renamed first, into a directory of the server's own that nobody can have prepared, so that it is never in use
    in part. What a job did to it is no reason to leave the others: it is logged. What an installation that was ended
    left of it is removed, too.
    """
    home = lock.parent.parent
    try:
        handle = os.open(lock, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            leaving = Path(tempfile.mkdtemp(prefix=_LEAVING, dir=home))
            with suppress(FileNotFoundError):
                (home / "venvs" / f"{lock.name}.part").rename(leaving / "part")
            (home / "venvs" / lock.name).rename(leaving / lock.name)
        finally:
            os.close(handle)
    except (BlockingIOError, FileNotFoundError):
        return False
    except OSError as error:
        log.warning("The environment %s in %s could not be removed: %s", lock.name, home, error)
        return False
    finally:
        _remove_leaving(home)
    return True


def _remove_leaving(home: Path) -> None:
    """Remove the environments that are renamed, also those that a killed server left."""
    for leaving in home.glob(f"{_LEAVING}*"):
        remove_tree(leaving)


def clean_cache(uv: str, home: Path) -> None:
    """Empty a client's package cache as the user that owns it, since root would follow a link that a job put there."""
    cache = home / "uv-cache"
    command = [uv, "cache", "clean", "--quiet", "--cache-dir", str(cache)]
    try:
        owner = cache.stat().st_uid
        user: dict[str, Any] = {"user": owner, "group": owner, "extra_groups": []} if owner != os.geteuid() else {}
        subprocess.run(
            command,
            check=True,
            timeout=_UV_TIMEOUT_SECONDS,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            cwd="/",
            env={"HOME": str(cache)},  # and none of the server's variables, which jobs of this user could read
            **user,
        )
    except (OSError, subprocess.SubprocessError) as error:
        log.warning("The cache of packages in %s could not be emptied: %s", home, error)


def _size(homes: list[Path]) -> int:
    """The bytes on disk below some directories; a file with several links counts once."""
    seen: set[tuple[int, int]] = set()
    total = 0
    for status in _files(homes):
        if (status.st_dev, status.st_ino) not in seen:
            seen.add((status.st_dev, status.st_ino))
            total += status.st_blocks * _DISK_BLOCK_BYTES
    return total


def _files(folders: list[Path]) -> Iterator[os.stat_result]:
    pending = [str(folder) for folder in folders]
    while pending:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    yield entry.stat(follow_symlinks=False)
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
        except OSError:  # removed in the meantime
            continue
