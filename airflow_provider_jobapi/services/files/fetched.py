# SPDX-License-Identifier: Apache-2.0
"""Read a model where it was fetched to: its files by their path, measured but never loaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.services.base import FetchedModel, ModelFile
from airflow_provider_jobapi.services.files.destination_errors import translated_errors
from airflow_provider_jobapi.services.files.sources import Source, measure


def local_root(location: str) -> Path | None:
    """The directory on this machine that a location names; None where it is elsewhere."""
    scheme, separator, path = location.partition("://")
    if not separator or len(scheme) < 2:
        return Path(location).expanduser()
    # The location of a fetched model is a URI; no more of it is one, since "?" and "#" are letters of a file's name.
    return Path(unquote(f"/{path.partition('/')[2]}")) if scheme in {"file", "local"} else None


def measure_below(root: Any) -> dict[str, Source]:
    """Read all files of a model once, for their sizes and hashes.

    :param root: Its directory: a ``Path``, or an object with the methods of ``ObjectStoragePath``.
    :raises InvalidJob: when there is none, or a file cannot be read.
    """
    with translated_errors(root, getattr(root, "conn_id", None)):
        paths = _local_paths(root) if isinstance(root, Path) else _remote_paths(root)
    if not paths:
        raise InvalidJob(f"No file is in {root}: name the directory that a model was fetched to.", field="model")
    return {path: measure(path, root / path) for path in paths}


def as_fetched(location: str, files: Mapping[str, Source]) -> FetchedModel:
    """The measured files as a fetched model, which knows its kind and its hash."""
    return FetchedModel(location, tuple(ModelFile(path, each.size, each.sha256) for path, each in files.items()))


def _local_paths(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if not path.is_dir())


def _remote_paths(root: Any) -> list[str]:
    begin = f"{str(root.path).strip('/')}/"
    try:
        found = root.fs.find(str(root.path), detail=True)
    except FileNotFoundError:
        return []
    names = [name.lstrip("/") for name, each in found.items() if each.get("type") != "directory"]
    return sorted(name[len(begin) :] for name in names if name.startswith(begin) and not name.endswith("/"))
