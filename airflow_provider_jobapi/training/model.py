# SPDX-License-Identifier: Apache-2.0
"""Choose the SavedModel among the files that a job leaves."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

MARKERS = frozenset({"saved_model.pb", "saved_model.pbtxt"})
"""A directory that holds one of these files is a SavedModel."""

PREFERRED = "model"
"""The directory of the model below the working directory; ``MODEL_DIR`` names it."""


_UNFINISHED = re.compile(r"temp-(\d+|b'\d+')")
"""As TensorFlow names the directory of an export that is not whole yet; on Python 3, TensorFlow 1 writes b'…'."""


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


def is_unfinished(directory: str) -> bool:
    """Whether a directory is the temporary one of an Estimator's export, which is renamed when the export is whole."""
    return any(_UNFINISHED.fullmatch(part) for part in PurePosixPath(directory).parts)


def choose(markers: Iterable[tuple[str, float]], preferred: str = PREFERRED) -> ModelChoice | None:
    """Choose the SavedModel by the marker files that a job wrote; None without any.

    Models below ``model/`` come first, since that is where jobs are asked to write; then the newest, since
    estimators write one directory an export; then the one nearest to the top. What an export that did not end left
    comes last.

    :param markers: Path relative to the working directory (with ``/``) and modification time of every marker file.
    :param preferred: The name of the directory that ``MODEL_DIR`` named.
    """
    newest: dict[str, float] = {}
    for path, modified in markers:
        directory = str(PurePosixPath(path).parent)
        newest[directory] = max(modified, newest.get(directory, modified))

    def rank(directory: str) -> tuple[bool, bool, float, int, str]:
        parts = PurePosixPath(directory).parts
        return is_unfinished(directory), parts[:1] != (preferred,), -newest[directory], len(parts), directory

    ranked = sorted(newest, key=rank)
    return ModelChoice(ranked[0], tuple(ranked[1:])) if ranked else None
