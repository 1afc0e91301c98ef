# SPDX-License-Identifier: Apache-2.0
"""The export files of a train, out of its ended container: checked, measured, and read as streams.

Nobody vouches for a train, nor for what its container holds. So the engine is asked what each path is before it is
read, its archive may have one member only, and what was asked for is compared with what comes.
"""

from __future__ import annotations

import hashlib
import shutil
import stat
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from tempfile import gettempdir
from typing import IO, Any, cast

from airflow_provider_jobapi.exceptions import BrokenContract, TrainingError
from airflow_provider_jobapi.services.files.models import read_listing
from airflow_provider_jobapi.services.files.stores import StoredObject
from airflow_provider_jobapi.services.train_container.connection import LARGEST_EXPORT
from airflow_provider_jobapi.services.train_container.engine import CHUNK, Engine
from airflow_provider_jobapi.services.train_container.errors import FileMissing
from airflow_provider_jobapi.services.train_container.export_files import (
    ExportBudget,
    check_paths,
    parents,
    refused,
)
from airflow_provider_jobapi.training.model import FoundFile, kind_of
from airflow_provider_jobapi.training.units import size_text

# The bits of Go's io/fs.FileMode, in which an engine says what a path is.
_GO_KINDS = (
    (1 << 27, stat.S_IFLNK),
    (1 << 31, stat.S_IFDIR),
    (1 << 25, stat.S_IFIFO),
    (1 << 24, stat.S_IFSOCK),
    (1 << 21, stat.S_IFCHR),
    (1 << 26, stat.S_IFBLK),
    (1 << 19, stat.S_IFBLK),
)


@dataclass(frozen=True, slots=True)
class Export:
    """An export file.

    :ivar path: Its absolute path in the container.
    :ivar sha256: In hex; None where it was not read yet, see :func:`hashed`.
    """

    path: str
    size: int
    mode: int
    sha256: str | None = None


def measured(
    engine: Engine, container: str, paths: Sequence[str], data: Iterable[str], most: int = LARGEST_EXPORT
) -> tuple[Export, ...]:
    """Check export files, and the folders above them, and return their sizes.

    :param data: The folders of the container that hold the station's data.
    :param most: Bytes of all files together.
    :raises ResponseProblem: naming the file and what is wrong.
    """
    budget = ExportBudget(most)
    for folder in parents(check_paths(paths, data)):
        budget.check_parent(folder, _stat(engine, container, folder)[0])
    found = []
    for path in paths:
        mode, size = _stat(engine, container, path)
        budget.check(path, mode, size)
        found.append(Export(path, size, stat.S_IMODE(mode) & 0o777))
    return tuple(found)


def hashed(engine: Engine, container: str, exports: Sequence[Export]) -> tuple[Export, ...]:
    """Read export files, and return them with their SHA-256: an engine knows none."""
    found = []
    for export in exports:
        digest = hashlib.sha256()
        with opened(engine, container, export) as (_, chunks):
            for chunk in chunks:
                digest.update(chunk)
        found.append(replace(export, sha256=digest.hexdigest()))
    return tuple(found)


def check_room(exports: Iterable[Export]) -> None:
    """Refuse to copy more than the worker's temporary folder has room for.

    :raises TrainingError: saying what to do; a later try may find more.
    """
    folder, needed = gettempdir(), sum(each.size for each in exports)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise TrainingError(
            f"The files of the train have {size_text(needed)}, and the worker's temporary folder {folder} has "
            f"{size_text(free)} free: make room there, or set TMPDIR of the worker to another folder."
        )


def st_mode(go_mode: int) -> int:
    """Return the ``st_mode`` of a mode as Go has it."""
    kind = next((kind for bit, kind in _GO_KINDS if go_mode & bit), stat.S_IFREG)
    return kind | (go_mode & 0o777)


def _stat(engine: Engine, container: str, path: str) -> tuple[int, int]:
    try:
        about = engine.stat(container, path)
    except FileMissing:
        raise refused(
            path, "there is no such file; what is written into /tmp, or another tmpfs, is gone with its container"
        ) from None
    return st_mode(int(about.get("mode") or 0)), int(about.get("size") or 0)


@contextmanager
def opened(engine: Engine, container: str, export: Export) -> Iterator[tuple[tarfile.TarInfo, Iterator[bytes]]]:
    """Open an export file; returns its entry in the archive, with its owner, and its content.

    :raises ResponseProblem: when it is not what it was.
    """
    with engine.get_archive(container, export.path) as chunks:
        try:
            with tarfile.open(fileobj=cast("IO[bytes]", _Reader(chunks)), mode="r|") as tar:
                member = tar.next()
                if member is None or not member.isreg() or member.size != export.size:
                    raise refused(export.path, "it is no regular file any more, or has another size")
                content = tar.extractfile(member)
                if content is None:
                    raise refused(export.path, "it is no regular file any more")
                yield member, iter(lambda: content.read(CHUNK), b"")
        except tarfile.TarError as error:
            raise BrokenContract(f"The engine sent {export.path} as a broken archive: {error}.") from None


class _Reader:
    """Reads chunks as a file."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._kept = b""

    def read(self, size: int) -> bytes:
        parts, have = [self._kept], len(self._kept)
        while have < size and (chunk := next(self._chunks, None)) is not None:
            parts.append(chunk)
            have += len(chunk)
        joined = b"".join(parts)
        self._kept = joined[size:]
        return joined[:size]


class ExportStore:
    """The export files of a container as a store, of which a model is fetched; see
    :class:`~airflow_provider_jobapi.services.files.stores.ObjectStore`.
    """

    def __init__(self, engine: Engine, container: str, exports: Iterable[Export]) -> None:
        self._engine = engine
        self._container = container
        self._exports = {each.path.lstrip("/"): each for each in exports}

    def head(self, key: str) -> StoredObject | None:
        """Return a file; None where there is none."""
        found = self._exports.get(key)
        return None if found is None else StoredObject(key, found.size, None)

    def put(self, key: str, source: Any, on_bytes: Any) -> None:
        """Refuse: an ended container is not written to."""
        raise NotImplementedError

    @contextmanager
    def read(self, key: str, start: int) -> Iterator[tuple[int, Iterator[bytes]]]:  # noqa: ARG002 -- it has no ranges
        """Open a file, always at 0."""
        with opened(self._engine, self._container, self._exports[key]) as (_, chunks):
            yield 0, chunks

    def list_objects(self, prefix: str) -> Iterator[StoredObject]:
        """List the files whose path begins with a prefix."""
        for path, each in self._exports.items():
            if path.startswith(prefix):
                yield StoredObject(path, each.size, None)


def as_model(exports: Sequence[Export]) -> tuple[str, str, Mapping[Any, str]]:
    """Return export files as a model: its kind, its folder in the container, and the key of each file in the store."""
    root = PurePosixPath(exports[0].path).parent
    while not all(PurePosixPath(each.path).is_relative_to(root) for each in exports):
        root = root.parent
    entries = [
        {
            "path": str(PurePosixPath(each.path).relative_to(root)),
            "key": each.path.lstrip("/"),
            "size": each.size,
            "sha256": each.sha256,
        }
        for each in exports
    ]
    kind = kind_of([FoundFile(str(each["path"]), int(str(each["size"]))) for each in entries]).value
    return kind, str(root), read_listing(entries, kind)
