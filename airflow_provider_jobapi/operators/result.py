# SPDX-License-Identifier: Apache-2.0
"""The end of a job as a task's result, or as one error."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from airflow_provider_jobapi._airflow import AirflowFailException, AirflowSensorTimeout
from airflow_provider_jobapi.exceptions import JobFailed, JobStopped, ServiceUnavailable, TrainingError, describe
from airflow_provider_jobapi.services.base import FetchedModel, Handle, TrainingService
from airflow_provider_jobapi.training.logs import plain
from airflow_provider_jobapi.training.masking import Masker
from airflow_provider_jobapi.training.missing_module import advice
from airflow_provider_jobapi.training.status import JobState, JobStatus, Reason
from airflow_provider_jobapi.triggers.event import End, TrainingEvent

LAST_LINES = 20
"""Lines of the job's log that an error quotes."""

LINES_OF_TORCHRUN = 100
"""Lines that are read where torchrun says at the end that the script failed, and not why."""


UNSAFE = (
    "Loading a model of the kind {kind} can run code that is in its files: load it only where you trust the job, and "
    "everything that it used."
)
"""The warning about a model that is, or holds, a pickle."""


def training_result(event: TrainingEvent, status: JobStatus, model: Mapping[str, Any]) -> dict[str, Any]:
    """The result of a task whose job was successful.

    :param model: The facts of its model, see :func:`facts_of`.
    """
    return {
        "job_id": event.job_id,
        "status": status.status.value,
        "model": None,
        "metrics": event.metrics,
        "data_version": status.data_version,
        **model,
    }


def model_facts(model: FetchedModel, log: Any) -> dict[str, Any]:
    """The facts of a model that was fetched, as a result holds them; warns of one that is unsafe to load."""
    unsafe = model.unsafe_to_load
    if unsafe:
        log.warning(UNSAFE.format(kind=model.kind))
    return {
        "model": model.location,
        "model_kind": str(model.kind),
        "model_unsafe": unsafe,
        "model_sha256": model.sha256,
    }


def facts_of(service: TrainingService, handle: Handle, fetched: FetchedModel | None, log: Any) -> dict[str, Any]:
    """The facts of a successful job's model, fetched or left on the service; its kind is None where the job left none.

    Without a kind where the service does not say: what a successful job left is not worth the failure of its task.
    """
    if fetched is not None:
        return model_facts(fetched, log)
    try:
        model = service.model(handle)
    except Exception as error:  # noqa: BLE001 -- a service of another package may raise anything
        log.warning(f"The job was successful; which model it left cannot be read: {describe(error)}")
        return {}
    if model is None:
        return {"model_kind": None, "model_unsafe": False}
    return {"model_kind": str(model.kind), "model_unsafe": model.unsafe_to_load}


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
    lines = _last_lines(service, event, masker)
    tail = lines
    if any("ChildFailedError" in line for line in lines):  # the report of torchrun is longer than what is quoted
        tail = _last_lines(service, event, masker, LINES_OF_TORCHRUN)
    message = f"{status.describe()} {advice(status, tail)}".rstrip() + _quoted(lines)
    if status.reason == Reason.COMPLETION_TIME_EXCEEDED:
        raise AirflowFailException(message)
    raise JobFailed(message, reason=status.reason, exit_code=status.exit_code)


def _quote_log(service: TrainingService, event: TrainingEvent, masker: Masker) -> str:
    return _quoted(_last_lines(service, event, masker))


def _last_lines(
    service: TrainingService, event: TrainingEvent, masker: Masker, count: int = LAST_LINES
) -> tuple[str, ...]:
    if masker.withhold:
        return ()
    try:
        return tuple(plain(masker.text(line)) for line in service.last_lines(event.handle, count))
    except TrainingError:
        return ()


def _quoted(lines: tuple[str, ...]) -> str:
    return "".join(["\nThe last lines of its log:", *(f"\n    {line}" for line in lines)]) if lines else ""
