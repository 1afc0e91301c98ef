# SPDX-License-Identifier: Apache-2.0
"""A job's model: its files as the service lists them, and the fetch of all of them or none.

The names in a listing become paths on this machine, so none of them is trusted.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, BinaryIO

from airflow_provider_jobapi.exceptions import BrokenContract, NoSavedModel
from airflow_provider_jobapi.services.base import FetchedModel, ModelFile
from airflow_provider_jobapi.services.files.destinations import Destination
from airflow_provider_jobapi.services.files.read_ahead import ReadAhead
from airflow_provider_jobapi.services.files.sources import OnBytes
from airflow_provider_jobapi.services.files.stores import ObjectStore
from airflow_provider_jobapi.services.files.transfers import Meters, download, keep, run
from airflow_provider_jobapi.services.retry import Retry
from airflow_provider_jobapi.training.job_file import check_path
from airflow_provider_jobapi.training.model import MARKERS, MOST_FILES, ModelKind
from airflow_provider_jobapi.training.status import JobState, JobStatus

SAVED_MODEL = ModelKind.SAVED_MODEL.value
"""The kind of a model whose service names none; it holds a ``saved_model.pb``."""


def read_listing(entries: Iterable[dict[str, Any]], kind: str = SAVED_MODEL) -> dict[ModelFile, str]:
    """Read the files of a model, and the key of each in the storage. Empty objects that stand for folders are no files.

    :param entries: ``path``, ``key``, ``size``, and ``sha256`` where the service knows it, of each file.
    :param kind: The kind of the model.
    :raises BrokenContract: for a path that is absolute, leads out of the model, or is not portable; for a path that
        comes twice or is a directory of another; for a SavedModel without its ``saved_model.pb``.
    """
    keys: dict[ModelFile, str] = {}
    paths: set[str] = set()
    for entry in entries:
        if _is_folder(entry):
            continue
        file, key = _read(entry)
        if file.path in paths:
            raise BrokenContract(f"The service lists {file.path!r} twice in one model; nothing was fetched.")
        paths.add(file.path)
        keys[file] = key
        if len(keys) > MOST_FILES:
            raise BrokenContract(f"The service lists more than {MOST_FILES:,} files in one model; nothing was fetched.")
    above_others = {parent for path in paths for parent in _parents(path)}
    keys = {file: key for file, key in keys.items() if file.size or file.path not in above_others}
    paths = {file.path for file in keys}
    for path in paths:
        if above := next((parent for parent in _parents(path) if parent in paths), None):
            raise BrokenContract(f"The service lists {above!r} as a file and as a directory; nothing was fetched.")
    if kind == SAVED_MODEL and not paths & MARKERS:
        raise BrokenContract("The service lists a model without a saved_model.pb; nothing was fetched.")
    return keys


def _is_folder(entry: dict[str, Any]) -> bool:
    """Whether an entry is an empty object that stands for a folder: its path or its key ends in ``/``, or is empty."""
    path, key = str(entry.get("path")), str(entry.get("key"))
    return not entry.get("size") and (path in {"", "."} or path.endswith("/") or key.endswith("/"))


def _read(entry: dict[str, Any]) -> tuple[ModelFile, str]:
    path, key, size, sha256 = (entry.get(name) for name in ("path", "key", "size", "sha256"))
    for name, value in (("path", path), ("key", key)):
        if not isinstance(value, str) or not _is_path(value):
            raise BrokenContract(
                f"The service lists a file of the model whose {name} is {repr(value)[:80]}; nothing was fetched."
            )
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise BrokenContract(f"The service lists {path!r} without a size; nothing was fetched.")
    if sha256 is not None and not (isinstance(sha256, str) and re.fullmatch(r"[0-9a-f]{64}", sha256)):
        raise BrokenContract(f"The service lists {path!r} with an invalid SHA-256; nothing was fetched.")
    return ModelFile(str(path), size, sha256), str(key)


def _is_path(text: str) -> bool:
    try:
        check_path(text)
        text.encode()
    except (ValueError, UnicodeError):
        return False
    return True


def _parents(path: str) -> Iterable[str]:
    parts = path.split("/")
    return ("/".join(parts[:depth]) for depth in range(1, len(parts)))


def check_kind(job_id: str, wanted: str | None, kind: str = SAVED_MODEL) -> None:
    """Refuse to fetch a model of another kind than the job's.

    :param wanted: The kind to fetch; None and ``files`` for any.
    :param kind: The kind of the job's model.
    :raises NoSavedModel: when they differ.
    """
    if wanted not in {None, kind, ModelKind.FILES}:
        raise NoSavedModel(
            f"Job {job_id} left no model of the kind {wanted!r}; its model is of the kind {kind!r}. Fetch that kind, "
            "or any, or let the script write the other into MODEL_DIR."
        )


def no_model(job_id: str, more: str = "", status: JobStatus | None = None) -> NoSavedModel:
    """The error of a job without a model.

    :param more: A sentence about the service, or about what else the job left.
    :param status: Its status, where it is known: a job that failed may have written a model that was not stored.
    """
    if status is not None and status.status in {JobState.FAILED, JobState.STOPPED}:
        return NoSavedModel(f"There is no model to fetch: {status.describe()} {more}".rstrip())
    return NoSavedModel(
        f"Job {job_id} wrote no model: let the script write it, of whatever kind, into the directory that the "
        f"environment variable MODEL_DIR names, such as model.export(os.environ['MODEL_DIR']). {more}".rstrip()
    )


def fetch(
    job_id: str,
    keys: Mapping[ModelFile, str],
    place: Destination,
    store_of: Callable[[], ObjectStore],
    retry: Retry,
    log: logging.Logger,
    meters: Meters | None,
    kind: str = "",
    what: str = "model",
) -> FetchedModel:
    """Fetch a model, unless its destination holds it already. A file without a SHA-256 is checked by its size only.

    :param keys: The files of the model, and the key of each in the store.
    :param store_of: Opens the store, when it is needed.
    :param kind: The kind of the model, where the service names it.
    :param what: What it is called in the log.
    :raises JobConflict: when the destination holds another model.
    """
    files = tuple(keys)
    if unhashed := sum(file.sha256 is None for file in files):
        log.warning(
            f"The service gives no SHA-256 for {unhashed:,} of the {len(files):,} files of the {what} of job {job_id}: "
            "only their sizes are checked."
        )
    if place.holds(files):
        log.info(f"The {what} of job {job_id} is in {place.location} already.")
        return FetchedModel(place.location, files, kind)
    store = store_of()
    ahead = ReadAhead(store, {keys[file]: file.size for file in files}, retry)

    def get(file: ModelFile, out: BinaryIO, on_bytes: OnBytes) -> None:
        content = ahead.take(keys[file])
        if content is None or not keep(content, file, out, on_bytes):
            download(store, keys[file], file, out, retry, on_bytes)

    title = f"Fetching the {what} of job {job_id}"
    place.publish(
        job_id,
        files,
        get,
        lambda tasks: run(title, tasks, log, meters),
    )
    return FetchedModel(place.location, files, kind)
