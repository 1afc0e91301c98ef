# SPDX-License-Identifier: Apache-2.0
"""A disk of a few megabytes, mounted for one test, and what fills it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from airflow_provider_jobapi.server.errors import is_disk_full


@contextmanager
def small_disk(place: Path, size: str, *options: str) -> Iterator[Path]:
    """Mount a file system in memory; skip the test, with the reason, where that is not allowed.

    :param size: Its bytes, such as ``16m``.
    :param options: More options of the mount, such as ``nr_inodes=200``.
    """
    place.mkdir()
    if not shutil.which("mount"):
        pytest.skip("a small disk needs the program mount")
    command = ["mount", "-t", "tmpfs", "-o", ",".join((f"size={size}", *options)), "none", str(place)]
    mounted = subprocess.run(command, capture_output=True, check=False, text=True)
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def fill(folder: Path) -> None:
    """Take all bytes of a disk."""
    with (folder / "filler").open("ab", buffering=0) as file:
        piece = bytes(2**20)
        while piece:
            try:
                file.write(piece)
            except OSError as error:
                if not is_disk_full(error):
                    raise
                piece = piece[: len(piece) // 2]


def take_all_files(folder: Path) -> None:
    """Take all files that a disk may have."""
    (folder / "fillers").mkdir(exist_ok=True)
    for number in range(100_000):
        try:
            os.close(os.open(folder / "fillers" / str(number), os.O_WRONLY | os.O_CREAT, 0o600))
        except OSError as error:
            if not is_disk_full(error):
                raise
            return
    raise AssertionError("The disk has no bound of files.")
