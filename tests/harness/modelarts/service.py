# SPDX-License-Identifier: Apache-2.0
"""The ModelArts service of this provider, connected to the double."""

from __future__ import annotations

from typing import Any

from airflow_provider_jobapi.services.base import Handle
from airflow_provider_jobapi.services.modelarts.catalogue import LIST_LIFETIME
from airflow_provider_jobapi.services.modelarts.client import DEFAULT_SEARCH, SearchLimits
from airflow_provider_jobapi.services.modelarts.connection import ModelArtsConnection
from airflow_provider_jobapi.services.modelarts.service import STOP_RETRY, ModelArtsService
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
    stop_retry: Retry = STOP_RETRY,
    search: SearchLimits = DEFAULT_SEARCH,
    list_lifetime: float = LIST_LIFETIME,
    **extra: Any,
) -> ModelArtsService:
    """Return the service for the double; ``extra`` is the connection's."""
    known = double.connection_for(dialect, **extra)
    connection = ModelArtsConnection.of(
        host=known["host"],
        login=login or known["login"],
        password=password or known["password"],
        extra=known["extra"],
    )
    return ModelArtsService(connection, retry=retry, stop_retry=stop_retry, search=search, list_lifetime=list_lifetime)


def job(script: str = "print('hello')\n", name: str = "test", **fields: Any) -> TrainingJob:
    """Return a training job."""
    return TrainingJob.of(name=name, script=script, **fields)


def ended(modelarts_service: ModelArtsService, handle: Handle) -> JobStatus:
    """Wait until a job has ended and return its state."""
    poll(lambda: modelarts_service.status(handle).status.ended, 60, "the job to end")
    return modelarts_service.status(handle)


def started(modelarts_service: ModelArtsService, handle: Handle) -> None:
    """Wait until a job runs."""
    poll(lambda: modelarts_service.status(handle).status is JobState.RUNNING, 30, "the job to run")


def posted(double: ModelArts, job_id: str) -> list[dict[str, Any]]:
    """Return the requests that create a job with this id."""
    told = [each for each in double.requests() if each["method"] == "POST" and each["path"].endswith("/training-jobs")]
    return [each for each in told if job_id in each["body"]]


def created(double: ModelArts, job_id: str) -> list[str]:
    """Return the bodies of those requests that were not refused."""
    return [each["body"] for each in posted(double, job_id) if each["status"] in {None, 200, 201}]
