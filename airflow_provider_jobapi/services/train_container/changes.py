# SPDX-License-Identifier: Apache-2.0
"""The files in which a train's container differs from its image: what a successor keeps of them, and what it cannot."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from airflow_provider_jobapi.services.train_container.engine import Engine
from airflow_provider_jobapi.services.train_container.export_files import KERNEL_FOLDERS, is_inside
from airflow_provider_jobapi.services.train_container.exports import Export, measured
from airflow_provider_jobapi.services.train_container.responses import ResponseProblem
from airflow_provider_jobapi.services.train_container.states import ContainerState

_ADDED, _DELETED = 1, 2
"""Kinds of a difference, in Docker's API; 0 is a change."""

_SYSTEM_FILES = frozenset(
    {"/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/etc/mtab", "/run/.containerenv", "/.dockerenv"}
)
"""Files that an engine makes in each container."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What a train has changed.

    :ivar files: The regular files that are kept.
    :ivar left_out: The paths of everything else.
    :ivar deleted: The paths that it has deleted.
    """

    files: tuple[Export, ...]
    left_out: tuple[str, ...]
    deleted: tuple[str, ...]

    def notes(self) -> list[str]:
        """Return sentences about what is otherwise in the successor."""
        notes = []
        if self.deleted:
            notes.append(f"{_few(self.deleted)} was deleted by the train, and is still in its successor.")
        if self.left_out:
            notes.append(f"{_few(self.left_out)} is no regular file, or behind a link, and is not in the successor.")
        return notes


def changes_of(engine: Engine, train: ContainerState, export_files: Sequence[str], largest: int) -> Changes:
    """Return what a commit keeps, with the export files, also where their folder is a volume of the container.

    :param largest: Bytes of all files together.
    :raises ResponseProblem: when there can be none, or they are too large.
    """
    if train.read_only_root and not export_files:
        raise ResponseProblem(
            "The train could not change its image and exports no files, so there is nothing to commit: let it answer "
            "export_files, or set isolation.read_only_root to false and isolation.writable to []."
        )
    exports = measured(engine, train.id, export_files, train.data, largest) if export_files else ()
    known = {each.path for each in exports}
    paths, deleted = changed_files(engine.diff(train.id), train.mounts)
    room = largest - sum(each.size for each in exports)
    files, left_out = _only_files(engine, train, [path for path in paths if path not in known], room)
    return Changes((*exports, *files), tuple(left_out), tuple(deleted))


def changed_files(diff: Iterable[tuple[str, int]], mounts: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the paths that may be files which a container has changed or added, and those that it has deleted.

    :param diff: Paths and kinds, as an engine has them.
    :param mounts: The folders of the container that are no part of it.
    """
    changed, deleted = [], []
    folders = {str(parent) for path, _ in diff for parent in PurePosixPath(path).parents}
    for path, kind in sorted(diff):
        if any(is_inside(path, each) for each in (*mounts, *KERNEL_FOLDERS)) or path in _SYSTEM_FILES:
            continue
        if kind == _DELETED:
            deleted.append(path)
        elif path not in folders:
            changed.append(path)
    return changed, deleted


def _only_files(
    engine: Engine, train: ContainerState, paths: Sequence[str], largest: int
) -> tuple[tuple[Export, ...], list[str]]:
    files: list[Export] = []
    left_out: list[str] = []
    used = 0
    for path in paths:
        try:
            (found,) = measured(engine, train.id, [path], train.mounts, max(0, largest - used))
        except ResponseProblem as problem:
            if "are allowed" in str(problem):
                raise
            left_out.append(path)
        else:
            used += found.size
            files.append(found)
    return tuple(files), left_out


def _few(paths: Sequence[str]) -> str:
    return paths[0] if len(paths) == 1 else f"{paths[0]} (and {len(paths) - 1} more)"
