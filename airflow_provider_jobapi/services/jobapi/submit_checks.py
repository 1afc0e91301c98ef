# SPDX-License-Identifier: Apache-2.0
"""Refuse a job before its files are uploaded: for what no jobAPI server can do, and for what this one would refuse."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from airflow_provider_jobapi.exceptions import InvalidJob, JobConflict
from airflow_provider_jobapi.training import requirement_text
from airflow_provider_jobapi.training.job import REQUIREMENTS_NAME, TrainingJob
from airflow_provider_jobapi.training.job_features import check_features
from airflow_provider_jobapi.training.job_file import JobFile

if TYPE_CHECKING:
    from airflow_provider_jobapi.services.files.sources import Source
    from airflow_provider_jobapi.services.jobapi.client import Client
    from airflow_provider_jobapi.services.jobapi.contract import Request, Storage

_RESUME_FROM = "job.resumeFrom"


def check_supported(job: TrainingJob) -> None:
    """Refuse what a jobAPI server cannot do: a job without a script, several nodes, service options.

    :raises InvalidJob: naming the field.
    """
    other = "choose the connection of another service"
    if not job.program:
        raise InvalidJob(f"script is missing: a jobAPI server runs a script; give one, or {other}.", field="script")
    if job.nodes > 1:
        raise InvalidJob(
            f"nodes is {job.nodes}, and a jobAPI server runs a job on one machine; set nodes to 1, or {other}.",
            field="nodes",
        )
    if job.service_options:
        raise InvalidJob(
            f"service_options has {min(job.service_options)!r}, and a jobAPI server has no options; remove it, or "
            f"{other}.",
            field="service_options",
        )


def check_known(job_file: JobFile, sources: Mapping[str, Source], storage: Storage) -> None:
    """Refuse a job with fields or requirements that the server does not know.

    A jobAPI that is its own storage reads the requirements itself; SAP's, whose storage is S3, gives them to pip.

    :raises InvalidJob: naming the field and what to do.
    """
    check_features(job_file, storage.features)
    if REQUIREMENTS_NAME in sources:
        with sources[REQUIREMENTS_NAME].open(lambda _: None) as file:
            text = file.read().decode("utf-8", "replace")
        requirement_text.check_known(text, storage.features, has_pip=storage.protocol != "http")


def check_resume(client: Client, submit: Request) -> None:
    """Refuse a job whose ``resume_from`` names a job without checkpoints.

    Only the server knows whose checkpoints such a job would get, and it looks at them before it looks at the files.
    So the job is submitted without its files, which the server refuses in any case; a submit that it accepts, since
    the files are there already, is the submit of this job.

    :raises InvalidJob: with the words of the server.
    """
    try:
        client.send(submit)
    except InvalidJob as error:
        if error.field == _RESUME_FROM:
            raise
    except JobConflict:
        pass  # other files are there, which the upload replaces
