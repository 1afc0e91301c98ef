# SPDX-License-Identifier: Apache-2.0
"""The rules of export files, which a train's successor image is made of. Pure.

The reference implementation has them absolute, regular, and no links. Nobody vouches for a train, so paths are also
normalised, each is named once, none lies in the station's data, and their size has a bound.
"""

from __future__ import annotations

import posixpath
import stat
from collections.abc import Collection, Iterable
from pathlib import PurePosixPath

from airflow_provider_jobapi.services.train_container.connection import LARGEST_EXPORT
from airflow_provider_jobapi.services.train_container.responses import ResponseProblem
from airflow_provider_jobapi.training.units import size_text

MOST_FILES = 10_000
LONGEST_PATH = 4_096
"""Characters, as Linux has it."""

KERNEL_FOLDERS = ("/proc", "/sys", "/dev")


def check_paths(paths: Collection[str], data: Iterable[str] = ()) -> tuple[str, ...]:
    """Return the paths of export files, checked.

    :param data: The folders of the container that hold the station's data.
    :raises ResponseProblem: naming the path and what is wrong.
    """
    if len(paths) > MOST_FILES:
        raise ResponseProblem(f"The train exports {len(paths):,} files, and {MOST_FILES:,} are allowed: pack them.")
    data = tuple(data)
    seen = set[str]()
    for path in paths:
        if why := _why_not(path, data):
            raise refused(path, why)
        if path in seen:
            raise refused(path, "the train names it twice")
        seen.add(path)
    for path in seen:
        if inside := next((str(each) for each in PurePosixPath(path).parents if str(each) in seen), None):
            raise refused(path, f"it would be inside of the export file {inside}")
    return tuple(paths)


def _why_not(path: str, data: Collection[str]) -> str:
    """Say what is wrong with the path of an export file; empty where nothing is."""
    normal = posixpath.normpath(f"/{path.lstrip('/')}")
    rules = (
        (not path.startswith("/"), "it is not absolute, such as /opt/model/weights.json"),
        (len(path) > LONGEST_PATH, f"it has more than {LONGEST_PATH:,} characters"),
        (not path.isprintable(), "it has a character that cannot be printed"),
        (path.endswith("/"), "it is a folder; name each file"),
        (path != normal, f"it has '..', '.' or '//'; write {normal}"),
        *((is_inside(normal, each), f"{each} belongs to the system") for each in KERNEL_FOLDERS),
        *(
            (is_inside(normal, each), f"it is in the station's data ({each}), which stay where they are")
            for each in data
        ),
    )
    return next((why for wrong, why in rules if wrong), "")


def is_inside(path: str, folder: str) -> bool:
    """Whether a normalised path is a folder or lies in it."""
    return path == folder or path.startswith(f"{folder.rstrip('/')}/")


def refused(path: str, why: str) -> ResponseProblem:
    """Make the error of an export file."""
    return ResponseProblem(f"The train cannot export {path[:200]!r}: {why}.")


def parents(paths: Iterable[str]) -> tuple[str, ...]:
    """Return the folders above export files, each once, for a check that none of them is a link."""
    return tuple(dict.fromkeys(str(each) for path in paths for each in reversed(PurePosixPath(path).parents[:-1])))


class ExportBudget:
    """Checks what the engine says of each export file, and counts their bytes.

    :param most: Bytes of all files together.
    """

    def __init__(self, most: int = LARGEST_EXPORT) -> None:
        self.most, self.used = most, 0

    def check(self, path: str, mode: int, size: int) -> None:
        """Check one file by its type, before it is read, and count it.

        :param mode: Its ``st_mode``, of the entry itself where it is a link.
        :raises ResponseProblem: when it is not regular, or the bound is passed.
        """
        if not stat.S_ISREG(mode):
            raise refused(path, f"it is {_kind(mode)}, and only regular files are exported")
        self.used += max(0, size)
        if self.used > self.most:
            raise refused(
                path,
                f"with it the export files have {size_text(self.used)}, and {size_text(self.most)} are allowed "
                "(largest_export of the connection)",
            )

    @staticmethod
    def check_parent(path: str, mode: int) -> None:
        """Check a folder above an export file, which could lead elsewhere as a link.

        :raises ResponseProblem: when it is no folder.
        """
        if not stat.S_ISDIR(mode):
            raise refused(path, f"it is {_kind(mode)}, and the folders above export files must be folders")


_KINDS = {
    stat.S_IFLNK: "a link",
    stat.S_IFDIR: "a folder",
    stat.S_IFREG: "a file",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
}


def _kind(mode: int) -> str:
    return _KINDS.get(stat.S_IFMT(mode), "a special file")
