# SPDX-License-Identifier: Apache-2.0
"""Know whose checkpoints a job continues, and which are needed no longer.

The jobs of one clear cycle of a task have a key in common, which their client sends in the header ``Job-Cycle``. Each
job that ended without success leaves its checkpoints for the next one of its cycle, and for a job that names it. What
they take counts to the client like its objects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, func, select, update

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.server.config import Settings
from airflow_provider_jobapi.server.errors import JobStillActive
from airflow_provider_jobapi.server.store import layout
from airflow_provider_jobapi.server.store.database import Database, jobs
from airflow_provider_jobapi.server.store.job_record import ENDED, Job, JobKey, is_row_of
from airflow_provider_jobapi.server.store.storages import Storages
from airflow_provider_jobapi.training.job_file import JobFile
from airflow_provider_jobapi.training.status import JobState

_FIELD = "job.resumeFrom"
_NAMES = ("number", "client_id", "job_id", "state", "cycle", "checkpoints", "keep_checkpoints", "resume_from")
_COLUMNS: list[ColumnElement[Any]] = [jobs.c[name] for name in _NAMES]
_ACTIVE = jobs.c.state.not_in(ENDED) & jobs.c.deleted.is_(None)


class Checkpoints:
    """The checkpoints of the jobs of all clients.

    :param remove: Removes the checkpoints in the directory of a job.
    """

    def __init__(self, settings: Settings, database: Database, storages: Storages) -> None:
        self._settings = settings
        self._database = database
        self._storages = storages
        self.remove: Callable[[Path], None] = lambda home: layout.remove_tree(home / "state")

    def earlier(self, job: Job) -> list[Path]:
        """The directories of the jobs whose checkpoints a job continues, the newest first."""
        with self._database.read() as connection:
            found = self._earlier(connection, job.key, job.cycle)
            if wanted := job.job_file.job.resume_from:
                found += self._chain(connection, JobKey(job.key.client_id, wanted))
        return [layout.job_directory(self._settings.root, *key) for key in dict.fromkeys(found)]

    def check_resume(self, client_id: str, job_file: JobFile) -> None:
        """Refuse a job that is to continue one without checkpoints.

        :raises InvalidJob: with what to do.
        """
        wanted = job_file.job.resume_from
        if not wanted:
            return
        key = JobKey(client_id, wanted)
        with self._database.read() as connection:
            row = connection.execute(select(jobs).where(is_row_of(key))).one_or_none()
            usable = row is not None and row.state in ENDED and bool(self._chain(connection, key))
        if not usable:
            raise InvalidJob(f"job.resumeFrom names job {wanted}, {_why_unusable(row)}", field=_FIELD)

    def refuse_delete(self, connection: Connection, key: JobKey) -> None:
        """Refuse to delete a job whose checkpoints another one is to get.

        :raises JobStillActive: naming that one.
        """
        query = select(jobs.c.job_id).where(
            _ACTIVE, jobs.c.client_id == key.client_id, jobs.c.resume_from == key.job_id, jobs.c.started.is_(None)
        )
        if (other := connection.execute(query).scalars().first()) is not None:
            raise JobStillActive(f"The job {other} continues job {key.job_id} and has not started: delete it later.")

    def collect(self, client_id: str) -> int:
        """Remove the checkpoints of a client that are needed no longer; returns of how many jobs. Safe to repeat."""
        mine = (jobs.c.client_id == client_id) & jobs.c.deleted.is_(None)
        has = jobs.c.checkpoints.is_not(None)
        cycles = select(jobs.c.cycle).where(mine, has, jobs.c.cycle.is_not(None))
        concerned = has | jobs.c.cycle.in_(cycles) | (_ACTIVE & jobs.c.resume_from.is_not(None))
        with self._database.read() as connection:
            rows = list(connection.execute(select(*_COLUMNS).where(mine, concerned)))
        names = {row.resume_from for row in rows if row.state not in ENDED}
        resumed = {row for row in rows if row.job_id in names}
        needless = [row for row in rows if row.checkpoints is not None and not _is_needed(row, rows, resumed)]
        for row in needless:
            self._remove(JobKey(row.client_id, row.job_id))
        return len(needless)

    def room(self, job: Job) -> int:
        """The bytes that a job's checkpoints may take, with those of its cycle that they replace."""
        mine = (jobs.c.client_id == job.key.client_id) & (jobs.c.cycle == job.cycle) & jobs.c.deleted.is_(None)
        with self._database.read() as connection:
            replaced = connection.execute(
                select(func.coalesce(func.sum(jobs.c.checkpoints), 0)).where(mine)
            ).scalar_one()
        return max(0, self._storages.of(job.key.client_id).room() + int(replaced))

    def discount(self, connection: Connection, key: JobKey) -> None:
        """Count the checkpoints of a job no longer."""
        size = connection.execute(select(jobs.c.checkpoints).where(is_row_of(key))).scalar_one_or_none()
        connection.execute(update(jobs).where(is_row_of(key)).values(checkpoints=None))
        if size:
            self._storages.of(key.client_id).count(connection, -size)

    def _remove(self, key: JobKey) -> None:
        home = layout.job_directory(self._settings.root, *key)
        if layout.is_running(home):
            return
        self.remove(home)
        with self._database.write() as connection:
            self.discount(connection, key)

    def _chain(self, connection: Connection, key: JobKey) -> list[JobKey]:
        """A job that is named, those that it continued, and those that continued it, where they have checkpoints."""
        row = connection.execute(select(jobs).where(is_row_of(key), jobs.c.deleted.is_(None))).one_or_none()
        if row is None:
            return []
        own = [key] if row.checkpoints is not None else []
        return own + self._earlier(connection, key, row.cycle) + self._of_cycle(connection, key.client_id, row.cycle)

    def _earlier(self, connection: Connection, key: JobKey, cycle: str | None) -> list[JobKey]:
        """The earlier jobs of a cycle that have checkpoints, the newest first."""
        number = select(jobs.c.number).where(is_row_of(key)).scalar_subquery()
        return self._of_cycle(connection, key.client_id, cycle, jobs.c.number < number)

    @staticmethod
    def _of_cycle(
        connection: Connection, client_id: str, cycle: str | None, *conditions: ColumnElement[bool]
    ) -> list[JobKey]:
        if not cycle:
            return []
        mine = (jobs.c.client_id == client_id) & (jobs.c.cycle == cycle) & jobs.c.deleted.is_(None)
        query = select(jobs.c.client_id, jobs.c.job_id).where(mine, jobs.c.checkpoints.is_not(None), *conditions)
        return [JobKey(*row) for row in connection.execute(query.order_by(jobs.c.number.desc()))]


