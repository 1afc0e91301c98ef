# SPDX-License-Identifier: Apache-2.0
"""The files of a SavedModel as the service lists them. Their names become paths on our side, so none is trusted."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from airflow_provider_jobapi.exceptions import BrokenContract
from airflow_provider_jobapi.services.base import ModelFile
from airflow_provider_jobapi.training.job_file import check_path
from airflow_provider_jobapi.training.model import MARKERS

MOST_FILES = 100_000


def read_listing(entries: Iterable[dict[str, Any]]) -> dict[ModelFile, str]:
    """Read a listing: the files of the model, by their paths inside it, and the key of each in the storage.

    :raises BrokenContract: for a name that climbs, is absolute, or cannot be a file's name everywhere; for one that
        comes twice or is a directory of another; for a listing that is no SavedModel.
    """
    keys: dict[ModelFile, str] = {}
    paths: set[str] = set()
    for entry in entries:
        file, key = _read(entry)
        if file.path in paths:
            raise BrokenContract(f"The service lists {file.path!r} twice in one model; nothing was fetched.")
        paths.add(file.path)
        keys[file] = key
        if len(keys) > MOST_FILES:
            raise BrokenContract(f"The service lists more than {MOST_FILES:,} files in one model; nothing was fetched.")
    for path in paths:
        if above := next((parent for parent in _parents(path) if parent in paths), None):
            raise BrokenContract(f"The service lists {above!r} as a file and as a directory; nothing was fetched.")
    if not paths & MARKERS:
        raise BrokenContract("The service lists a model without a saved_model.pb; nothing was fetched.")
    return keys


def _read(entry: dict[str, Any]) -> tuple[ModelFile, str]:
    path, key, size, sha256 = (entry.get(name) for name in ("path", "key", "size", "sha256"))
    for name, value in (("path", path), ("key", key)):
        if not isinstance(value, str) or not _is_path(value):
            raise BrokenContract(
                f"The service lists a file of the model whose {name} is {repr(value)[:80]}; nothing was fetched."
            )
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise BrokenContract(f"The service lists {path!r} without a size; nothing was fetched.")
    if not isinstance(sha256, str) or not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise BrokenContract(f"The service lists {path!r} without a SHA-256; nothing was fetched.")
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
