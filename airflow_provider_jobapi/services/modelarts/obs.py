# SPDX-License-Identifier: Apache-2.0
"""OBS, the object store that ModelArts jobs use: access to a bucket, and the model below a job's ``train_url``.

The boot file leaves a list of its files with their SHA-256. OBS has no hashes, so to fetch a model, a file that is not
on the list (a boot file of the user leaves none) is read once more to compute its hash.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from airflow_provider_jobapi.exceptions import BrokenContract
from airflow_provider_jobapi.services import settings
from airflow_provider_jobapi.services.base import ModelFile
from airflow_provider_jobapi.services.files.models import read_listing
from airflow_provider_jobapi.services.files.stores import ObjectStore, S3Access, S3Store, StoredObject
from airflow_provider_jobapi.services.modelarts import boot
from airflow_provider_jobapi.services.modelarts.connection import ModelArtsConnection
from airflow_provider_jobapi.training.model import choose, is_marker

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


def model_files(store: ObjectStore, folder: str, *, compute_hashes: bool = True) -> dict[ModelFile, str] | None:
    """Return the files of the job's model and the key of each; None if there is no model.

    :param folder: The key of the output folder, with a ``/`` at its end.
    :param compute_hashes: Whether to read files that are not on the boot file's list; else their ``sha256`` is None.
    """
    objects = {
        each.key.removeprefix(folder): each
        for each in store.list_objects(folder)
        # An empty object whose key ends in "/" stands for a folder, as the console of OBS makes it.
        if each.size or not each.key.endswith("/")
    }
    listed = _read_list(store, objects.pop(boot.FILES, None))
    known = {
        path: listed[path] for path, each in objects.items() if path in listed and listed[path].get("size") == each.size
    }
    chosen = choose((path, _modified(known.get(path), each)) for path, each in objects.items() if is_marker(path))
    if chosen is None:
        return None
    root = "" if chosen.path == "." else f"{chosen.path}/"
    files = {path: each for path, each in objects.items() if path.startswith(root) and not path.endswith(".keep")}

    def sha256(path: str, key: str) -> Any:
        if path in known:
            return known[path].get("sha256")
        return _sha256(store, key) if compute_hashes else None

    return read_listing(
        {"path": path.removeprefix(root), "key": each.key, "size": each.size, "sha256": sha256(path, each.key)}
        for path, each in files.items()
    )


def _read_list(store: ObjectStore, listed: StoredObject | None) -> dict[str, dict[str, Any]]:
    """Return the boot file's entries by path; none if the list is missing or cannot be read."""
    if listed is None or listed.size > _MAX_LIST_BYTES:
        return {}
    with store.read(listed.key, 0) as (_, chunks):
        written = b"".join(chunks)
    try:
        return {each["path"]: each for each in json.loads(written)["files"]}
    except (ValueError, KeyError, TypeError):
        return {}


def _modified(entry: dict[str, Any] | None, each: StoredObject) -> float:
    modified = entry.get("modified") if entry else None
    return float(modified) if isinstance(modified, int | float) else each.modified


def _sha256(store: ObjectStore, key: str) -> str:
    digest = hashlib.sha256()
    with store.read(key, 0) as (_, chunks):
        for chunk in chunks:
            digest.update(chunk)
    return digest.hexdigest()
