# SPDX-License-Identifier: Apache-2.0
"""The files of a folder that become a job's input files.

All of them, by their path in the folder, but what begins with a dot (``.git``, ``.venv``, ``.env``) and
``__pycache__``. A symbolic link is refused: where it leads to is nobody's to guess.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.training.job_file import check_path

MOST_FILES = 100_000
"""The most input files of a job."""


@dataclass(slots=True)
class Folder:
    """What was found in a folder.

    :ivar files: By their path in the folder.
    :ivar left_out: The paths that were left out; those below them were not looked at.
    """

    files: dict[str, Path] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)


def read_folder(root: Path) -> Folder:
    """Look for the files of a folder.

    :raises InvalidJob: for a folder that cannot be read, and for a file that no job can have.
    """
    found = Folder()
    _walk(root, "", found)
    if not found.files:
        raise InvalidJob(f"{root} holds no file for the job; what begins with a dot is left out.")
    return found


def _walk(folder: Path, prefix: str, found: Folder) -> None:
    try:
        with os.scandir(folder) as entries:
            ordered = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise InvalidJob(f"The folder {folder} cannot be read: {error.strerror or error}.") from None
    for entry in ordered:
        path = f"{prefix}{entry.name}"
        if entry.name.startswith(".") or entry.name == "__pycache__":
            found.left_out.append(path)
        elif entry.is_symlink():
            raise InvalidJob(f"{entry.path} is a symbolic link; put in its place what it leads to.")
        elif entry.is_dir():
            _check(f"{path}/a")
            _walk(Path(entry.path), f"{path}/", found)
        elif entry.is_file():
            _check(path)
            found.files[path] = Path(entry.path)
            if len(found.files) > MOST_FILES:
                raise InvalidJob(f"The folder has more than {MOST_FILES:,} files; pack them into archives.")
        else:
            raise InvalidJob(f"{entry.path} is neither a file nor a folder; move it away.")


def _check(path: str) -> None:
    try:
        check_path(path)
    except ValueError:  # a name that is not UTF-8 as well
        raise InvalidJob(
            f"{path!a} cannot be the name of a job's file: it has at most 1,024 bytes of UTF-8, and no backslashes and "
            "control characters; give it another one."
        ) from None
