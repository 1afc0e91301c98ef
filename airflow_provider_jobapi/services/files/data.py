# SPDX-License-Identifier: Apache-2.0
"""The data of a job as its files: what folders have and globs match, each under its relative name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.services.files.folders import found_below, list_folder
from airflow_provider_jobapi.services.files.ignored import Rules
from airflow_provider_jobapi.services.files.sources import unreadable
from airflow_provider_jobapi.training.job import DataSource
from airflow_provider_jobapi.training.parameter_names import entry

_FIELD = "data_input"
_MAGIC = re.compile(r"[*?\[]")


def expand(entries: Iterable[tuple[str, DataSource]]) -> dict[str, DataSource]:
    """The files of a job's data, by their path in the working directory.

    :param entries: Each name and what it stands for: a content, a file, a folder, or a glob, whose files are below the
        name; the name ``.`` is the working directory itself.
    :raises InvalidJob: when a folder is empty, a glob matches nothing, or two files have the same name.
    """
    files: dict[str, DataSource] = {}
    for name, source in entries:
        what = entry("data", name)
        for path, file in _files(name, source, what):
            if path in files and files[path] != file:
                raise InvalidJob(
                    f"{what} has {path}, which is the name of another file as well; give them other names.",
                    field=_FIELD,
                )
            files[path] = file
    return files


def named(path: Any, folder: Path) -> tuple[str, Any]:
    """Give a path the name under which its files keep their own: as written where it is relative, else its last part.

    :param folder: Where a relative path begins.
    """
    source = folder / path if isinstance(path, Path) and not path.is_absolute() else path
    keeps = isinstance(path, Path) and not path.is_absolute() and ".." not in path.parts
    if is_glob(source):
        return (fixed_part(path)[0].as_posix() if keeps else "."), source
    return (path.as_posix() if keeps else str(source.name)), source


def is_glob(source: object) -> bool:
    """Whether a path has wildcards, and no file has that very name."""
    if isinstance(source, str | bytes) or not _MAGIC.search(_parts_text(source)):
        return False
    return not (isinstance(source, Path) and source.exists())


def fixed_part(source: Any) -> tuple[Any, str]:
    """The folder of a glob up to its first wildcard, and the rest of it."""
    parts = source.parts if isinstance(source, Path) else PurePosixPath(_parts_text(source)).parts
    count = next(index for index, part in enumerate(parts) if _MAGIC.search(part))
    below = len(parts) - count
    return source.parents[below - 1], "/".join(parts[count:])


def _parts_text(source: Any) -> str:
    return str(source if isinstance(source, Path) else getattr(source, "path", ""))


def _files(name: str, source: Any, what: str) -> Iterator[tuple[str, DataSource]]:
    if isinstance(source, str | bytes):
        yield name, source
        return
    within = "" if name.strip("/") in {"", "."} else f"{name.rstrip('/')}/"
    if is_glob(source):
        found = _local_matches(source, what) if isinstance(source, Path) else _store_matches(source, what)
        matched = dict(found)
        if not matched:
            raise InvalidJob(f"{what} matches no file: there is none at {source}.", field=_FIELD)
    elif not _is_folder(source):
        yield name, source
        return
    else:
        matched = _folder(source, f"{what} ({source})")
    for path in sorted(matched):
        yield f"{within}{path}", matched[path]


def _folder(source: Any, what: str) -> dict[str, DataSource]:
    found = list_folder(source, Rules.of_data(), what=what).files
    if not found:
        raise InvalidJob(f"{what} has no file.", field=_FIELD)
    return dict(found)


def _is_folder(source: Any) -> bool:
    """Whether a path is one of a folder; of an object store, where there is no object of that name but some below."""
    if isinstance(source, Path):
        return source.is_dir()
    if not hasattr(source, "fs"):
        return False
    try:
        return not source.fs.isfile(source.path) and bool(source.fs.isdir(source.path))
    except Exception:  # noqa: BLE001 -- the file is read next, which reports it
        return False


def _local_matches(source: Path, what: str) -> Iterator[tuple[str, DataSource]]:
    base, pattern = fixed_part(source)
    for match in base.glob(pattern):
        path = match.relative_to(base).as_posix()
        if match.is_dir():
            for below, file in list_folder(match, Rules.of_data(), what=f"{what} ({match})").files.items():
                yield f"{path}/{below}", file
        elif match.is_file():
            yield path, match


def _store_matches(source: Any, what: str) -> Iterator[tuple[str, DataSource]]:
    base, pattern = fixed_part(source)
    try:
        found = source.fs.glob(f"{base.path.rstrip('/')}/{pattern}", detail=True)
    except Exception as error:
        known = unreadable(what, source, error)
        if known is None:
            raise
        raise known from None
    start = base.path.strip("/")
    for key, about in found.items():
        path = key.strip("/").removeprefix(start).lstrip("/")
        if about.get("type") == "directory":
            place = base.joinpath(*path.split("/"))
            for below, _ in found_below(place, what):
                yield f"{path}/{below}", place.joinpath(*below.split("/"))
        elif path and not key.endswith("/"):
            yield path, base.joinpath(*path.split("/"))
