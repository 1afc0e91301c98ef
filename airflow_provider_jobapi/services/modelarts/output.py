# SPDX-License-Identifier: Apache-2.0
"""The SavedModel below a job's ``train_url``.

Our boot file leaves a list of what it put there, with the SHA-256 of each file. OBS tells no hashes, so a file that
is not on the list, as a boot file of the user's leaves none, is read once to learn its hash.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from airflow_provider_jobapi.exceptions import BrokenContract
from airflow_provider_jobapi.services.base import ModelFile
from airflow_provider_jobapi.services.files.listing import read_listing
from airflow_provider_jobapi.services.files.stores import ObjectStore, StoredObject
from airflow_provider_jobapi.services.modelarts import boot
from airflow_provider_jobapi.training.model import choose, is_marker

_LONGEST_LIST = 64 * 1024 * 1024


def place(url: str) -> tuple[str, str]:
    """Bucket and key of a folder of OBS, in any of its spellings: ``/bucket/key/``, ``obs://`` or ``s3://``.

    :raises BrokenContract: when it is none.
    """
    found = re.fullmatch(r"(?:/|(?:obs|s3)://)([^/]+)/(.*[^/])/*", url)
    if found is None:
        raise BrokenContract(f"ModelArts names {url[:200]!r} as the job's output, which is no folder of OBS.")
    return found[1], f"{found[2]}/"


def model_files(store: ObjectStore, folder: str) -> dict[ModelFile, str] | None:
    """The files of the SavedModel, by their paths inside it, and the key of each; None where there is no model.

    :param folder: The key of the output's folder, with a ``/`` at its end.
    """
    there = {each.key.removeprefix(folder): each for each in store.list_objects(folder)}
    told = _told(store, there.pop(boot.FILES, None))
    known = {path: told[path] for path, each in there.items() if path in told and told[path].get("size") == each.size}
    chosen = choose((path, _written(known.get(path), each)) for path, each in there.items() if is_marker(path))
    if chosen is None:
        return None
    inside = "" if chosen.path == "." else f"{chosen.path}/"
    files = {path: each for path, each in there.items() if path.startswith(inside) and not path.endswith(".keep")}
    return read_listing(
        {
            "path": path.removeprefix(inside),
            "key": each.key,
            "size": each.size,
            "sha256": known[path].get("sha256") if path in known else _sha256(store, each.key),
        }
        for path, each in files.items()
    )


def _told(store: ObjectStore, listed: StoredObject | None) -> dict[str, dict[str, Any]]:
    """What the boot file says of its files; nothing where that cannot be read."""
    if listed is None or listed.size > _LONGEST_LIST:
        return {}
    with store.read(listed.key, 0) as (_, chunks):
        written = b"".join(chunks)
    try:
        files = json.loads(written)["files"]
        return {each["path"]: each for each in files}
    except (ValueError, KeyError, TypeError):
        return {}


def _written(told: dict[str, Any] | None, each: StoredObject) -> float:
    modified = told.get("modified") if told else None
    return float(modified) if isinstance(modified, int | float) else each.modified


def _sha256(store: ObjectStore, key: str) -> str:
    digest = hashlib.sha256()
    with store.read(key, 0) as (_, chunks):
        for chunk in chunks:
            digest.update(chunk)
    return digest.hexdigest()