def held_back(waiting: Sequence[Job], placed: Iterable[Job]) -> dict[JobKey, str]:
    """Why some jobs wait: for an earlier one of their cycle, which is being stopped and may write a checkpoint."""
    asked = [job for job in placed if job.stop_requested_by and job.cycle]
    stopping = {(job.key.client_id, job.cycle): job.key.job_id for job in asked}
    if not stopping:
        return {}
    return {
        job.key: f"It continues job {stopping[job.key.client_id, job.cycle]}, which is being stopped, and starts "
        "when that has ended."
        for job in waiting
        if (job.key.client_id, job.cycle) in stopping
    }


def _is_needed(row: Row[Any], rows: Iterable[Row[Any]], resumed: set[Row[Any]]) -> bool:
    """Whether the checkpoints of a job are the newest of its cycle, and the cycle goes on, or a job is to get them."""
    if row in resumed:
        return True
    others = [other for other in rows if row.cycle and other.cycle == row.cycle and other.number > row.number]
    if any(other.state in ENDED and other.checkpoints is not None for other in others):
        return False
    goes_on = all(each.state != JobState.SUCCESSFUL.value for each in (row, *others))
    return goes_on or bool(row.keep_checkpoints) or any(row.cycle and each.cycle == row.cycle for each in resumed)


def _why_unusable(row: Row[Any] | None) -> str:
    if row is None:
        return "which this client never submitted: name a job of this client."
    if row.deleted is not None:
        return "which was deleted: name another one, or leave resume_from out."
    if row.state not in ENDED:
        return f"which is {row.state}: wait until it has ended, or stop it."
    if row.state == JobState.SUCCESSFUL.value and not row.keep_checkpoints:
        return (
            "which was successful, so that its checkpoints are gone: name another one, or leave resume_from out; "
            "keep_checkpoints keeps them."
        )
    return (
        "which has no whole checkpoint any more: it left none, or a later job of its task was successful. Name another "
        "one, or leave resume_from out."
    )
