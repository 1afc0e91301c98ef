# SPDX-License-Identifier: Apache-2.0
"""The destination of a fetched model, ``<destination>/<version>/``, which appears there completely or not at all.

On a file system the model is assembled in a hidden directory beside its destination and renamed. An object store has
no rename, so the file by which readers recognise a model, such as ``saved_model.pb``, is written last.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from airflow_provider_jobapi.exceptions import InvalidJob, JobConflict, QuotaReached
from airflow_provider_jobapi.services.base import ModelFile
from airflow_provider_jobapi.services.files.sources import CHUNK
from airflow_provider_jobapi.services.files.transfers import Task
from airflow_provider_jobapi.training.model import is_marker

Download = Callable[[ModelFile, Path, Callable[[int], None]], None]
"""Downloads one file of the model, verified, into a local file that does not exist yet."""

Run = Callable[[Sequence[Task]], None]
"""Runs tasks in parallel."""


class Destination(Protocol):
    """The directory of one version of a model."""

    location: str
    """The directory as a URI."""

    def holds(self, files: Sequence[ModelFile]) -> bool:
        """Whether exactly these files are there already.

        :raises JobConflict: when another model is.
        """

    def publish(self, files: Sequence[ModelFile], download: Download, run: Run) -> None:
        """Download the files; readers see all of them or none."""


def destination_of(destination: Any, version: str) -> Destination:
    """Choose the destination for a version of a model.

    :param destination: A directory: a path of this machine, or an object with the methods of ``ObjectStoragePath``.
    :param version: The directory's name beneath it; a number, where TensorFlow Serving is to load it.
    :raises InvalidJob: when either cannot be used.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", version):
        raise InvalidJob(
            f"Invalid version {version[:80]!r}: expected the name of a directory, such as 1, of letters, digits, '.', "
            "'_' and '-'.",
            field="version",
        )
    local = _local(destination)
    if local is not None:
        return LocalDestination(local, version)
    if isinstance(destination, str) or not all(
        hasattr(destination, name) for name in ("open", "exists", "__truediv__")
    ):
        raise InvalidJob(
            f"Invalid destination of type {type(destination).__name__}: expected a path or an ObjectStoragePath.",
            field="destination",
        )
    return RemoteDestination(destination / version)


def _local(destination: Any) -> Path | None:
    """The local path of a destination; None where it is remote."""
    if isinstance(destination, str):
        parts = urlsplit(destination)
        if len(parts.scheme) > 1 and "://" in destination:
            return Path(parts.path) if parts.scheme in {"file", "local"} else None
        return Path(destination) if destination else None
    # An ObjectStoragePath of older Airflows is a pathlib.Path, whatever it names; only a real one knows no protocol.
    protocol = getattr(destination, "protocol", None)
    if protocol is None:
        return destination if isinstance(destination, Path) else None
    return Path(destination.path) if protocol in {"", "file", "local"} else None


class LocalDestination:
    """A directory of a file system."""

    def __init__(self, destination: Path, version: str) -> None:
        self._parent = destination.expanduser().absolute()
        self._final = self._parent / version
        self.location = self._final.as_uri()

    def holds(self, files: Sequence[ModelFile]) -> bool:
        """Whether exactly these files are there already; reads every one."""
        with _translated_errors(self._final):
            if not self._final.is_dir():
                if os.path.lexists(self._final):
                    raise _conflict(self.location, "exists and is not a directory")
                return False
            there = {path.relative_to(self._final).as_posix() for path in self._final.rglob("*") if not path.is_dir()}
            if not there:
                return False
            same = there == {file.path for file in files} and all(self._is_file(file) for file in files)
        if not same:
            raise _conflict(self.location, "holds other files")
        return True

    def publish(self, files: Sequence[ModelFile], download: Download, run: Run) -> None:
        """Download the files into a hidden directory, then rename it.

        The directory's name is derived from the model, so that an attempt finds the files of one that was killed. A
        file is written under a unique name and renamed when it is complete, so that attempts can run at the same time.
        """
        listing = "".join(
            f"{file.path}\0{file.size}\0{file.sha256}\0" for file in sorted(files, key=lambda file: file.path)
        )
        name = hashlib.sha256(listing.encode()).hexdigest()[:16]
        work = self._parent / f".{self._final.name}.{name}.part"
        model = work / "model"

        def task(file: ModelFile) -> Task:
            return Task(file.path, file.size, lambda on_bytes: self._one(file, work, download, on_bytes))

        with _translated_errors(self._final):
            try:
                model.mkdir(parents=True, exist_ok=True)
                _remove_other_files(model, files)
                run([task(file) for file in files])
                _sync_directories(model)
                model.rename(self._final)
                _sync(self._parent)
            except OSError as error:
                # Another attempt was faster, or the destination is a directory that is not empty.
                if error.errno not in {errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST} or not self.holds(files):
                    raise
            shutil.rmtree(work, ignore_errors=True)

    def _one(self, file: ModelFile, work: Path, download: Download, on_bytes: Callable[[int], None]) -> None:
        with _translated_errors(self._final, lenient=True):
            target = work / "model" / file.path
            if _is(target, file):
                on_bytes(file.size)
                return
            part = work / f"{uuid.uuid4().hex}.part"
            try:
                download(file, part, on_bytes)
                target.parent.mkdir(parents=True, exist_ok=True)
                part.replace(target)
            finally:
                part.unlink(missing_ok=True)

    def _is_file(self, file: ModelFile) -> bool:
        return _is(self._final / file.path, file)


