# SPDX-License-Identifier: Apache-2.0
"""The record of a job: the row of the database as an object, and its status on the wire."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Row

from airflow_provider_jobapi.server.errors import DeletedJob, UnknownJob
from airflow_provider_jobapi.server.store import layout
from airflow_provider_jobapi.server.store.database import jobs
from airflow_provider_jobapi.training.job import data_version
from airflow_provider_jobapi.training.job_file import JobFile
from airflow_provider_jobapi.training.status import JobState, JobStatus, Reason

WAITING = (jobs.c.state == JobState.PENDING.value) & jobs.c.placed.is_(None)
"""The condition of the PENDING jobs that the engine has no room for yet."""

ENDED = tuple(state.value for state in JobState if state.ended)

ENVIRONMENT_NAME = "environment.txt"
"""The list of the packages that a job has, in its directory."""

PREPARING = "Preparing"
"""The reason of a PENDING job whose inputs are being copied or whose environment is being made."""


class JobKey(NamedTuple):
    """The key of a job: its client and its id."""

    client_id: str
    job_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job as recorded in the database.

    :ivar number: Its place in the order of submission.
    :ivar placed: When the engine had room for it.
    :ivar started: When its command began.
    :ivar storing: When its command had ended and the server began to store its model.
    :ivar kept_from: The beginning of its retention.
    :ivar model: Its model as recorded, see :mod:`~airflow_provider_jobapi.server.store.model_listing`.
    :ivar cycle: What the jobs of one clear cycle of a task have in common.
    :ivar resumed: The job whose checkpoints it got.
    :ivar checkpoints: The bytes of the checkpoints that it left.
    :ivar directory: The directory with its inputs, its work folder and its log.
    """

    key: JobKey
    job_file: JobFile
    state: JobState
    reason: str | None
    message: str
    exit_code: int | None
    submitted: datetime
    placed: datetime | None
    started: datetime | None
    storing: datetime | None
    finished: datetime | None
    kept_from: datetime | None
    gpu_ids: tuple[int, ...]
    stop_requested_by: str | None
    model: dict[str, Any] | None
    directory: Path
    cycle: str | None = None
    resumed: str | None = None
    checkpoints: int | None = None
    number: int = 0

    @property
    def waits(self) -> bool:
        """Whether the engine has had no room for it yet; the same as :data:`WAITING`."""
        return self.state is JobState.PENDING and self.placed is None

    @property
    def prefix(self) -> str:
        """The job's directory in the client's storage."""
        return self.job_file.directory(self.key.job_id)

    @property
    def environment(self) -> str | None:
        """The packages of the job as requirements that install the same; None until its environment is made."""
        try:
            return (self.directory / ENVIRONMENT_NAME).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None

    @property
    def has_environment(self) -> bool:
        """Whether the list of its packages is made."""
        return (self.directory / ENVIRONMENT_NAME).exists()

    def status(self) -> JobStatus:
        """Return the status object of the jobAPI contract."""
        return JobStatus(
            job_id=self.key.job_id,
            name=self.job_file.job.name,
            status=self.state,
            submission_time=self.submitted,
            start_time=self.started,
            finish_time=self.finished,
            message=self.message,
            reason=Reason.STOPPED if self.stop_requested_by and not self.state.ended else self.reason,
            exit_code=self.exit_code,
            storing_time=self.storing,
            data_version=data_version(self.job_file.job.inputs or ()),
            environment=f"jobs/{self.key.job_id}/environment" if self.has_environment else None,
            resumed_from=self.resumed,
            checkpoint_size=self.checkpoints,
        )


def job_from_row(row: Row[Any], directory: Path) -> Job:
    """Make a job from its row.

    :param directory: The root directory of the server.
    """
    key = JobKey(row.client_id, row.job_id)
    return Job(
        key=key,
        job_file=_job_file(row.job_file),
        state=JobState(row.state),
        reason=row.reason,
        message=row.message,
        exit_code=row.exit_code,
        submitted=row.submitted,
        placed=row.placed,
        started=row.started,
        storing=row.storing,
        finished=row.finished,
        kept_from=row.kept_from,
        gpu_ids=tuple(row.gpu_ids),
        stop_requested_by=row.stop_requested_by,
        model=row.model,
        directory=layout.job_directory(directory, *key),
        cycle=row.cycle,
        resumed=row.resumed,
        checkpoints=row.checkpoints,
        number=row.number,
    )


def is_row_of(key: JobKey) -> ColumnElement[bool]:
    """Return the condition that selects the row of a job."""
    return (jobs.c.client_id == key.client_id) & (jobs.c.job_id == key.job_id)


def existing_row(row: Row[Any] | None, key: JobKey) -> Row[Any]:
    """Return the row of a job, or raise an error if the job does not exist.

    :raises UnknownJob: when there is no row.
    :raises DeletedJob: when the job was deleted.
    """
    if row is None:
        raise UnknownJob(key.job_id)
    if row.deleted is not None:
        raise DeletedJob(key.job_id)
    return row


def job_of_key(key: str) -> tuple[str, str]:
    """Return the name and the id of the job to whose directory an object belongs, or two empty texts."""
    parts = key.split("/")
    if len(parts) < 3 or parts[0] != "jobs" or len(parts[1]) < 38 or parts[1][-37] != "-":
        return "", ""
    return parts[1][:-37], parts[1][-36:]


@lru_cache(maxsize=1024)
def _job_file(canonical: str) -> JobFile:
    return JobFile.model_validate_json(canonical)
