# SPDX-License-Identifier: Apache-2.0
"""Find the model of a successful job in its work folder and copy it to the client's storage.

All that lies in ``MODEL_DIR`` is stored, of whatever kind. Where the job wrote a SavedModel, there or elsewhere in its
work folder, that one is the job's model, and what else lies in ``MODEL_DIR`` is kept beside it.
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airflow_provider_jobapi.server.errors import OutOfSpace, ServerError, is_disk_full
from airflow_provider_jobapi.server.store import model_listing
from airflow_provider_jobapi.server.store.job_record import Job
from airflow_provider_jobapi.server.store.object_batch import ObjectBatch
from airflow_provider_jobapi.server.store.object_keys import check_key
from airflow_provider_jobapi.server.store.objects import ClientStorage, StoredObject
from airflow_provider_jobapi.server.store.work_folder import Contents, Entry, Unreadable, WithoutBytes, WorkFolder
from airflow_provider_jobapi.training.model import (
    HEAD_BYTES,
    MOST_FILES,
    PREFERRED,
    FoundFile,
    ModelChoice,
    ModelKind,
    choose,
    is_marker,
    kind_of,
    unsafe_to_load,
)
from airflow_provider_jobapi.training.status import Reason
from airflow_provider_jobapi.training.units import count_text, size_text

NO_MODEL = "The job wrote no model."

_OWN_FILES = ("fingerprint.pb", "keras_metadata.pb", "saved_model.pb", "saved_model.pbtxt")
_OWN_FOLDERS = ("assets", "assets.extra", "variables")
"""The names that TensorFlow writes into a SavedModel. Only they are taken if it lies among other files of the job."""

_CAUSED_BY_JOB = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES}
"""Errors that the job causes by changing its work folder."""


class ModelNotStored(Exception):
    """The job has a model that cannot be stored.

    :param reason: The reason in the job's status.
    :param why: What is wrong and what to do, in one sentence.
    :param lead: What it means for the model, where the sentence does not say so.
    """

    def __init__(self, reason: Reason, why: str, lead: str = "") -> None:
        super().__init__(f"The job succeeded, but {lead}{why}")
        self.reason = reason
        self.why = why


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A model that was stored.

    :ivar content: What the job's row records of it.
    :ivar message: Sentences about it.
    :ivar whole: Whether all of ``MODEL_DIR`` was stored; False where only the SavedModel could be.
    :ivar left_out: A sentence about what it has besides that has no bytes, which is in the message, too.
    """

    content: dict[str, Any]
    message: str
    whole: bool = True
    left_out: str = ""


@dataclass(slots=True)
class _Found:
    """What a job left that is to be stored.

    :ivar choice: The SavedModel, and ``saved`` its files.
    :ivar folder: The folder of ``MODEL_DIR``, and ``whole`` its files.
    :ivar refused: Why what else lies in ``MODEL_DIR`` cannot be stored, beside a SavedModel that can.
    :ivar left_out: What the model has besides that has no bytes.
    """

    choice: ModelChoice | None
    folder: str
    saved: list[Entry] = field(default_factory=list)
    whole: list[Entry] = field(default_factory=list)
    refused: str = ""
    left_out: list[WithoutBytes] = field(default_factory=list)


def store_model(job: Job, storage: ClientStorage) -> StoredModel | None:
    """Store the model of a job, or return None if it wrote none. It is safe to repeat.

    :raises ModelNotStored: when the storage is full, or a file of the model cannot be taken.
    :raises OSError: when the machine fails; a repetition may succeed.
    """
    try:
        with WorkFolder(job.directory) as work:
            found = _find(work, job)
            if found.choice is None and not found.whole:
                return None
            return _store_found(work, found, job, storage)
    except OSError as error:
        if error.errno not in _CAUSED_BY_JOB:
            raise
        why = f"its working directory cannot be read: {error.strerror}."
        raise ModelNotStored(Reason.MODEL_UNREADABLE, why) from None


def directory_of_model(job: Job) -> str:
    """The name of the directory that ``MODEL_DIR`` names: ``model``, with more ``_`` while it is taken.

    It is by an input file of the name, and by a package of the job's code.
    """
    code = {file.path.split("/")[0] for file in job.job_file.job.inputs or () if file.code}
    name = PREFERRED
    while (job.directory / "inputs" / name).is_file() or name in code:
        name += "_"
    return name


