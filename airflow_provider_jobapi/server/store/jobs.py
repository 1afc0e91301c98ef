# SPDX-License-Identifier: Apache-2.0
"""Record the jobs of a server. Each change of state is one transaction, and the id of a deleted job stays used."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, func, literal, select, update

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.server.config import Settings
from airflow_provider_jobapi.server.errors import DeletedJob, JobStillActive, ResourcesExceeded, UnknownJob
from airflow_provider_jobapi.server.store import layout
from airflow_provider_jobapi.server.store.active_jobs import ActiveJobs, JobStates
from airflow_provider_jobapi.server.store.checkpoints import Checkpoints
from airflow_provider_jobapi.server.store.database import Database, Moment, after_commit, jobs
from airflow_provider_jobapi.server.store.job_record import (
    ENDED,
    PREPARING,
    WAITING,
    Job,
    JobKey,
    existing_row,
    is_row_of,
    job_from_row,
    job_of_key,
)
from airflow_provider_jobapi.server.store.leftovers import Leftovers
from airflow_provider_jobapi.server.store.requirement_lines import Installs
from airflow_provider_jobapi.server.store.retention_clock import RetentionClock
from airflow_provider_jobapi.server.store.set_aside import SetAside
from airflow_provider_jobapi.server.store.storages import Storages
from airflow_provider_jobapi.server.store.submission import Submissions
from airflow_provider_jobapi.training.job_file import JobFile, Resources, directory
from airflow_provider_jobapi.training.job_limits import JobLimits
from airflow_provider_jobapi.training.status import JobState, Reason

__all__ = ["Job", "JobKey", "JobRegistry"]

_ACTIVE = (JobState.PENDING.value, JobState.RUNNING.value)


class JobRegistry:
    """The jobs of all clients.

    :param capacity: The most that one job may ask for; None where the engine's own queue decides.
    :param clock: The clock of the retention.
    :ivar active: The jobs that have not ended, in memory after :meth:`hold_active`.
    """

    def __init__(
        self,
        settings: Settings,
        database: Database,
        storages: Storages,
        capacity: Resources | None = None,
        clock: RetentionClock | None = None,
    ) -> None:
        self._clock = clock or RetentionClock()
        self._settings = settings
        self._database = database
        self._storages = storages
        self._submissions = Submissions(settings, database, storages, capacity, self._accepted)
        self.leftovers = Leftovers(settings, database, storages, self._clock)
        self.checkpoints = Checkpoints(settings, database, storages)
        self._states = JobStates()
        self._listeners: list[Callable[[JobKey], None]] = []
        self.active = ActiveJobs()
        self.why_waiting: Callable[[JobKey], str | None] = lambda _key: None  # the runner knows it
        self.has_python_2 = False  # the runner knows the Pythons, and the package indexes
        self.installs = Installs(urls=settings.allow_requirement_urls)

    @property
    def limits(self) -> JobLimits:
        """The limits that a job is checked against before its files are uploaded."""
        return replace(self._submissions.limits, python=None if self.has_python_2 else 3)

    def hold_active(self) -> None:
        """Hold the jobs that have not ended in memory from now on. No other process may change jobs then."""
        with self._database.write() as connection:  # nothing is committed until they are loaded
            after_commit(connection, partial(self.active.load, self._not_ended(connection)))

    def on_change(self, listener: Callable[[JobKey], None]) -> None:
        """Call a listener after each new job and each change, in the thread that committed it."""
        self._listeners.append(listener)

    def submit(self, client_id: str, job_id: str, job_file: JobFile, cycle: str | None = None) -> tuple[Job, bool]:
        """Accept a job. Return it, and False if it was accepted before.

        :param cycle: What the jobs of one clear cycle of a task have in common; a job continues those before it.
        :raises InvalidJob: when the job is invalid in itself.
        :raises ServerError: ``JobIdTaken``, ``DeletedJob``, ``ResourcesExceeded``, ``MissingInput``, ``ChangedInput``,
            ``QueueFull`` or ``OutOfSpace``.
        """
        key = JobKey(client_id, job_id)
        try:
            new = self._submissions.submit(
                key,
                job_file,
                cycle,
                has_python_2=self.has_python_2,
                installs=self.installs,
                check=self.checkpoints.check_resume,
            )
        except (InvalidJob, ResourcesExceeded) as error:
            raise self._refusal(key, job_file, error) from None
        if not new:
            return self.get(*key), False
        self._submissions.used_ids(client_id).add(job_id)
        self._notify(key)
        return self._found(key), True

    def _accepted(self, row: Row[Any]) -> None:
        job = job_from_row(row, self._settings.root)
        self._states.begin(job.key)
        self.active.put(job)

    def _refusal(
        self, key: JobKey, job_file: JobFile, error: InvalidJob | ResourcesExceeded
    ) -> InvalidJob | ResourcesExceeded:
        """Free the files of a job that is refused for good; returns the error that says so."""
        if not self.leftovers.free_uploads(key, job_file.job.name):
            return error
        return type(error)(f"{error} The files that were uploaded for it are removed.", field=error.field)

    def get(self, client_id: str, job_id: str) -> Job:
        """Return a job of a client.

        :raises UnknownJob: when the client never submitted it.
        :raises DeletedJob: when it was deleted.
        """
        return self.explained(self._found(JobKey(client_id, job_id)))

    def _found(self, key: JobKey) -> Job:
        if (job := self.active.get(key)) is not None:
            return job
        with self._database.read() as connection:
            row = self._row(connection, key)
        return self._job(self._existing(row, key))

    def explained(self, job: Job) -> Job:
        """Return a job with the reason why it waits, where it waits."""
        message = self.why_waiting(job.key) if job.waits else None
        return job if message is None else replace(job, message=message)

    def state(self, key: JobKey) -> JobState | None:
        """Return the state of a job from memory, or None where :meth:`get` must read it. Never blocks."""
        return self._states.get(key)

    def page(self, client_id: str, limit: int, after: str | None, status: JobState | None) -> list[Job]:
        """Return a page of the jobs of a client, the newest first.

        :param after: The id of the job after which the page begins.
        :raises UnknownJob: when there is no job with the id ``after``.
        """
        query = select(jobs).where(jobs.c.client_id == client_id, jobs.c.deleted.is_(None))
        if status is not None:
            query = query.where(jobs.c.state == status.value)
        with self._database.read() as connection:
            if after is not None:
                row = self._row(connection, JobKey(client_id, after))
                if row is None:
                    raise UnknownJob(after)
                query = query.where(jobs.c.number < row.number)
            rows = connection.execute(query.order_by(jobs.c.number.desc()).limit(limit)).all()
        return [self.explained(self._job(row)) for row in rows]

    def waiting(self) -> list[Job]:
        """Return the PENDING jobs of all clients that are not placed, in the order of their submission."""
        return self._known().waiting()

    def placed(self) -> list[Job]:
        """Return the jobs of all clients that are placed and have not ended, in the order of their submission."""
        return self._known().placed()

    def set_waiting_reason(self, key: JobKey, message: str, reason: str | None = None) -> None:
        """Record why a PENDING job does not run yet."""
        self._update(key, (JobState.PENDING.value,), {"message": message, "reason": reason})

    def set_resumed(self, key: JobKey, job_id: str | None) -> None:
        """Record whose checkpoints a job got."""
        self._update(key, (*_ACTIVE, *ENDED), {"resumed": job_id})

    def set_storing(self, key: JobKey, since: datetime, message: str) -> None:
        """Record that the command of a RUNNING job has succeeded and that its model is being stored.

        :param since: When the command ended.
        """
        self._update(key, (JobState.RUNNING.value,), {"message": message, "storing": since})

    def place(self, key: JobKey, gpu_ids: tuple[int, ...] = (), message: str = "") -> bool:
        """Record that an engine has room for a waiting job. Return False if the job does not wait any more.

        :param gpu_ids: The numbers of the GPUs that the engine granted.
        :param message: What is done until the job runs.
        """
        values = {"placed": datetime.now(UTC), "gpu_ids": list(gpu_ids), "reason": PREPARING, "message": message}
        return self._move(key, (JobState.PENDING.value,), values, WAITING)

    def start(self, key: JobKey, started: datetime) -> bool:
        """Record that the command of a placed job runs. Return False if the job is not PENDING any more.

        :param started: When the command began.
        """
        values = {"state": JobState.RUNNING.value, "started": started, "reason": None, "message": ""}
        return self._move(key, (JobState.PENDING.value,), values, ~WAITING)

    def finish(
        self,
        key: JobKey,
        state: JobState,
        *,
        reason: str | None = None,
        message: str = "",
        exit_code: int | None = None,
        model: dict[str, Any] | None = None,
        started: datetime | None = None,
        finished: datetime | None = None,
        work: int | None = None,
        checkpoints: int | None = None,
    ) -> bool:
        """Record the end of a job. Return False if it has ended already.

        :param model: The answer of ``GET …/model``, for a job with a model.
        :param started: When its command began, for a job that :meth:`start` was not called for.
        :param finished: When it ended; by default now.
        :param work: The bytes of its work folder, where it is kept; they count to its client.
        :param checkpoints: The bytes of the checkpoints that it left, where it left some; they count, too.
        """
        values: dict[str, Any] = {"state": state.value, "reason": reason, "message": message, "exit_code": exit_code}
        values |= {"model": model, "finished": finished or datetime.now(UTC), "work": work}
        values["checkpoints"] = checkpoints
        if started:
            values["started"] = func.coalesce(jobs.c.started, literal(started, Moment))
        return self._move(key, _ACTIVE, values)

    def request_stop(self, key: JobKey, by: str) -> Job:
        """Stop a job: at once if it waits, through the runner if it is placed. A job that has ended does not change.

        :param by: The client or the person that stops it.
        :raises UnknownJob: when the client never submitted it.
        :raises DeletedJob: when it was deleted.
        """
        self.get(*key)
        stopped = {"state": JobState.STOPPED.value, "reason": Reason.STOPPED.value, "finished": datetime.now(UTC)}
        stopped |= {"message": f"Stopped by {by} before it began.", "stop_requested_by": by}
        if not self._move(key, (JobState.PENDING.value,), stopped, WAITING):
            asked = {"stop_requested_by": by, "message": f"Stopping, as {by} asks."}
            self._move(key, _ACTIVE, asked, jobs.c.stop_requested_by.is_(None))
        return self.get(*key)

    def delete(self, key: JobKey) -> None:
        """Remove a job that has ended, with its log and its files. Its id stays used.

        :raises UnknownJob: when the client never submitted it.
        :raises DeletedJob: when it was deleted before.
        :raises JobStillActive: when it has not ended, or its supervisor still runs.
        """
        storage, home = self._storages.of(key.client_id), layout.job_directory(self._settings.root, *key)
        with self._database.write() as connection:
            row = self._existing(self._row(connection, key), key)
            if row.state not in ENDED:
                detail = f"The job {key.job_id} is {row.state}: stop it first, then delete it."
                raise JobStillActive(detail)
            if layout.is_running(home):
                raise JobStillActive(f"The supervisor of the job {key.job_id} still runs: wait until it has ended.")
            self.checkpoints.refuse_delete(connection, key)
            place = directory(row.name, key.job_id)
            freed = storage.remove_job(connection, key.job_id, place)
            self.leftovers.discount(connection, key)
            self.checkpoints.discount(connection, key)
            emptied = {"deleted": datetime.now(UTC), "job_file": "", "message": "", "model": None}
            connection.execute(update(jobs).where(is_row_of(key)).values(emptied))
        self._states.forget(key)
        storage.blobs.delete(freed)
        layout.remove_tree(home)
        self._notify(key)

    def expire(self, retention: timedelta) -> int:
        """Remove the jobs that ended longer ago than the retention, and return how many."""
        with self._database.write() as connection:
            before = self._clock.look(connection) - retention
            old = (jobs.c.deleted.is_(None), jobs.c.state.in_(ENDED), jobs.c.kept_from < before)
            keys = [JobKey(*row) for row in connection.execute(select(jobs.c.client_id, jobs.c.job_id).where(*old))]
        count = 0
        for key in keys:
            with suppress(JobStillActive, DeletedJob):
                self.delete(key)
                count += 1
        return count

    def sweep(self, client_id: str, aside: SetAside | None = None) -> None:
        """Set aside the directories that the database does not know, and remove those of deleted jobs.

        A directory whose lock is held stays where it is. Call it while nothing is submitted.

        :param aside: Where unknown directories go; by default to a folder of their own.
        """
        aside = aside or SetAside(self._settings.root)
        with self._database.read() as connection:
            query = select(jobs.c.job_id, jobs.c.deleted).where(jobs.c.client_id == client_id)
            known = {row.job_id: row.deleted is not None for row in connection.execute(query)}
        used = self._submissions.used_ids(client_id)
        used.complete(known)
        folder = layout.client_directory(self._settings.root, client_id) / "jobs"
        for place in folder.iterdir() if folder.exists() else ():
            deleted = known.get(place.name)
            if deleted is False or layout.is_locked(place):
                continue
            if deleted:
                layout.remove_tree(place)
                continue
            if used.was_accepted(place):
                used.add(place.name)
            aside.move(place)

    def unknown_running(self, client_id: str) -> list[Path]:
        """Return the directories of jobs that run although the database does not know them."""
        home = layout.client_directory(self._settings.root, client_id)
        known = {job.directory for job in self.placed()}
        return [place for place in layout.running_jobs(home) if place not in known]

    def check_write(self, client_id: str) -> Callable[[Connection, str], None]:
        """Return the check for writes to a client's storage.

        It refuses to change the inputs of an active job, and to write into the directory of a deleted job.
        """

        def check(connection: Connection, key: str) -> None:
            name, job_id = job_of_key(key)
            row = self._row(connection, JobKey(client_id, job_id)) if job_id else None
            if row is None or row.name != name:
                return
            if row.deleted is not None:
                raise DeletedJob(job_id)
            if row.state in _ACTIVE:
                detail = f"{key!r} belongs to the job {job_id}, which is {row.state}: wait until it ends, or stop it."
                raise JobStillActive(detail)

        return check

    def _existing(self, row: Row[Any] | None, key: JobKey) -> Row[Any]:
        """Return the row of a job, or raise an error if the job does not exist or the database has forgotten it."""
        if row is None:
            self._submissions.refuse_used_id(key)
        return existing_row(row, key)

    def _move(self, key: JobKey, states: tuple[str, ...], values: dict[str, Any], *also: ColumnElement[bool]) -> bool:
        """Change a job in one of some states as :meth:`_update` does, and notify the listeners."""
        moved = self._update(key, states, values, *also)
        if moved:
            self._notify(key)
        return moved

    def _update(self, key: JobKey, states: Iterable[str], values: dict[str, Any], *also: ColumnElement[bool]) -> bool:
        """Change a job in one of some states, in the database and then in memory; returns whether it was in one."""
        with self._database.write() as connection:
            if finished := values.get("finished"):
                values = values | {"kept_from": self._clock.kept_from(connection, finished)}
            query = update(jobs).where(is_row_of(key), jobs.c.state.in_(states), jobs.c.deleted.is_(None), *also)
            # Read again and not by RETURNING, which SQLite has from 3.35 on; RHEL 9 has 3.34.
            changed = connection.execute(query.values(values)).rowcount
            row = self._row(connection, key) if changed else None
            if row is not None:
                after_commit(connection, partial(self._committed, row))
                if kept := (values.get("work") or 0) + (values.get("checkpoints") or 0):
                    self._storages.of(key.client_id).count(connection, kept)
        return row is not None

    def _committed(self, row: Row[Any]) -> None:
        self.active.put(self._job(row))

    def _notify(self, key: JobKey) -> None:
        for listener in self._listeners:
            listener(key)

    def _known(self) -> ActiveJobs:
        if self.active.loaded:
            return self.active
        with self._database.read() as connection:
            return ActiveJobs().load(self._not_ended(connection))

    def _not_ended(self, connection: Connection) -> list[Job]:
        active = select(jobs).where(jobs.c.state.in_(_ACTIVE), jobs.c.deleted.is_(None)).order_by(jobs.c.number)
        return [self._job(row) for row in connection.execute(active)]

    def _row(self, connection: Connection, key: JobKey) -> Row[Any] | None:
        return connection.execute(select(jobs).where(is_row_of(key))).one_or_none()

    def _job(self, row: Row[Any]) -> Job:
        job = job_from_row(row, self._settings.root)
        self._states.remember(job.key, job.state)
        return job
