# SPDX-License-Identifier: Apache-2.0
"""The records of jobs in S3: that they existed, and how they ended.

Kubernetes forgets a job when its object is deleted, and to stop a job means to delete its object. SageMaker keeps the
job for ever, so its name is never free again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime

from airflow_provider_jobapi.exceptions import TrainingError
from airflow_provider_jobapi.services.base import Handle
from airflow_provider_jobapi.services.files import tombstones
from airflow_provider_jobapi.services.files.stores import S3Store
from airflow_provider_jobapi.services.files.tombstones import Tombstone
from airflow_provider_jobapi.services.retry import Retry
from airflow_provider_jobapi.services.sagemaker_ack.errors import NoCredentials
from airflow_provider_jobapi.training.status import JobState, JobStatus, Reason

WRITE_RETRY = Retry(total=6.0, attempts=3, longest_wait=2.0)
"""For a record, without which a job goes on all the same."""

RECORD_SECONDS = 5.0
"""Seconds that a stop waits until the last status is recorded; a stop must not wait for S3 for long."""

STOPPED_BY_US = "It was stopped by Airflow."


def stopped(status: JobStatus) -> JobStatus:
    """Return the status to record of a job whose object is being deleted: that it is stopped, unless it has ended."""
    if status.status.ended:
        return status
    update = {"status": JobState.STOPPED, "reason": Reason.STOPPED, "message": STOPPED_BY_US}
    return status.model_copy(update=update | {"finish_time": datetime.now(UTC)})


class Records:
    """The records of a bucket. Without credentials of AWS there are none.

    :param store: Opens the bucket.
    :param prefix: What the keys begin with.
    :param retry: How a record is read.
    """

    def __init__(self, store: Callable[[], S3Store], prefix: str, retry: Retry, log: logging.Logger) -> None:
        self._store = store
        self._prefix = prefix
        self._retry = retry
        self._log = log
        self._ended: set[str] = set()

    def read(self, job_id: str) -> Tombstone | None:
        """Return the record of a job; None where there is none."""
        try:
            return self._retry.call(lambda: tombstones.read(self._store(), self._prefix, job_id), self._log)
        except NoCredentials:
            return None

    def created(self, handle: Handle, digest: str) -> None:
        """Record that a job exists."""
        self._write(handle["job_id"], lambda known: Tombstone(handle, digest, None if known is None else known.status))

    def ended(self, handle: Handle, status: JobStatus) -> None:
        """Record how a job ended, or that it is being stopped, which does not replace how it ended."""
        job_id = str(handle["job_id"])
        if job_id in self._ended:
            return

        def record(known: Tombstone | None) -> Tombstone:
            digest = "" if known is None else known.digest
            before = None if known is None else known.status
            kept = before if before is not None and status.reason == Reason.STOPPED else status.to_wire()
            return Tombstone(handle, digest, kept)

        if self._write(job_id, record) and status.reason != Reason.STOPPED:
            self._ended.add(job_id)

    def _write(self, job_id: str, record: Callable[[Tombstone | None], Tombstone]) -> bool:
        """Read and write a record; whether that worked. A failure is logged only: the job does not need the record."""

        def write() -> None:
            store = self._store()
            tombstones.write(store, self._prefix, record(tombstones.read(store, self._prefix, job_id)))

        try:
            WRITE_RETRY.call(write)
        except NoCredentials:
            return False
        except TrainingError as error:
            self._log.warning(
                f"Cannot record job {job_id} in S3: {error} If its TrainingJob is deleted, a retry will not know how "
                "it ended."
            )
            return False
        return True
