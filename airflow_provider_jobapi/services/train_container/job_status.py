# SPDX-License-Identifier: Apache-2.0
"""The status of a job, of its container, the verdict on its response, and why it was to be stopped. Pure."""

from __future__ import annotations

from typing import Any

from airflow_provider_jobapi.services.train_container import names
from airflow_provider_jobapi.services.train_container.judge import Verdict
from airflow_provider_jobapi.services.train_container.responses import NO_RESPONSE
from airflow_provider_jobapi.services.train_container.states import (
    OUT_OF_MEMORY_CODE,
    TERMINATED_CODE,
    ContainerState,
)
from airflow_provider_jobapi.training.status import JobState, JobStatus, Reason

_PAUSED = "Its container is paused: let it go on on the engine, or stop the job."
_TERMINATED = "It was ended by SIGTERM (143): by somebody, or by its engine, as Docker does after a crash of its own."
_MAYBE_LOST = "Where the daemon of Docker was down when the train ended, what it printed meanwhile is lost."


def status_of(container: ContainerState, verdict: Verdict | None, stop: tuple[str, str] | None) -> JobStatus:
    """Return the status of a job.

    :param verdict: On a command that has ended; None where its output cannot be read any more.
    :param stop: Why it was to be stopped: the reason and a sentence.
    """
    known: dict[str, Any] = {
        "container_id": container.id[:12],
        "job_id": container.labels.get(names.JOB_ID, ""),
        "name": container.labels.get(names.NAME, ""),
        "submission_time": container.created,
        "start_time": container.started,
        "finish_time": container.finished,
        "exit_code": container.exit_code,
    }
    state, reason, message = _end(container, verdict, stop)
    return JobStatus(**known, status=state, reason=reason, message=message)


def _end(
    container: ContainerState, verdict: Verdict | None, stop: tuple[str, str] | None
) -> tuple[JobState, str | None, str]:
    if verdict is not None and verdict.ok:  # it was done before the stop came
        return JobState.SUCCESSFUL, None, verdict.message
    if container.ended or not container.was_started:
        if stop is not None:
            reason, message = stop
            state = JobState.FAILED if reason == Reason.COMPLETION_TIME_EXCEEDED else JobState.STOPPED
            return state, reason, message
        if not container.ended:
            return JobState.PENDING, None, "Its container was created and is not started yet."
    if not container.ended:
        return container.job_state, None, _PAUSED if container.word == "paused" else ""
    if verdict is None:
        message = f"Its container is {container.word}: the engine could not keep or tidy it up. {container.error}"
        return JobState.FAILED, Reason.LOST, message.rstrip()
    said = verdict.message
    if container.exit_code == OUT_OF_MEMORY_CODE and not container.out_of_memory:
        said = f"{said} {_maybe_memory(container)}"
    elif container.exit_code == TERMINATED_CODE:
        said = f"{said} {_TERMINATED}"
    elif verdict.reason == NO_RESPONSE:
        said = f"{said} {_MAYBE_LOST}"
    return verdict.state, verdict.reason, said


def _maybe_memory(container: ContainerState) -> str:
    """Say why a container was perhaps killed: Podman does not say whether it was for its memory."""
    limit = "which is unlimited" if container.memory is None else f"whose limit was {_mebibytes(container.memory)}"
    return (
        f"It was killed (SIGKILL), most often for its use of memory, {limit} (isolation.memory): raise that, or let "
        "the train use less. The engine does not say why; somebody, or the engine's own end, may have killed it, too."
    )


def _mebibytes(size: int) -> str:
    """Format a limit in the words in which it is set."""
    return f"{size / 1024**2:,.0f} MiB"
