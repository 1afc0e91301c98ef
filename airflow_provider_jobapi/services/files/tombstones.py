# SPDX-License-Identifier: Apache-2.0
"""What is kept in OBS of each job that was created: that it was, and by which handle it is found.

ModelArts does not tell a job that was deleted from one that never was, and neither dialect lists the other's jobs. So
the connection's bucket holds a small object for each of our ids, which is read where a search finds no job.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from airflow_provider_jobapi.exceptions import BrokenContract
from airflow_provider_jobapi.services.base import Handle
from airflow_provider_jobapi.services.files.sources import measure
from airflow_provider_jobapi.services.files.stores import ObjectStore

FOLDER = "created"
"""Beneath the connection's prefix; no job's own folder can be called so."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A job that was created.

    :ivar digest: The SHA-256 over all that the job is.
    """

    handle: Handle
    digest: str


def write(store: ObjectStore, prefix: str, mark: Mark) -> None:
    """Keep that a job was created."""
    told = {"handle": mark.handle, "sha256": mark.digest}
    store.put(_key(prefix, mark.handle["job_id"]), measure("mark", json.dumps(told, sort_keys=True)), lambda _: None)


def read(store: ObjectStore, prefix: str, job_id: str) -> Mark | None:
    """The job that was created with our id; None where none was, or its mark was deleted.

    :raises ServiceUnavailable: when OBS cannot be read now.
    :raises BrokenContract: when the mark is none of ours.
    """
    key = _key(prefix, job_id)
    try:
        # One request in either case; and other than to a HEAD, S3 tells why it refuses a GET.
        with store.read(key, 0) as (_, chunks):
            written = b"".join(chunks)
    except BrokenContract:
        return None
    try:
        told = json.loads(written)
        mark = Mark(dict(told["handle"]), str(told["sha256"]))
    except (ValueError, KeyError, TypeError):
        mark = Mark({}, "")
    if mark.handle.get("job_id") != job_id:
        raise BrokenContract(f"The object {key} of OBS does not name the job {job_id} that it is kept of; delete it.")
    return mark


def _key(prefix: str, job_id: str) -> str:
    return f"{prefix}/{FOLDER}/{job_id}.json"
