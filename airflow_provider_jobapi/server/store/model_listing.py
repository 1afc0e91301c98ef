# SPDX-License-Identifier: Apache-2.0
"""The files of a job's model as the server lists them, in pages.

A model of few files is recorded in the job's row. A model of many is recorded in ``model.json`` in the job's directory,
so that the row stays small.
"""

from __future__ import annotations

import json
import os
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from airflow_provider_jobapi.training.model import ModelKind

LISTING = "model.json"

ROW_FILES = 1_000
"""The most files that are recorded in the row of a job."""

PAGE_FILES = 10_000
PAGE_BYTES = 2 * 2**20
"""The most files of a page, and about how many bytes their description has at most."""


def record(directory: Path, content: dict[str, Any]) -> dict[str, Any]:
    """Record a model; returns what the row of its job holds.

    :param directory: The job's directory.
    :param content: The model: its kind, root and files; ``whole`` is all of ``MODEL_DIR``, where that is more.
    """
    count = len(content["files"]) + len(content.get("whole", {}).get("files", ()))
    if count <= ROW_FILES:
        return content
    incoming = directory / f"{LISTING}.new"
    with incoming.open("w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(json.dumps(content))
        file.flush()
        os.fsync(file.fileno())
    incoming.replace(directory / LISTING)
    return {name: value for name, value in content.items() if name not in {"files", "whole"}} | {"listing": LISTING}


def read(directory: Path, recorded: dict[str, Any], kind: str | None = None) -> dict[str, Any]:
    """Read a model as it was recorded, also by an earlier version of this server.

    :param directory: The job's directory.
    :param recorded: What the row of its job holds.
    :param kind: The kind that is asked for. Where the model is a SavedModel in ``MODEL_DIR`` beside other files, all of
        ``MODEL_DIR`` is returned for ``files``, and for the kind that it is as a whole.
    """
    if recorded.get("listing"):
        recorded = json.loads((directory / LISTING).read_bytes())
    content = {"kind": ModelKind.SAVED_MODEL.value, "root": recorded["path"]} | recorded
    whole = content.pop("whole", None)
    if whole is not None and kind in {ModelKind.FILES.value, whole["kind"]}:
        return {**whole, "path": whole["root"]}
    return content


def page(files: Sequence[dict[str, Any]], after: str | None, limit: int) -> tuple[list[dict[str, Any]], str | None]:
    """Return files of a listing that is sorted by their paths, and the path after which the next page begins.

    :param after: The path after which the page begins.
    :param limit: The most files of the page.
    """
    begin = 0 if after is None else bisect_right([file["path"] for file in files], after)
    found: list[dict[str, Any]] = []
    size = 0
    for file in files[begin : begin + limit]:
        size += sum(len(str(value).encode("utf-8", "replace")) + 10 for value in file.values())
        if found and size > PAGE_BYTES:
            break
        found.append(file)
    return found, found[-1]["path"] if begin + len(found) < len(files) else None
