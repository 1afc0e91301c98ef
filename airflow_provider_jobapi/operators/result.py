# SPDX-License-Identifier: Apache-2.0
"""How a job ended, as a task's result or as one clear error."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from airflow_provider_jobapi._airflow import AirflowFailException, AirflowSensorTimeout
from airflow_provider_jobapi.exceptions import JobFailed, JobStopped, ServiceUnavailable, TrainingError
from airflow_provider_jobapi.services.base import TrainingService
from airflow_provider_jobapi.training.logs import plain
from airflow_provider_jobapi.training.status import JobState, JobStatus, Reason
from airflow_provider_jobapi.triggers.event import End, TrainingEvent

LAST_LINES = 20
"""The lines of the job's log that its error quotes."""


def judge(
    service: TrainingService,
    told: TrainingEvent,
    *,
    killed: bool,
    owned: bool = True,
    seen: Callable[[JobStatus], None] = lambda _: None,
) -> JobStatus:
    """Read the status again, since the service is to be believed and not the event; answer it when it is a success.

    :param told: What the trigger said.
    :param killed: Whether this very process has stopped the job.
    :param owned: Whether the job is the task's own; another's is never stopped.
    :param seen: Told the status, whatever it is.
    :raises AirflowFailException: for an end that no retry can cure.
    :raises JobFailed: when a retry may help.
    :raises JobStopped: when a limit of the task passed, or its worker was killed.
    :raises AirflowSensorTimeout: when a limit passed and the job is another's.
    :raises ServiceUnavailable: when the job goes on and cannot be followed.
    """
    status = _read(service, told, owned=owned)
    seen(status)
    if status.status is JobState.SUCCESSFUL:
        return status
    job = f"Job {told.job_id} ({status.name})" if status.name else f"Job {told.job_id}"
    if told.end is End.TIMEOUT and not owned and not status.status.ended:
        raise AirflowSensorTimeout(f"The {told.detail} is over: {job} is {status.status} and goes on.")
    if told.end is End.TIMEOUT and owned:
        service.stop(told.handle)
        raise JobStopped(f"The {told.detail} is over: {job} was stopped.{_quote(service, told)}")
    if status.status is JobState.FAILED:
        _failed(service, told, status, job)
    if status.status is not JobState.STOPPED:
        raise ServiceUnavailable(
            f"{job} is {status.status} and can no longer be followed: {told.detail or 'its log has ended.'} "
            "A retry goes on with it."
        )
    if killed:
        raise JobStopped(f"{job} was stopped, since its task was killed.")
    advice = " Clear the task to train anew." if owned else ""
    raise AirflowFailException(
        f"{job} was stopped: {status.message or 'by someone else, who did not say why.'}{advice}"
    )


def _read(service: TrainingService, told: TrainingEvent, *, owned: bool) -> JobStatus:
    try:
        return service.status(told.handle)
    except TrainingError as error:
        if told.end is End.OVER:
            raise
        why = f"The {told.detail} is over." if told.end is End.TIMEOUT else told.detail
        if told.end is End.TIMEOUT and not owned:
            raise AirflowSensorTimeout(f"{why} The status of job {told.job_id} cannot be read: {error}") from None
        raise ServiceUnavailable(
            f"Job {told.job_id} could not be followed: {why} Its status cannot be read either: {error} "
            "The job may go on; a retry finds it again."
        ) from None


def _failed(service: TrainingService, told: TrainingEvent, status: JobStatus, job: str) -> NoReturn:
    code = "" if status.exit_code is None else f", exit code {status.exit_code}"
    message = f"{job} failed: {status.reason or 'no reason given'}{code}. {status.message}".rstrip()
    message += _quote(service, told)
    if status.reason == Reason.COMPLETION_TIME_EXCEEDED:
        raise AirflowFailException(message)
    raise JobFailed(message, reason=status.reason, exit_code=status.exit_code)


def _quote(service: TrainingService, told: TrainingEvent) -> str:
    try:
        lines = service.last_lines(told.handle, LAST_LINES)
    except TrainingError:
        return ""
    return "".join(["\nThe last lines of its log:", *(f"\n    {plain(line)}" for line in lines)]) if lines else ""
