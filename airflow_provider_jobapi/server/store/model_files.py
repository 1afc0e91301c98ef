# SPDX-License-Identifier: Apache-2.0
"""Find the SavedModel of a successful job in its work folder and copy it to the client's storage.

The job can change its work folder at any time, so nothing in it is trusted: every directory and file is opened step by
step from the work folder down, no link is followed, and a file of another user is not read.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_provider_jobapi.server.errors import OutOfSpace, ServerError, is_disk_full
from airflow_provider_jobapi.server.store.blobs import PIECE
from airflow_provider_jobapi.server.store.job_record import Job
from airflow_provider_jobapi.server.store.object_batch import ObjectBatch
from airflow_provider_jobapi.server.store.objects import ClientStorage
from airflow_provider_jobapi.training.model import PREFERRED, ModelChoice, choose, is_marker
from airflow_provider_jobapi.training.status import Reason
from airflow_provider_jobapi.training.units import size_text

NO_MODEL = "The job wrote no SavedModel."

_OWN_FILES = {"saved_model.pb", "saved_model.pbtxt", "fingerprint.pb", "keras_metadata.pb"}
_OWN_FOLDERS = {"variables", "assets", "assets.extra"}
"""The names that TensorFlow writes into a SavedModel. Only they are taken if it lies among other files of the job."""

_CAUSED_BY_JOB = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES}
"""Errors that the job causes by changing its work folder."""

_DEPTH = 64
"""The most nested directories in which a model is searched."""


class ModelNotStored(Exception):
    """The job has a model that cannot be stored.

    :param reason: The reason in the job's status.
    :param message: One sentence for the user.
    """

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class StoredModel:
    """The answer of ``GET …/model``, and a sentence about it."""

    content: dict[str, Any]
    message: str


def store_model(job: Job, storage: ClientStorage) -> StoredModel | None:
    """Store the SavedModel of a job, or return None if it wrote none. It is safe to repeat.

    :raises ModelNotStored: when the storage is full, or a file of the model cannot be taken.
    :raises OSError: when the machine fails; a repetition may succeed.
    """
    try:
        return _store_model(job, storage)
    except OSError as error:
        if error.errno not in _CAUSED_BY_JOB:
            raise
        message = f"The job succeeded, but its working directory cannot be read: {error.strerror}."
        raise ModelNotStored(Reason.MODEL_UNREADABLE, message) from None


def _store_model(job: Job, storage: ClientStorage) -> StoredModel | None:
    with _opened(job.directory / "work") as work:
        choice = _find(work, job.directory / "inputs")
        if choice is None:
            return None
        folder = "" if choice.path == "." else f"{choice.path}/"
        files = _store_all(work, _model_files(work, folder), job.prefix, storage)
    for file in files:
        file["path"] = file["path"].removeprefix(folder)
    content = {"path": choice.path, "prefix": f"{job.prefix}/{folder}".rstrip("/"), "files": files}
    return StoredModel(content, _sentence(choice, files))


def _sentence(choice: ModelChoice, files: list[dict[str, Any]]) -> str:
    size = size_text(sum(file["size"] for file in files))
    where = "the working directory" if choice.path == "." else choice.path
    text = f"The SavedModel is {where} ({len(files)} files, {size})."
    if choice.others:
        shown = ", ".join(choice.others[:5]) + (", …" if len(choice.others) > 5 else "")
        text += f" Other SavedModels of the job are not kept: {shown}."
    # A name that is not UTF-8 comes from Python with characters that no database takes.
    return text.encode("utf-8", "replace").decode()


def directory_of_model(inputs: Path) -> str:
    """The name of the directory that ``MODEL_DIR`` names: ``model``, with more ``_`` while an input file has the name.

    :param inputs: The directory of the job's inputs.
    """
    name = PREFERRED
    while (inputs / name).is_file():
        name += "_"
    return name


def _find(work: int, inputs: Path) -> ModelChoice | None:
    """Choose one of the SavedModels that are not inputs of the job."""
    markers = []
    for path, status in _walk(work, ""):
        if is_marker(path) and stat.S_ISREG(status.st_mode) and not _is_input(work, path, inputs):
            markers.append((path, status.st_mtime))
    return choose(markers, directory_of_model(inputs))


def _is_input(work: int, path: str, inputs: Path) -> bool:
    try:
        given = (inputs / path).open("rb")
    except OSError:
        return False
    with given, _opened_file(work, path) as handle, open(handle, "rb", closefd=False) as written:
        if os.fstat(handle).st_size != os.fstat(given.fileno()).st_size:
            return False
        while piece := written.read(PIECE):
            if given.read(PIECE) != piece:
                return False
    return True


def _model_files(work: int, folder: str) -> list[str]:
    """Return the paths of the files of a SavedModel in the work folder.

    :raises ModelNotStored: when something in it is neither a file nor a directory.
    """
    files = []
    for path, status in _walk(work, folder, hidden=True):
        first = path.split("/")[0]
        if not folder and path not in _OWN_FILES and ("/" not in path or first not in _OWN_FOLDERS):
            continue
        if not stat.S_ISREG(status.st_mode):
            kind = "a link" if stat.S_ISLNK(status.st_mode) else "no regular file"
            raise ModelNotStored(
                Reason.MODEL_UNREADABLE,
                f"{path!r} in the SavedModel is {kind}; a model can have files only, so copy the file there.",
            )
        files.append(path)
    return sorted(files)


def _store_all(work: int, paths: list[str], prefix: str, storage: ClientStorage) -> list[dict[str, Any]]:
    """Store all files, or none, since part of a model is useless."""
    with ObjectBatch(storage) as batch:
        stored = [_store(work, path, f"{prefix}/{path}", batch) for path in paths]
        try:
            batch.commit()
        except OutOfSpace as error:
            message = f"The job succeeded, but its model could not be stored. {error.detail}"
            raise ModelNotStored(Reason.STORAGE_FULL, message) from None
    return stored


def _store(work: int, path: str, key: str, batch: ObjectBatch) -> dict[str, Any]:
    try:
        with _opened_file(work, path) as handle:
            stored = batch.add(handle, key)
    except ServerError as error:
        reason = Reason.STORAGE_FULL if isinstance(error, OutOfSpace) else Reason.MODEL_UNREADABLE
        raise ModelNotStored(reason, f"The job succeeded, but its model could not be stored. {error.detail}") from None
    except OSError as error:
        if is_disk_full(error):
            message = "The job succeeded, but its model could not be stored: the server's disk is full."
            raise ModelNotStored(Reason.STORAGE_FULL, message) from None
        raise ModelNotStored(
            Reason.MODEL_UNREADABLE, f"The job succeeded, but {path!r} of its model cannot be read: {error.strerror}."
        ) from None
    return {"path": path, "size": stored.size, "sha256": stored.sha256, "key": stored.key}


def _walk(work: int, folder: str, *, hidden: bool = False) -> Iterator[tuple[str, os.stat_result]]:
    """Yield everything below a directory of the work folder except directories, without following any link.

    :param folder: ``""`` or a path that ends with ``/``.
    :param hidden: Whether to search directories whose name begins with a dot, where caches have models of other jobs.
    """
    waiting = [folder]
    while waiting:
        current = waiting.pop()
        try:
            with _opened_directory(work, current) as handle, os.scandir(handle) as entries:
                found = [(entry.name, entry.stat(follow_symlinks=False)) for entry in entries]
        except OSError:
            if current == folder:
                raise
            continue
        for name, status in found:
            if not stat.S_ISDIR(status.st_mode):
                yield current + name, status
            elif current.count("/") < _DEPTH and (hidden or not name.startswith(".")):
                waiting.append(f"{current}{name}/")


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield handle
    finally:
        os.close(handle)


@contextmanager
def _opened_directory(work: int, path: str) -> Iterator[int]:
    """Open a directory step by step from the work folder down."""
    handle = os.dup(work)
    try:
        for part in path.split("/"):
            if part:
                below = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=handle)
                os.close(handle)
                handle = below
        yield handle
    finally:
        os.close(handle)


@contextmanager
def _opened_file(work: int, path: str) -> Iterator[int]:
    """Open a regular file that the owner of the work folder owns.

    :raises OSError: when it is something else.
    """
    folder, _, name = path.rpartition("/")
    with _opened_directory(work, folder) as directory:
        handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.fstat(work).st_uid:
            raise PermissionError(1, "it is not a regular file that the job owns")
        yield handle
    finally:
        os.close(handle)
