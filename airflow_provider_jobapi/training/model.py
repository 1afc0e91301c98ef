# SPDX-License-Identifier: Apache-2.0
"""Choose the SavedModel among the files that a job leaves."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

MARKERS = frozenset({"saved_model.pb", "saved_model.pbtxt"})
"""A directory that holds one of these files is a SavedModel."""

PREFERRED = "model"
"""The directory of the model below the working directory; ``MODEL_DIR`` names it."""


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """The SavedModel of a job, and the others that were not chosen.

    ``path`` and ``others`` are directories relative to the job's working directory, ``"."`` for that directory itself.
    """

    path: str
    others: tuple[str, ...]


def is_marker(path: str) -> bool:
    """Whether a file makes its directory a SavedModel."""
    return PurePosixPath(path).name in MARKERS


def choose(markers: Iterable[tuple[str, float]]) -> ModelChoice | None:
    """Choose the SavedModel by the marker files that a job wrote; None without any.

    Models below ``model/`` come first, since that is where jobs are asked to write; then the newest, since
    estimators write one directory an export; then the one nearest to the top.

    :param markers: Path relative to the working directory (with ``/``) and modification time of every marker file.
    """
    newest: dict[str, float] = {}
    for path, modified in markers:
        directory = str(PurePosixPath(path).parent)
        newest[directory] = max(modified, newest.get(directory, modified))

    def rank(directory: str) -> tuple[bool, float, int, str]:
        parts = PurePosixPath(directory).parts
        return parts[:1] != (PREFERRED,), -newest[directory], len(parts), directory

    ranked = sorted(newest, key=rank)
    return ModelChoice(ranked[0], tuple(ranked[1:])) if ranked else None