def _folder_in_env(job: Job) -> str:
    """The folder of the working directory that the job's ``env`` names as ``MODEL_DIR``; empty where it names none."""
    named = [each.value for each in job.job_file.job.env if each.name == "MODEL_DIR"]
    folder = posixpath.normpath(named[-1]) if named and named[-1] else "."
    return "" if folder.startswith(("/", "..")) or folder == "." else folder


def _find(work: WorkFolder, job: Job) -> _Found:
    inputs, folder = job.directory / "inputs", directory_of_model(job)
    found = _Found(_choose(work, inputs, folder), folder)
    if found.choice is not None:
        found.saved, found.left_out = _saved_model(work, found.choice.path)
    try:
        _find_whole(work, found, inputs)
        if not found.whole and (own := _folder_in_env(job)):
            found.folder = own
            _find_whole(work, found, inputs)
        if found.choice is None and not found.whole and found.left_out:
            raise _unreadable(found.left_out[0], "MODEL_DIR")
    except ModelNotStored as error:
        if found.choice is None:
            raise
        found.refused = error.why
    return found


def _choose(work: WorkFolder, inputs: Path, folder: str) -> ModelChoice | None:
    """Choose one of the SavedModels that are not inputs of the job."""
    markers = []
    for path, status in work.walk():
        if is_marker(path) and stat.S_ISREG(status.st_mode) and not work.is_input(path, inputs):
            markers.append((path, status.st_mtime))
    return choose(markers, folder)


def _saved_model(work: WorkFolder, folder: str) -> Contents:
    paths = [*_OWN_FILES, *_OWN_FOLDERS] if folder == "." else [folder]
    parts = [_contents(work, path, "the SavedModel") for path in paths]
    files = sorted((entry for part in parts for entry in part.files), key=_path)
    return Contents(files, [each for part in parts for each in part.left_out])


def _find_whole(work: WorkFolder, found: _Found, inputs: Path) -> None:
    """Find the files of ``MODEL_DIR``; none where it holds nothing but inputs that the job has not changed."""
    files, left_out = _contents(work, found.folder, "MODEL_DIR")
    if not ((inputs / found.folder).is_dir() and all(work.is_input(entry.real, inputs) for entry in files)):
        found.whole = files
    known = {each.path for each in found.left_out}
    found.left_out += [each for each in left_out if each.path not in known]


def _contents(work: WorkFolder, path: str, where: str) -> Contents:
    """The files of a model.

    :raises ModelNotStored: when something in it cannot be read or leads elsewhere, or it has too many files.
    """
    try:
        return work.files(path, MOST_FILES)
    except Unreadable as error:
        raise _unreadable(error, where) from None


def _unreadable(error: Unreadable, where: str) -> ModelNotStored:
    advice = "a model can have files only, so copy the file there, or remove it"
    if "more than" in error.how:
        advice = "pack the files into an archive, such as model.tar"
    return ModelNotStored(Reason.MODEL_UNREADABLE, f"{error.path!r} in {where} {error.how}; {advice}.")


def _store_found(work: WorkFolder, found: _Found, job: Job, storage: ClientStorage) -> StoredModel:
    stored = _Stored(work, job.prefix, storage)
    if found.choice is None:
        stored.add(found.whole)
        main, whole = stored.view(found.whole, found.folder), None
        message = _sentence(main)
    else:
        stored.add(found.saved)
        main = stored.view(found.saved, found.choice.path, ModelKind.SAVED_MODEL)
        rest = [entry for entry in found.whole if entry.path not in stored.objects]
        try:
            stored.add(rest)
        except ModelNotStored as error:
            found.refused = error.why
        whole = stored.view(found.whole, found.folder) if rest and not found.refused else None
        message = _sentence_of_saved_model(found, main, rest)
    content = main | {"path": main["root"]} | ({} if whole is None else {"whole": whole})
    left_out = _printable(_sentence_of_left_out(found.left_out))
    message = _printable(f"{message} {left_out}".rstrip())
    return StoredModel(model_listing.record(job.directory, content), message, not found.refused, left_out)


