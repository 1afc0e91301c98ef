# SPDX-License-Identifier: Apache-2.0
"""What the destinations of models share: how a file comes, how it is compared, and what a conflict says."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO

from airflow_provider_jobapi.exceptions import JobConflict
from airflow_provider_jobapi.services.base import ModelFile
from airflow_provider_jobapi.services.files.sources import CHUNK
from airflow_provider_jobapi.services.files.transfers import Task

Download = Callable[[ModelFile, BinaryIO, Callable[[int], None]], None]
"""Downloads one file of the model, verified, into an open local file that is empty."""

Run = Callable[[Sequence[Task]], None]
"""Runs tasks in parallel."""

_BUCKETS = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "wasb", "wasbs", "oss", "obs", "cos", "r2"}
"""Protocols that have no directories; to make one could make a bucket that does not exist."""


def make_parents(target: Any) -> None:
    """Make the directories above a remote file, where its store has directories, as SFTP and HDFS have."""
    if str(getattr(target, "protocol", "")) not in _BUCKETS and hasattr(target.parent, "mkdir"):
        target.parent.mkdir(parents=True, exist_ok=True)


def conflict(location: str, how: str) -> JobConflict:
    """The error for a destination that holds something else."""
    return JobConflict(f"{location} {how}; nothing was changed. Choose another version, or remove it.")


def has_hash(opened: Any, file: ModelFile) -> bool:
    """Whether an open file has the SHA-256 of a model's file; True where that is not known."""
    if file.sha256 is None:
        return True
    digest = hashlib.sha256()
    while chunk := opened.read(CHUNK):
        digest.update(chunk)
    return digest.hexdigest() == file.sha256
