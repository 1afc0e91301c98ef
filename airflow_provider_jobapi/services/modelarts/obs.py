# SPDX-License-Identifier: Apache-2.0
"""OBS, the object store that ModelArts jobs use: access to a bucket, and the model below a job's ``train_url``.

The boot file leaves a list of its files with their SHA-256. OBS has no hashes, so to fetch a model, a file that is not
on the list (a boot file of the user leaves none) is read once more to compute its hash.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from airflow_provider_jobapi.exceptions import BrokenContract
from airflow_provider_jobapi.services import settings
from airflow_provider_jobapi.services.base import ModelFile
from airflow_provider_jobapi.services.files.models import read_listing
from airflow_provider_jobapi.services.files.stores import ObjectStore, S3Access, S3Store, StoredObject
from airflow_provider_jobapi.services.modelarts import boot, boot_checkpoints, boot_work_folder
from airflow_provider_jobapi.services.modelarts.connection import ModelArtsConnection
from airflow_provider_jobapi.training.model import (
    PREFERRED,
    FoundFile,
    ModelKind,
    choose,
    is_marker,
    kind_of,
    unsafe_to_load,
)

KEEPER = ".keep"
"""An empty object in a folder; a folder exists in OBS only while an object is in it."""

_MAX_LIST_BYTES = 64 * 1024 * 1024


def store_of(connection: ModelArtsConnection, bucket: str) -> S3Store:
    """Return a bucket of the connection's OBS."""
    return S3Store(
        S3Access(
            url=connection.obs_url,
            bucket=bucket,
            access_key=connection.obs_access_key,
            secret_key=connection.obs_secret_key,
            region=connection.region,
            verify=connection.verify,
            roots=settings.authorities(connection.ca_bundle),
            proxy=connection.proxy_for(connection.obs_url),
            timeout=connection.timeout,
            unsigned=True,
            keys_from="the connection",
            advice="check the connection's obs_endpoint, obs_access_key, obs_secret_key, bucket and region",
        )
    )


def bucket_and_key(url: str) -> tuple[str, str]:
    """Return bucket and key of an OBS folder, written as ``/bucket/key/``, ``obs://`` or ``s3://``.

    :raises BrokenContract: if it is not a folder of OBS.
    """
    found = re.fullmatch(r"(?:/|(?:obs|s3)://)([^/]+)/(.*[^/])/*", url)
    if found is None:
        raise BrokenContract(f"ModelArts names {url[:200]!r} as the job's output, which is not a folder in OBS.")
    return found[1], f"{found[2]}/"


@dataclass(frozen=True, slots=True)
class ModelInObs:
    """A model below a job's ``train_url``.

    :ivar root: Its folder there; ``"."`` for the output folder itself.
    :ivar keys: The key of each of its files.
    :ivar unsafe: Whether to load it can run code that is in its files, by their first bytes.
    """

    kind: str
    root: str
    keys: dict[ModelFile, str]
    unsafe: bool


def find_model(
    store: ObjectStore, folder: str, kind: str | None = None, *, compute_hashes: bool = True
) -> ModelInObs | None:
    """Return the job's model; None if there is none.

    It is the SavedModel, chosen as on a jobAPI, else all of ``MODEL_DIR``; a boot file of the user's own writes the
    model into the output folder itself, or into ``model`` in it.

    :param folder: The key of the output folder, with a ``/`` at its end.
    :param kind: The kind that is asked for. Where the model is a SavedModel beside other files, all of ``MODEL_DIR`` is
        returned for ``files``, and for the kind that it is as a whole.
    :param compute_hashes: Whether to read files that are not on the boot file's list; else their ``sha256`` is None.
    """
    output = _Output.read(store, folder)
    whole = output.whole()
    saved = choose(
        ((path, output.modified(path)) for path in output.objects if is_marker(path)), output.model or PREFERRED
    )
    if saved is None:
        return None if whole is None else output.model_at(*whole, compute_hashes=compute_hashes)
    chosen = ModelKind.SAVED_MODEL, saved.path
    if whole is not None and kind in {ModelKind.FILES, whole[0]} and output.below(whole[1]) - output.below(saved.path):
        chosen = whole
    return output.model_at(*chosen, compute_hashes=compute_hashes)


