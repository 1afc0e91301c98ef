# SPDX-License-Identifier: Apache-2.0
"""Tombstones: a small object for each job that was created, for services that forget a job when it is deleted.

Such a service cannot distinguish a deleted job from one that never existed. The tombstone can: it is written when the
job is created, and read where the service does not find the job. Where a service forgets also how a job ended, its last
status is written into the tombstone before the job goes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_provider_jobapi.exceptions import BrokenContract
from airflow_provider_jobapi.services.base import Handle
from airflow_provider_jobapi.services.files.sources import measure
from airflow_provider_jobapi.services.files.stores import ObjectStore

FOLDER = "created"
"""The folder of the tombstones beneath the prefix; no job's own folder has this name."""


@dataclass(frozen=True, slots=True)
class Tombstone:
    """A job that was created.

    :ivar handle: The job's handle, with its ``job_id``.
    :ivar digest: SHA-256 of the job's content.
    :ivar status: The job's last status, as :meth:`~.JobStatus.to_wire` writes it; None while it is not known.
    """

    handle: Handle
    digest: str
    status: Mapping[str, Any] | None = None


def write(store: ObjectStore, prefix: str, tombstone: Tombstone) -> None:
    """Record that a job was created.

    :param prefix: What the keys of the service's own objects begin with.
    """
    known: dict[str, Any] = {"handle": tombstone.handle, "sha256": tombstone.digest}
    if tombstone.status is not None:
        known["status"] = dict(tombstone.status)
    content = json.dumps(known, sort_keys=True)
    store.put(_key(prefix, tombstone.handle["job_id"]), measure("tombstone", content), lambda _: None)


def read(store: ObjectStore, prefix: str, job_id: str) -> Tombstone | None:
    """Read the tombstone of a job; None where no job was created under this id.

    :raises ServiceUnavailable: when the store cannot be read now.
    :raises BrokenContract: when the object is not the tombstone of this job.
    """
    key = _key(prefix, job_id)
    try:
        # A GET, not a HEAD: it is one request in either case, and S3 explains a refusal only in the body.
        with store.read(key, 0) as (_, chunks):
            content = b"".join(chunks)
    except BrokenContract:
        return None
    try:
        read = json.loads(content)
        status = read.get("status")
        known = status if isinstance(status, dict) else None
        tombstone = Tombstone(dict(read["handle"]), str(read["sha256"]), known)
    except (ValueError, KeyError, TypeError, AttributeError):
        tombstone = Tombstone({}, "")
    if tombstone.handle.get("job_id") != job_id:
        raise BrokenContract(f"The object {key} of the storage is not the tombstone of job {job_id}; delete it.")
    return tombstone


def _key(prefix: str, job_id: str) -> str:
    return f"{prefix}/{FOLDER}/{job_id}.json"
