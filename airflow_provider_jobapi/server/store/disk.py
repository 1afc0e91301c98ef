# SPDX-License-Identifier: Apache-2.0
"""Measure the disk: whether it is full, and how much a directory takes that a job wrote."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from airflow_provider_jobapi.server.errors import is_disk_full

_PROBE_BYTES = 64 * 1024
"""What SQLite needs at the least to open a database."""

_DISK_BLOCK_BYTES = 512
"""The unit of ``st_blocks``."""

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def is_full(folder: Path) -> bool:
    """Whether a folder has no room for a small file: of bytes, of files, or of the quota of the server's user."""
    place = folder / f".{secrets.token_hex(8)}.probe"
    try:
        try:
            allocate(place, _PROBE_BYTES)
        finally:
            place.unlink(missing_ok=True)
    except OSError as error:
        return is_disk_full(error)
    return False


def allocate(place: Path, size: int) -> None:
    """Make a file whose bytes are taken on the disk.

    :raises OSError: when there is no room for them.
    """
    with place.open("wb", buffering=0) as file:
        os.fchmod(file.fileno(), 0o600)
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except (AttributeError, OSError) as error:  # macOS and some file systems do not have it
            if isinstance(error, OSError) and is_disk_full(error):
                raise
            rest = memoryview(bytes(size))
            while rest:
                rest = rest[file.write(rest) :]
            os.fsync(file.fileno())


def tree_size(path: Path) -> int:
    """Return the bytes that a directory takes on the disk; a file with several links counts once.

    A job may nest directories deeper than the longest path, and replace them by links. So each is opened below the one
    before, and no link is followed. What cannot be read counts nothing.
    """
    try:
        handle = os.open(path, _DIRECTORY)
    except OSError:
        return 0
    seen: set[tuple[int, int]] = set()
    total, here = _scan(handle, seen)
    above: list[tuple[list[str], tuple[int, int]]] = []
    try:
        while here or above:
            if not here:
                here, known = above.pop()
                handle = _replace(handle, "..")
                if _identity(handle) != known:  # moved in the meantime
                    break
                continue
            name = here.pop()
            known = _identity(handle)
            try:
                handle = _replace(handle, name)
            except OSError:
                continue
            above.append((here, known))
            size, here = _scan(handle, seen)
            total += size
    except OSError:
        pass
    finally:
        os.close(handle)
    return total


def _replace(handle: int, name: str) -> int:
    """Open a directory from another one, and close that one."""
    opened = os.open(name, _DIRECTORY, dir_fd=handle)
    os.close(handle)
    return opened


def _scan(handle: int, seen: set[tuple[int, int]]) -> tuple[int, list[str]]:
    """Return the bytes of the entries of a directory that were not seen before, and the names of its directories."""
    size, folders = 0, []
    try:
        with os.scandir(handle) as entries:
            for entry in entries:
                status = entry.stat(follow_symlinks=False)
                identity = (status.st_dev, status.st_ino)
                if identity not in seen:
                    size += status.st_blocks * _DISK_BLOCK_BYTES
                    if status.st_nlink > 1:
                        seen.add(identity)
                if stat.S_ISDIR(status.st_mode):
                    folders.append(entry.name)
    except OSError:
        pass
    return size, folders


def _identity(handle: int) -> tuple[int, int]:
    status = os.fstat(handle)
    return status.st_dev, status.st_ino