@dataclass(frozen=True, slots=True)
class _Output:
    """The output folder of a job.

    :ivar objects: By their path in the folder.
    :ivar known: The entries of the boot file's list that are still true, by path.
    :ivar model: The name of ``MODEL_DIR`` in the folder; empty where the boot file does not say.
    :ivar listed: Whether this provider's boot file has written the list.
    """

    store: ObjectStore
    objects: Mapping[str, StoredObject]
    known: Mapping[str, Mapping[str, Any]]
    model: str
    listed: bool

    @classmethod
    def read(cls, store: ObjectStore, folder: str) -> _Output:
        """List the folder, and read the boot file's list in it.

        :raises BrokenContract: if a file on the list is not there.
        """
        objects = {
            each.key.removeprefix(folder): each
            for each in store.list_objects(folder)
            # An empty object whose key ends in "/" stands for a folder, as the console of OBS makes it.
            if (each.size or not each.key.endswith("/"))
            and not each.key.endswith(f"/{KEEPER}")
            and not each.key.startswith(f"{folder}{boot_checkpoints.FOLDER}/")
        }
        found = objects.pop(boot.FILES, None)
        listed, model = _read_list(store, found)
        if lost := sorted(listed.keys() - objects.keys()):
            raise BrokenContract(
                f"OBS no longer has {lost[0]!r} of the job's model, so the model is not whole; nothing was fetched."
            )
        known = {path: entry for path, entry in listed.items() if entry.get("size") == objects[path].size}
        return cls(store, objects, known, model, bool(listed or model))

    def whole(self) -> tuple[ModelKind, str] | None:
        """Return the kind and the root of all of ``MODEL_DIR``; None if nothing is in it."""
        root = self.model or PREFERRED
        if not self.listed and not self.below(root):
            root = "."
        paths = self.below(root)
        return (kind_of(self._found(paths, root)), root) if paths else None

    def below(self, root: str) -> set[str]:
        """Return the paths of the files in a folder, or of the one file that is there instead."""
        begin = _begin(root)
        return {path for path in self.objects if path.startswith(begin) or path == root}

    def modified(self, path: str) -> float:
        """Return when a file was written: by the boot file's list, else by OBS."""
        modified = self.known.get(path, {}).get("modified")
        return float(modified) if isinstance(modified, int | float) else self.objects[path].modified

    def model_at(self, kind: ModelKind, root: str, *, compute_hashes: bool) -> ModelInObs:
        """Return the files of a folder as a model."""
        paths = self.below(root)
        if root == "." and self.listed:  # beside it in the output folder is MODEL_DIR
            paths = {path for path in paths if path.partition("/")[0] in boot_work_folder.OWN}
        begin = "" if root in paths else _begin(root)
        files = [self._file(path, path.removeprefix(begin), compute_hashes=compute_hashes) for path in sorted(paths)]
        unsafe = unsafe_to_load(kind.value, self._found(paths, root))
        return ModelInObs(kind.value, "." if root in paths else root, read_listing(files, kind.value), unsafe)

    def _file(self, path: str, inside: str, *, compute_hashes: bool) -> dict[str, Any]:
        each = self.objects[path]
        if path in self.known:
            sha256 = self.known[path].get("sha256")
        else:
            sha256 = _sha256(self.store, each.key) if compute_hashes else None
        return {"path": inside, "key": each.key, "size": each.size, "sha256": sha256}

    def _found(self, paths: Iterable[str], root: str) -> Iterator[FoundFile]:
        for path in paths:
            inside = path if path == root else path.removeprefix(_begin(root))
            yield FoundFile(inside, self.objects[path].size, _head(self.known.get(path, {}).get("head")))


def _begin(root: str) -> str:
    return "" if root == "." else f"{root}/"


def _head(written: object) -> bytes:
    try:
        return base64.b64decode(written, validate=True) if isinstance(written, str) else b""
    except ValueError:
        return b""


def _read_list(store: ObjectStore, listed: StoredObject | None) -> tuple[dict[str, dict[str, Any]], str]:
    """Return the boot file's entries by path, and the name of ``MODEL_DIR``.

    Both are empty if the list is missing or cannot be read; an earlier boot file did not write the name.
    """
    if listed is None or listed.size > _MAX_LIST_BYTES:
        return {}, ""
    with store.read(listed.key, 0) as (_, chunks):
        written = b"".join(chunks)
    try:
        read = json.loads(written)
        model = read.get("model")
        return {each["path"]: each for each in read["files"]}, model if isinstance(model, str) else ""
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}, ""


def _sha256(store: ObjectStore, key: str) -> str:
    digest = hashlib.sha256()
    with store.read(key, 0) as (_, chunks):
        for chunk in chunks:
            digest.update(chunk)
    return digest.hexdigest()