class _Stored:
    """The files of a job's model that were stored.

    :ivar objects: The object of each, by its path in the work folder.
    """

    def __init__(self, work: WorkFolder, prefix: str, storage: ClientStorage) -> None:
        self.objects: dict[str, StoredObject] = {}
        self._heads: dict[str, bytes] = {}
        self._work = work
        self._prefix = prefix
        self._storage = storage

    def add(self, files: Sequence[Entry]) -> None:
        """Store all files, or none, since part of a model is useless.

        :raises ModelNotStored: when one cannot be read, or there is no room for all.
        """
        try:
            keys = {entry.path: check_key(f"{self._prefix}/{entry.path}") for entry in files}
            # A server that was killed may have stored them already.
            size, room = sum(entry.size for entry in files), self._storage.room(list(keys.values()))
            if size > room:
                raise self._storage.full_error(size, room)
            with ObjectBatch(self._storage, room) as batch:
                added = {entry.path: self._one(entry, keys[entry.path], batch) for entry in files}
                batch.commit()
        except ServerError as error:
            reason = Reason.STORAGE_FULL if isinstance(error, OutOfSpace) else Reason.MODEL_UNREADABLE
            raise ModelNotStored(reason, error.detail, "its model could not be stored. ") from None
        self.objects |= added

    def view(self, files: Sequence[Entry], root: str, kind: ModelKind | None = None) -> dict[str, Any]:
        """Describe files as a model.

        :param root: Their folder in the work folder, or the file that is there instead.
        :param kind: Their kind; by default told by the files.
        """
        if len(files) == 1 and files[0].path == root:
            root = "."
        below = "" if root == "." else f"{root}/"
        listed: list[dict[str, Any]] = []
        for entry in files:
            stored = self.objects[entry.path]
            path = entry.path.removeprefix(below)
            listed.append({"path": path, "size": stored.size, "sha256": stored.sha256, "key": stored.key})
        facts = [FoundFile(each["path"], each["size"], self._heads[each["key"]]) for each in listed]
        kind = kind or kind_of(facts)
        view = {"kind": kind.value, "root": root, "prefix": f"{self._prefix}/{below}".rstrip("/"), "files": listed}
        return view | ({"unsafe": True} if unsafe_to_load(kind.value, facts) else {})

    def _one(self, entry: Entry, key: str, batch: ObjectBatch) -> StoredObject:
        try:
            with self._work.open(entry.real) as handle:
                self._heads[key] = os.pread(handle, HEAD_BYTES, 0)
                return batch.add(handle, key)
        except OSError as error:
            if is_disk_full(error):
                lead = "its model could not be stored: "
                raise ModelNotStored(Reason.STORAGE_FULL, "the server's disk is full.", lead) from None
            why = f"{entry.path!r} of its model cannot be read: {error.strerror}."
            raise ModelNotStored(Reason.MODEL_UNREADABLE, why) from None


def _path(entry: Entry) -> str:
    return entry.path


def _printable(text: str) -> str:
    """A text that a database takes: a name that is not UTF-8 comes from Python with characters that none does."""
    return text.encode("utf-8", "replace").decode()


def _sentence_of_left_out(left_out: Sequence[WithoutBytes]) -> str:
    if not left_out:
        return ""
    more = f", and {len(left_out) - 1:,} more like it" if len(left_out) > 1 else ""
    return f"Left out of the model, since it has no bytes: {left_out[0]}{more}."


def _amount(sizes: Sequence[int]) -> str:
    return f"{count_text(len(sizes), 'file')}, {size_text(sum(sizes))}"


def _sentence(view: dict[str, Any]) -> str:
    amount = _amount([file["size"] for file in view["files"]])
    root = view["files"][0]["path"] if view["root"] == "." else view["root"]
    text = f"The model is {root}, of the kind {view['kind']} ({amount})."
    return f"{text} To load it can run code that is in its files." if "unsafe" in view else text


def _sentence_of_saved_model(found: _Found, view: dict[str, Any], rest: Sequence[Entry]) -> str:
    where = "the working directory" if view["root"] == "." else view["root"]
    text = f"The SavedModel is {where} ({_amount([file['size'] for file in view['files']])})."
    if found.refused:
        text += f" The other files in MODEL_DIR are not stored: {found.refused}"
    elif rest:
        text += f" The other files in MODEL_DIR are kept, too ({_amount([entry.size for entry in rest])})."
    kept = {entry.path.rpartition("/")[0] or "." for entry in found.whole} if not found.refused else set()
    others = [] if found.choice is None else [path for path in found.choice.others if path not in kept]
    if others:
        shown = ", ".join(others[:5]) + (", …" if len(others) > 5 else "")
        text += f" Other SavedModels of the job are not kept: {shown}."
    return text
