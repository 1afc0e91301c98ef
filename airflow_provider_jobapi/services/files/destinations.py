# SPDX-License-Identifier: Apache-2.0
"""The destination of a fetched model, ``<destination>/<version>/``, which appears there completely or not at all.

On a file system the model is assembled in a hidden directory beside its destination and renamed. Object stores are in
``object_destination.py``.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import stat
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.services.base import ModelFile
from airflow_provider_jobapi.services.files.destination_errors import FASTER, translated_errors
from airflow_provider_jobapi.services.files.destination_files import Download, Run, conflict, has_hash
from airflow_provider_jobapi.services.files.object_destination import ObjectDestination
from airflow_provider_jobapi.services.files.transfers import Task

LEFT_BEHIND = 7 * 24 * 3600.0
"""Seconds after which the hidden directory of a fetch that was killed and never repeated is removed."""


class Destination(Protocol):
    """The directory of one version of a model."""

    location: str
    """The directory as a URI."""

    def holds(self, files: Sequence[ModelFile]) -> bool:
        """Whether exactly these files are there already.

        :raises JobConflict: when another model is.
        """

    def publish(self, job_id: str, files: Sequence[ModelFile], download: Download, run: Run) -> None:
        """Download the files of a job's model; readers see all of them or none.

        :raises JobConflict: when another job's model comes to be there meanwhile.
        """


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
        hasattr(type(destination), name) for name in ("open", "fs", "__truediv__")
    ):
        raise InvalidJob(
            f"Invalid destination of type {type(destination).__name__}: expected a path or an ObjectStoragePath.",
            field="destination",
        )
    return ObjectDestination(destination / version)


def check_local(text: str) -> None:
    """Refuse a local path that was meant as an object store's.

    :raises InvalidJob: for text such as ``connection@bucket/models``, which lacks its scheme.
    """
    found = re.match(r"[^/@]+@[^/]*", text)
    if found and not Path(found[0]).exists():
        raise InvalidJob(
            f"Invalid destination {text[:200]!r}: it names a connection but no scheme, so it would be a folder of this "
            f"machine. Write s3://{text[:200]} for a bucket, or ./{text[:200]} for a folder.",
            field="destination",
        )


def _local(destination: Any) -> Path | None:
    """The local path of a destination; None where it is remote."""
    if isinstance(destination, str):
        scheme, separator, path = destination.partition("://")
        if separator and len(scheme) > 1:
            # No more of it is a URL's: "?" and "#" are letters of a file's name.
            return Path(unquote(f"/{path.partition('/')[2]}")) if scheme in {"file", "local"} else None
        check_local(destination)
        return Path(destination) if destination else None
    # An ObjectStoragePath of older Airflows is a pathlib.Path, whatever it names; only a real one knows no protocol.
    protocol = getattr(destination, "protocol", None)
    if protocol is None:
        return destination if isinstance(destination, Path) else None
    if protocol == "":
        check_local(str(destination.path))
    return Path(destination.path) if protocol in {"", "file", "local"} else None


class LocalDestination:
    """A directory of a file system."""

    def __init__(self, destination: Path, version: str) -> None:
        self._parent = destination.expanduser().absolute()
        self._final = self._parent / version
        self.location = self._final.as_uri()

    def holds(self, files: Sequence[ModelFile]) -> bool:
        """Whether exactly these files are there already; reads every one."""
        with translated_errors(self._final):
            if not self._final.is_dir():
                if os.path.lexists(self._final):
                    raise conflict(self.location, "exists and is not a directory")
                return False
            there = {path.relative_to(self._final).as_posix() for path in self._final.rglob("*") if not path.is_dir()}
            if not there:
                return False
            same = there == {file.path for file in files} and all(self._is_file(file) for file in files)
        if not same:
            raise conflict(self.location, "holds other files")
        return True

    def publish(self, job_id: str, files: Sequence[ModelFile], download: Download, run: Run) -> None:
        """Download the files into a hidden directory, then rename it.

        The directory's name is derived from the model, so that an attempt finds the files of one that was killed. A
        file is written under a unique name and renamed when it is complete, so that attempts can run at the same time.
        """
        listing = "".join(
            f"{file.path}\0{file.size}\0{file.sha256}\0" for file in sorted(files, key=lambda file: file.path)
        )
        # Models whose hashes are not known are told apart by their jobs.
        listing += "" if all(file.sha256 for file in files) else job_id
        name = hashlib.sha256(listing.encode()).hexdigest()[:16]
        with translated_errors(self._final):
            try:
                self._parent.mkdir(parents=True, exist_ok=True)
            except FileExistsError:
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from None
            _remove_left_behind(self._parent)
            work = _own_directory(self._parent / f".{self._final.name}.{name}.part")
            try:
                self._assemble(work, files, download, run)
            except OSError as error:
                # Another attempt was faster, or the destination is a directory that is not empty.
                if error.errno not in FASTER or not self.holds(files):
                    raise
            for _ in range(3):  # a file of this attempt may come while the directory is removed
                shutil.rmtree(work, ignore_errors=True)

    def _assemble(self, work: Path, files: Sequence[ModelFile], download: Download, run: Run) -> None:
        model = work / "model"

        def task(file: ModelFile) -> Task:
            return Task(file.path, file.size, lambda on_bytes: self._one(file, work, download, on_bytes))

        if model.is_symlink():
            model.unlink()
        _make(model)
        _remove_other_files(model, files)
        run([task(file) for file in files])
        _sync_directories(model)
        model.rename(self._final)
        _sync(self._parent)

    def _one(self, file: ModelFile, work: Path, download: Download, on_bytes: Callable[[int], None]) -> None:
        with translated_errors(self._final, lenient=True):
            model = work / "model"
            target = model / file.path
            if _is(target, file):
                on_bytes(file.size)
                return
            part = work / f"{uuid.uuid4().hex}.part"
            try:
                with part.open("xb") as out:
                    download(file, out, on_bytes)
                # Not the model's own directory: where it is gone, another attempt has published it.
                for folder in reversed(list(Path(file.path).parents)[:-1]):
                    _make(model / folder)
                part.replace(target)
            finally:
                part.unlink(missing_ok=True)

    def _is_file(self, file: ModelFile) -> bool:
        return _is(self._final / file.path, file)


def _is(path: Path, file: ModelFile) -> bool:
    if not path.is_file() or path.is_symlink() or path.stat().st_size != file.size:
        return False
    with path.open("rb") as opened:
        return has_hash(opened, file)


def _own_directory(work: Path) -> Path:
    """Make the directory in which a model is assembled, or take the one of an attempt that was killed.

    Whoever may write into the destination could have made it before, as a link to another place or with links in it.
    So only a directory of this user is taken, which nobody else may write into; otherwise one of a new name is made.
    """
    found = None
    while found is None:
        try:
            work.mkdir(mode=0o700)
            return work
        except FileExistsError:
            with suppress(FileNotFoundError):  # another attempt has just removed it
                found = work.lstat()
    if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022:
        return work
    return Path(tempfile.mkdtemp(prefix=f"{work.name.removesuffix('part')}", suffix=".part", dir=work.parent))


def _make(folder: Path) -> None:
    """Make one directory, but none above it."""
    with suppress(FileExistsError):
        folder.mkdir()


def _remove_other_files(model: Path, files: Iterable[ModelFile]) -> None:
    """Remove what is not of the model from its directory, links too; it would be published with it."""
    known = {file.path for file in files}
    for folder, folders, names in os.walk(model):
        for name in [*folders, *names]:
            path = Path(folder, name)
            if path.is_symlink() or (name in names and path.relative_to(model).as_posix() not in known):
                path.unlink(missing_ok=True)


def _remove_left_behind(parent: Path) -> None:
    """Remove the hidden directories of this user's fetches that were killed long ago."""
    with os.scandir(parent) as entries:
        for entry in entries:
            if not re.fullmatch(r"\..+\.[0-9a-f]{16}\.([a-z0-9_]{8}\.)?part", entry.name):
                continue
            with suppress(OSError):
                found = entry.stat(follow_symlinks=False)
                own = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
                if own and time.time() - found.st_mtime > LEFT_BEHIND:
                    shutil.rmtree(entry.path, ignore_errors=True)


def _sync_directories(root: Path) -> None:
    for folder, _, _ in os.walk(root):
        _sync(Path(folder))


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
