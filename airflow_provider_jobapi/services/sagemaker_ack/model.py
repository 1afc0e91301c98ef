# SPDX-License-Identifier: Apache-2.0
"""The model of a job: the ``model.tar.gz`` that SageMaker makes of ``/opt/ml/model``, or a folder of files.

``outputDataConfig.compressionType: NONE`` leaves the files in a folder. The archive is unpacked where it is fetched,
and its kind is told by its files as everywhere.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from airflow_provider_jobapi.exceptions import BrokenContract
from airflow_provider_jobapi.services.base import FetchedModel, Model, ModelFile
from airflow_provider_jobapi.services.files.destination_errors import translated_errors
from airflow_provider_jobapi.services.files.destinations import destination_of
from airflow_provider_jobapi.services.files.models import check_kind, fetch, no_model, read_listing
from airflow_provider_jobapi.services.files.stores import S3Store, StoredObject
from airflow_provider_jobapi.services.files.transfers import Meters
from airflow_provider_jobapi.services.retry import Retry
from airflow_provider_jobapi.services.sagemaker_ack.archive import Folder, Unpacked, unpack
from airflow_provider_jobapi.services.sagemaker_ack.handles import JobHandle
from airflow_provider_jobapi.services.sagemaker_ack.storage import bucket_and_key
from airflow_provider_jobapi.training.model import FoundFile, ModelKind, choose, is_marker, kind_of
from airflow_provider_jobapi.training.units import size_text

LARGEST_LISTED = 256 * 10**6
"""Bytes of an archive up to which its files are listed without a fetch, for which all of it is read."""

StoreOf = Callable[[str], S3Store]

_PACKED = ".tar.gz"

_LOST = "On SageMaker, files outside of MODEL_DIR (/opt/ml/model) are lost with the job's machine."


@dataclass(frozen=True, slots=True)
class _Chosen:
    """What of the files is the model.

    :ivar entries: As :func:`~airflow_provider_jobapi.services.files.models.read_listing` reads them.
    """

    kind: str
    root: str
    entries: list[dict[str, Any]]

    def keys(self) -> dict[ModelFile, str]:
        return read_listing(self.entries, self.kind)


def listed(store_of: StoreOf, handle: JobHandle, url: str, retry: Retry, log: logging.Logger) -> Model | None:
    """Return the model of a job without fetching it; None where it left none.

    :param url: Where it is.
    """
    store, archive, folder = _find(store_of, url, retry, log)
    if archive is None:
        chosen = _of_folder(folder)
    elif handle.packed or archive.size > LARGEST_LISTED:
        log.info(f"The model of job {handle.job_id} is an archive of {size_text(archive.size)}; its kind is not read.")
        chosen = _packed(archive)
    else:
        files = retry.call(lambda: _unpacked(store, archive, None, url), log)
        chosen = _choose(files, None)
    return None if chosen is None else Model(chosen.kind, tuple(chosen.keys()), chosen.root)


def fetched(
    store_of: StoreOf,
    handle: JobHandle,
    url: str,
    target: tuple[Any, str, str | None],
    retry: Retry,
    log: logging.Logger,
    meters: Meters | None,
) -> FetchedModel:
    """Fetch the model of a job, completely or not at all.

    :param url: Where it is.
    :param target: The destination, the version, and the kind that the model must have or None.
    :raises NoSavedModel: when there is none, or none of this kind.
    :raises BrokenContract: when the archive is not one to unpack.
    """
    destination, version, kind = target
    place = destination_of(destination, version)
    store, archive, folder = _find(store_of, url, retry, log)

    def publish(chosen: _Chosen | None, source: Any) -> FetchedModel:
        if chosen is None:
            raise no_model(handle.job_id, _LOST)
        check_kind(handle.job_id, kind, chosen.kind)
        return fetch(handle.job_id, chosen.keys(), place, lambda: source, retry, log, meters, chosen.kind)

    if archive is None:
        return publish(_of_folder(folder), store)
    if handle.packed:
        return publish(_packed(archive), store)
    with TemporaryDirectory(prefix="jobapi-model-") as scratch:
        log.info(f"Fetching and unpacking {url}, {size_text(archive.size)}.")
        with translated_errors(scratch):
            files = retry.call(lambda: _unpacked(store, archive, Path(scratch), url), log)
        return publish(_choose(files, kind), Folder(Path(scratch)))


def _find(
    store_of: StoreOf, url: str, retry: Retry, log: logging.Logger
) -> tuple[S3Store, StoredObject | None, dict[str, StoredObject]]:
    """Return the bucket, and either the archive or the files of a folder by their paths in it.

    An object that is gone does not say which of the two its job left; a folder has the archive's name without its end.
    """
    bucket, key = bucket_and_key(url)
    store = store_of(bucket)
    archive = None if key.endswith("/") else retry.call(lambda: store.head(key), log)
    begin = f"{key.rstrip('/').removesuffix(_PACKED)}/"
    below = [] if archive else retry.call(lambda: list(store.list_objects(begin)), log)
    return store, archive, {each.key.removeprefix(begin): each for each in below}


def _unpacked(store: S3Store, archive: StoredObject, target: Path | None, url: str) -> dict[str, Unpacked]:
    for left in target.iterdir() if target is not None else ():  # of an attempt before
        left.unlink()
    try:
        with store.read(archive.key, 0) as (_, chunks):
            return unpack(chunks, archive.size, target, f"The archive {url}")
    except BrokenContract as error:
        raise BrokenContract(f"{error} With unpack_model = false in the connection it is fetched packed.") from None


def _packed(archive: StoredObject) -> _Chosen:
    name = archive.key.rpartition("/")[2]
    return _Chosen(
        ModelKind.FILES.value, "", [{"path": name, "key": archive.key, "size": archive.size, "sha256": None}]
    )


def _of_folder(folder: Mapping[str, StoredObject]) -> _Chosen | None:
    entries = {path: {"key": each.key, "size": each.size, "sha256": None} for path, each in folder.items()}
    times = {path: each.modified for path, each in folder.items()}
    return _chosen(entries, times, [FoundFile(path, each.size) for path, each in folder.items()], None)


def _choose(files: Mapping[str, Unpacked], kind: str | None) -> _Chosen | None:
    entries = {
        path: {"key": each.number or path, "size": each.size, "sha256": each.sha256} for path, each in files.items()
    }
    times = {path: each.modified for path, each in files.items()}
    return _chosen(entries, times, (each.found() for each in files.values()), kind)


def _chosen(
    entries: Mapping[str, dict[str, Any]], times: Mapping[str, float], found: Iterable[FoundFile], kind: str | None
) -> _Chosen | None:
    """Choose the model as on a jobAPI: the SavedModel, else all of the files.

    :param kind: The kind that is asked for. Where the SavedModel lies beside other files, ``files`` means all of them.
    """
    if not entries:
        return None
    whole = kind_of(list(found))
    saved = choose(((path, times[path]) for path in entries if is_marker(path)), "")
    if saved is None or (kind in {ModelKind.FILES, whole} and kind != ModelKind.SAVED_MODEL):
        return _Chosen(whole.value, ".", [{"path": path, **each} for path, each in sorted(entries.items())])
    begin = "" if saved.path == "." else f"{saved.path}/"
    inside = {path.removeprefix(begin): each for path, each in entries.items() if path.startswith(begin)}
    return _Chosen(
        ModelKind.SAVED_MODEL.value, saved.path, [{"path": path, **each} for path, each in sorted(inside.items())]
    )
