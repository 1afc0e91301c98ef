# SPDX-License-Identifier: Apache-2.0
"""The files in the work folder of a job that has ended, and for how long they stay.

A job that was successful and wrote no model may have written its results elsewhere in its work folder. So what it wrote
there stays as long as the work folder of a job that failed, and can be read until then.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from airflow_provider_jobapi.server.errors import UnknownFile
from airflow_provider_jobapi.server.store.job_record import Job
from airflow_provider_jobapi.server.store.layout import remove_tree
from airflow_provider_jobapi.server.store.work_folder import WorkFolder
from airflow_provider_jobapi.training.job_file import check_path
from airflow_provider_jobapi.training.units import count_text, size_text

_SHOWN, _SHOWN_CHARACTERS = 5, 100
"""The most files that a sentence names, and the most characters of their paths."""


@dataclass(frozen=True, slots=True)
class WorkResults:
    """What a job wrote into its work folder.

    :ivar files: The path and the size of each file, the largest first; without unchanged inputs and caches.
    """

    files: tuple[tuple[str, int], ...]

    def sentence(self) -> str:
        """Say what lies there."""
        if not self.files:
            return "Its working directory has files that the server cannot read."
        shown = ", ".join(f"{path[:_SHOWN_CHARACTERS]} ({size_text(size)})" for path, size in self.files[:_SHOWN])
        shown += ", …" if len(self.files) > _SHOWN else ""
        total = size_text(sum(size for _, size in self.files))
        text = f"Its working directory has {count_text(len(self.files), 'file')}, {total}: {shown}."
        return text.encode("utf-8", "replace").decode()


def keep_written(job: Job) -> WorkResults | None:
    """Remove what is not a result from a job's work folder; returns the results, or None if it wrote no file.

    Unchanged inputs and ``.cache`` are removed: the folder counts to the client for as long as it stays. Other hidden
    folders, and what Python compiled, stay and are not counted as results.
    """
    home = job.directory / "work"
    if not home.is_symlink() and not (home / ".cache").is_symlink():
        remove_tree(home / ".cache")
    unread: list[str] = []
    try:
        with WorkFolder(job.directory) as work:
            files = _results(work, job.directory / "inputs", unread)
    except OSError:
        return None
    if not files and not unread:
        return None
    return WorkResults(tuple(sorted(files, key=lambda file: (-file[1], file[0]))))


def _results(work: WorkFolder, inputs: Path, unread: list[str]) -> list[tuple[str, int]]:
    files = []
    for path, status in list(work.walk(hidden=True, skipped=unread.append)):
        if not work.owns(status):
            continue
        try:
            if work.is_input(path, inputs):
                work.remove(path)
                continue
        except OSError:
            unread.append(path)
        if not _is_compiled(path) and not any(part.startswith(".") for part in path.split("/")):
            files.append((path, status.st_size))
    return files


def _is_compiled(path: str) -> bool:
    """Whether a file is what Python compiled."""
    return path.endswith(".pyc") or "__pycache__" in path.split("/")


@dataclass(frozen=True, slots=True)
class WorkListing:
    """The files of a work folder that can be read.

    :ivar files: The path and the size of each, sorted.
    :ivar left_out: How many more entries there are: links, special files, and names that no client can write.
    """

    files: tuple[tuple[str, int], ...]
    left_out: int


def listing(directory: Path) -> WorkListing | None:
    """List the work folder of a job that has ended, without what Python compiled; None where it is gone, or empty.

    :param directory: The job's directory.
    """
    files, left_out = [], 0

    def skipped(_path: str) -> None:
        nonlocal left_out
        left_out += 1

    try:
        with WorkFolder(directory) as work:
            for path, status in work.walk(hidden=True, skipped=skipped):
                if _is_compiled(path):
                    continue
                if work.owns(status) and _is_portable(path):
                    files.append((path, status.st_size))
                else:
                    left_out += 1
    except OSError:
        return None
    return WorkListing(tuple(sorted(files)), left_out) if files or left_out else None


def open_file(directory: Path, path: str) -> int:
    """Return a file descriptor of a file of a work folder, which the caller closes.

    :param directory: The job's directory.
    :raises UnknownFile: when there is no such file.
    """
    try:
        with WorkFolder(directory) as work, work.open(check_path(path)) as handle:
            return os.dup(handle)
    except (OSError, ValueError):
        raise UnknownFile(path) from None


def _is_portable(path: str) -> bool:
    try:
        check_path(path)
        path.encode()
    except ValueError:
        return False
    return True
