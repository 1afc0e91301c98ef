# SPDX-License-Identifier: Apache-2.0
"""The end of a job as a task's result, or as one error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from airflow_provider_jobapi._airflow import AirflowFailException, AirflowSensorTimeout
from airflow_provider_jobapi.exceptions import JobFailed, JobStopped, ServiceUnavailable, TrainingError
from airflow_provider_jobapi.services.base import FetchedModel, TrainingService
from airflow_provider_jobapi.training.logs import plain
from airflow_provider_jobapi.training.masking import Masker
from airflow_provider_jobapi.training.status import JobState, JobStatus, Reason
from airflow_provider_jobapi.triggers.event import End, TrainingEvent

LAST_LINES = 20
"""Lines of the job's log that an error quotes."""


def training_result(event: TrainingEvent, status: JobStatus, model: FetchedModel | None = None) -> dict[str, Any]:
    """The result of a task whose job was successful."""
    return {
        "job_id": event.job_id,
        "status": status.status.value,
        "model": model and model.location,
        "metrics": event.metrics,
        "data_version": status.data_version,
    }


def check_result(
    service: TrainingService,
    event: TrainingEvent,
    *,
    killed: bool = False,
    stop_on_timeout: bool = True,
    on_status: Callable[[JobStatus], None] = lambda _: None,
    masker: Masker | None = None,
) -> JobStatus:
    """Read the final status of a job from its service, which counts and not the event; return it when successful.

    :param event: The trigger's event.
    :param killed: Whether Airflow has asked this process to end the task.
    :param stop_on_timeout: Whether to stop the job when a limit has passed; False for a job of another task.
    :param on_status: Called with the status, whatever it is.
    :param masker: Hides the secrets of the job in the status and in the lines that an error quotes.
    :raises AirflowFailException: for an end that no retry can change.
    :raises JobFailed: when a retry may help.
    :raises JobStopped: when a limit of the task has passed, or its worker was killed.
    :raises AirflowSensorTimeout: when a limit has passed and the job is another task's.
    :raises ServiceUnavailable: when the job still runs and cannot be followed.
    """
    masker = masker or Masker()
    status = masker.status(_read_status(service, event, stop_on_timeout=stop_on_timeout))
    on_status(status)
    if status.status is JobState.SUCCESSFUL:
        return status
    job = status.title
    if event.end is End.TIMEOUT and not stop_on_timeout and not status.status.ended:
        raise AirflowSensorTimeout(f"The {event.detail} is over: {job} is {status.status} and goes on.")
    if event.end is End.TIMEOUT and stop_on_timeout:
        if not status.status.ended and not status.stopping:  # else the stop that the trigger sent has worked
            service.stop(event.handle)
        raise JobStopped(f"The {event.detail} is over: {job} was stopped.{_quote_log(service, event, masker)}")
    if status.status is JobState.FAILED:
        _raise_failed(service, event, status, masker)
    if status.status is not JobState.STOPPED:
        raise ServiceUnavailable(
            f"{job} is {status.status} and can no longer be followed: {event.detail or 'its log has ended.'} "
            "A retry goes on with it."
        )
    if killed:
        raise JobStopped(f"{job} was stopped, since its task was killed.")
    advice = " Clear the task to train again." if stop_on_timeout else ""
    raise AirflowFailException(f"{job} was stopped: {status.message or 'the service does not say by whom.'}{advice}")


def _read_status(service: TrainingService, event: TrainingEvent, *, stop_on_timeout: bool) -> JobStatus:
    try:
        return service.status(event.handle)
    except TrainingError as error:
        if event.end is End.OVER:
            raise
        reason = f"The {event.detail} is over." if event.end is End.TIMEOUT else event.detail
        if event.end is End.TIMEOUT and not stop_on_timeout:
            raise AirflowSensorTimeout(f"{reason} The status of job {event.job_id} cannot be read: {error}") from None
        raise ServiceUnavailable(
            f"Job {event.job_id} could not be followed: {reason} Its status cannot be read either: {error} "
            "The job may go on; a retry finds it again."
        ) from None


def _raise_failed(service: TrainingService, event: TrainingEvent, status: JobStatus, masker: Masker) -> NoReturn:
    message = status.describe() + _quote_log(service, event, masker)
    if status.reason == Reason.COMPLETION_TIME_EXCEEDED:
        raise AirflowFailException(message)
    raise JobFailed(message, reason=status.reason, exit_code=status.exit_code)


def _quote_log(service: TrainingService, event: TrainingEvent, masker: Masker) -> str:
    if masker.withhold:
        return ""
    try:
        lines = service.last_lines(event.handle, LAST_LINES)
    except TrainingError:
        return ""
    return (
        "".join(["\nThe last lines of its log:", *(f"\n    {plain(masker.text(line))}" for line in lines)])
        if lines
        else ""
    )