class RemoteDestination:
    """A directory behind an ``ObjectStoragePath``, or any path with its methods."""

    def __init__(self, final: Any) -> None:
        self._final = final
        self.location = str(final)

    def holds(self, files: Sequence[ModelFile]) -> bool:
        """Whether exactly these files are there already; files of an attempt that was killed do not count."""
        with _translated_errors(self.location):
            there = {_relative(path, self._final) for path in self._final.rglob("*") if path.is_file()}
            others = there - {file.path for file in files}
            if not there & _written_last(files) and not any(is_marker(path) and "/" not in path for path in there):
                if others:
                    raise _conflict(self.location, f"holds {min(others)}, which is not a file of this model")
                return False
            if others or not all(self._is_file(file) for file in files):
                raise _conflict(self.location, "holds another model")
            return True

    def publish(self, files: Sequence[ModelFile], download: Download, run: Run) -> None:
        """Write the file by which readers recognise a model last."""
        last = [file for file in files if file.path in _written_last(files)]
        first = [file for file in files if file not in last]
        with (
            _translated_errors(self.location),
            tempfile.TemporaryDirectory(prefix="jobapi-", ignore_cleanup_errors=True) as folder,
        ):

            def task(file: ModelFile) -> Task:
                return Task(file.path, file.size, lambda on_bytes: self._one(file, Path(folder), download, on_bytes))

            if first:
                run([task(file) for file in first])
            run([task(file) for file in last])

    def _one(self, file: ModelFile, folder: Path, download: Download, on_bytes: Callable[[int], None]) -> None:
        """Copy a file by way of a local one, so that it is verified before a byte is written."""
        part = folder / uuid.uuid4().hex
        try:
            download(file, part, on_bytes)
            target = self._final / file.path
            if hasattr(target.parent, "mkdir"):
                target.parent.mkdir(parents=True, exist_ok=True)
            with part.open("rb") as source, target.open("wb") as out:
                shutil.copyfileobj(source, out, CHUNK)
        finally:
            part.unlink(missing_ok=True)

    def _is_file(self, file: ModelFile) -> bool:
        target = self._final / file.path
        if not target.exists() or target.stat().st_size != file.size:
            return False
        with target.open("rb") as opened:
            return _has_hash(opened, file)


@contextmanager
def _translated_errors(place: object, *, lenient: bool = False) -> Iterator[None]:
    """Turn an OSError at the destination into an error of the provider.

    :param lenient: Leave ENOENT as it is: another attempt was faster.
    """
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise QuotaReached(f"There is no space left for {place}; free some and try again.") from None
        if lenient and error.errno == errno.ENOENT:
            raise
        raise InvalidJob(
            f"{place} cannot be written: {error.strerror or error}; check destination.", field="destination"
        ) from None


def _conflict(location: str, how: str) -> JobConflict:
    return JobConflict(f"{location} {how}; nothing was changed. Choose another version, or remove it.")


def _relative(path: Any, root: Any) -> str:
    return str(path.path)[len(str(root.path).rstrip("/")) + 1 :]


def _is(path: Path, file: ModelFile) -> bool:
    if not path.is_file() or path.is_symlink() or path.stat().st_size != file.size:
        return False
    with path.open("rb") as opened:
        return _has_hash(opened, file)


def _has_hash(opened: Any, file: ModelFile) -> bool:
    """Whether an open file has the SHA-256 of a model's file; True where that is not known."""
    if file.sha256 is None:
        return True
    digest = hashlib.sha256()
    while chunk := opened.read(CHUNK):
        digest.update(chunk)
    return digest.hexdigest() == file.sha256


def _written_last(files: Sequence[ModelFile]) -> set[str]:
    """The paths that are written last, so that their presence means that the model is complete."""
    markers = {file.path for file in files if is_marker(file.path) and "/" not in file.path}
    return markers or {max(file.path for file in files)}


def _remove_other_files(model: Path, files: Iterable[ModelFile]) -> None:
    """Remove the files in the work directory that are not of the model; they would be published with it."""
    known = {file.path for file in files}
    for path in model.rglob("*"):
        if not path.is_dir() and path.relative_to(model).as_posix() not in known:
            path.unlink()


def _sync_directories(root: Path) -> None:
    for folder, _, _ in os.walk(root):
        _sync(Path(folder))


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
