# SPDX-License-Identifier: Apache-2.0
"""The checkpoints of jobs, which SageMaker keeps in S3 while a job runs.

``checkpointConfig.s3URI`` is one folder for all jobs of a clear cycle. SageMaker brings what is in it to
``CHECKPOINT_DIR`` before the script starts, and every change of the script's back. So the next job of the cycle, and a
spot job that was interrupted, find what the one before left, and nothing has to be handed over. When a job of the cycle
is successful, there is no next one, and the folder is emptied.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable

from airflow_provider_jobapi.exceptions import InvalidJob, TrainingError
from airflow_provider_jobapi.services.files.stores import S3Store
from airflow_provider_jobapi.services.retry import Retry
from airflow_provider_jobapi.services.sagemaker_ack.connection import SageMakerConnection
from airflow_provider_jobapi.services.sagemaker_ack.handles import JobHandle
from airflow_provider_jobapi.services.sagemaker_ack.storage import bucket_and_key
from airflow_provider_jobapi.training.job import TrainingJob

FOLDER = "checkpoints"
"""The folder of all checkpoints beneath the prefix; no job's own folder has this name."""

MOST_DELETED = 1_000
"""Objects that one request deletes; the limit of S3 (DeleteObjects, API reference)."""

_CYCLE = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/")
"""The name of a folder of checkpoints: a clear cycle, or a job's own id."""


def checkpoint_folder(job: TrainingJob, job_id: str, connection: SageMakerConnection) -> str:
    """Return the URL of the folder of a job's checkpoints, with a ``/`` at its end; empty where it keeps none.

    A script always has one. An image or an algorithm may not expect it, so it has one where the job asks for it.
    """
    asked = job.keep_checkpoints or job.resume_from
    if not job.program and not asked:
        return ""
    return f"s3://{connection.bucket}/{connection.prefix}/{FOLDER}/{job.cycle or job_id}/"


def copy_from(store: S3Store, source: str, target: str, job_id: str) -> int:
    """Copy the checkpoints of another job, inside of S3; returns how many files. What is there already is kept.

    :param source: The URL of the other job's folder.
    :param target: The URL of the job's own folder, in the bucket of the store.
    :param job_id: The other job, for the error.
    :raises InvalidJob: when it left none.
    """
    bucket, begin = bucket_and_key(source)
    own, folder = bucket_and_key(target)
    if bucket != own:
        raise InvalidJob(
            f"resume_from names job {job_id}, whose checkpoints are in the bucket {bucket}, and this connection's "
            f"bucket is {own}: use a connection with that bucket.",
            field="resume_from",
        )
    there = {each.key.removeprefix(folder) for each in store.list_objects(folder)}
    if there:
        return 0
    found = [each.key for each in store.list_objects(begin)]
    if not found:
        raise InvalidJob(
            f"resume_from names job {job_id}, which left no checkpoint in {source}: name another one, or leave it out. "
            "Those of a job that was successful are gone unless it had keep_checkpoints.",
            field="resume_from",
        )
    for key in found:
        store.copy(key, f"{folder}{key.removeprefix(begin)}")
    return len(found)


class PassingCheckpoints:
    """Removes the checkpoints of jobs that were successful.

    :param store: Opens the connection's bucket.
    """

    def __init__(
        self, store: Callable[[], S3Store], connection: SageMakerConnection, retry: Retry, log: logging.Logger
    ) -> None:
        self._store, self._connection = store, connection
        self._retry, self._log = retry, log
        self._done: set[str] = set()

    def remove(self, handle: JobHandle) -> None:
        """Remove those of a job, once; a failure is logged: the job has its model."""
        folder = folder_to_empty(handle, self._connection)
        if not folder or handle.job_id in self._done:
            return
        self._done.add(handle.job_id)
        try:
            count = self._retry.call(lambda: remove(self._store(), folder), self._log)
        except TrainingError as error:
            self._log.warning(
                f"The checkpoints of job {handle.job_id} in {handle.checkpoints} cannot be removed: {error} The user "
                "of the AWS connection needs s3:DeleteObject there; a lifecycle rule of the bucket removes them, too."
            )
            return
        if count:
            self._log.info(
                f"The job was successful; its checkpoints ({count:,} files) are removed. keep_checkpoints keeps them."
            )


def folder_to_empty(handle: JobHandle, connection: SageMakerConnection) -> str:
    """Return the key of the folder of a successful job's checkpoints; empty where they are not ours to remove.

    They are where the job was submitted with the folder of its clear cycle, which this provider has named, and that
    folder is in the connection's own bucket, below its prefix.
    """
    if not handle.passing:
        return ""
    bucket, key = bucket_and_key(handle.checkpoints)
    cycle = key.removeprefix(f"{connection.prefix}/{FOLDER}/")
    own = bucket == connection.bucket and cycle != key and _CYCLE.fullmatch(cycle)
    return key if own else ""


def remove(store: S3Store, folder: str) -> int:
    """Remove the files of a folder; returns how many there were.

    :param folder: Its key, with a ``/`` at its end.
    """
    found = [each.key for each in store.list_objects(folder)]
    for start in range(0, len(found), MOST_DELETED):
        store.delete(found[start : start + MOST_DELETED])
    return len(found)
