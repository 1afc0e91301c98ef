# SPDX-License-Identifier: Apache-2.0
"""The checkpoints of jobs, which SageMaker keeps in S3 while a job runs.

``checkpointConfig.s3URI`` is one folder for all jobs of a clear cycle. SageMaker brings what is in it to
``CHECKPOINT_DIR`` before the script starts, and every change of the script's back. So the next job of the cycle, and a
spot job that was interrupted, find what the one before left, and nothing has to be handed over.
"""

from __future__ import annotations

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.services.files.stores import S3Store
from airflow_provider_jobapi.services.sagemaker_ack.connection import SageMakerConnection
from airflow_provider_jobapi.services.sagemaker_ack.storage import bucket_and_key
from airflow_provider_jobapi.training.job import TrainingJob

FOLDER = "checkpoints"
"""The folder of all checkpoints beneath the prefix; no job's own folder has this name."""


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
            f"resume_from names job {job_id}, which left no checkpoint in {source}: name another one, or leave it out.",
            field="resume_from",
        )
    for key in found:
        store.copy(key, f"{folder}{key.removeprefix(begin)}")
    return len(found)
