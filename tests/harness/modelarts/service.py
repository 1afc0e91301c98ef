# SPDX-License-Identifier: Apache-2.0
"""Our own client of ModelArts, set up for a test against the double."""

from __future__ import annotations

from typing import Any

from airflow_provider_jobapi.services.base import Handle
from airflow_provider_jobapi.services.modelarts.connection import ModelArtsConnection
from airflow_provider_jobapi.services.modelarts.service import ModelArtsService
from airflow_provider_jobapi.services.retry import Retry
from airflow_provider_jobapi.training.job import TrainingJob
from airflow_provider_jobapi.training.status import JobState, JobStatus
from tests.harness.modelarts.double import ModelArts
from tests.harness.server import poll


def service(
    double: ModelArts,
    dialect: str,
    *,
    retry: Retry | None = None,
    login: str | None = None,
    password: str | None = None,
    **extra: Any,
) -> ModelArtsService:
    """The service behind the double."""
    known = double.connection_for(dialect, **extra)
    connection = ModelArtsConnection.of(
        host=known["host"],
        login=login or known["login"],
        password=password or known["password"],
        extra=known["extra"],
    )
    return ModelArtsService(connection, retry=retry)


def job(script: str = "print('hello')\n", name: str = "test", **fields: Any) -> TrainingJob:
    """A training job."""
    return TrainingJob.of(name=name, script=script, **fields)


def ended(asking: ModelArtsService, handle: Handle) -> JobStatus:
    """Where a job stands once it has ended."""
    poll(lambda: asking.status(handle).status.ended, 60, "the job to end")
    return asking.status(handle)


def started(asking: ModelArtsService, handle: Handle) -> None:
    """Wait until a job runs."""
    poll(lambda: asking.status(handle).status is JobState.RUNNING, 30, "the job to run")


def posted(double: ModelArts, job_id: str) -> list[dict[str, Any]]:
    """The requests for a job of this id."""
    told = [each for each in double.requests() if each["method"] == "POST" and each["path"].endswith("/training-jobs")]
    return [each for each in told if job_id in each["body"]]


def created(double: ModelArts, job_id: str) -> list[str]:
    """The bodies of those of them that were not refused."""
    return [each["body"] for each in posted(double, job_id) if each["status"] in {None, 200, 201}]
