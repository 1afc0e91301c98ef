# SPDX-License-Identifier: Apache-2.0
"""Accept jobs: check them, keep their inputs as they are, and record them.

The inputs are linked before the transaction that records the job, which only compares that they are still the same. So
a job with thousands of inputs holds the write lock for a moment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select

from airflow_provider_jobapi.server.config import Settings
from airflow_provider_jobapi.server.errors import ChangedInput, DeletedJob, JobIdTaken, QueueFull
from airflow_provider_jobapi.server.store import layout
from airflow_provider_jobapi.server.store.database import Database, after_commit, jobs
from airflow_provider_jobapi.server.store.job_record import WAITING, JobKey, existing_row, is_row_of
from airflow_provider_jobapi.server.store.job_validation import (
    check_inputs,
    check_requirements_in,
    check_runnable,
    choose_inputs,
)
from airflow_provider_jobapi.server.store.objects import ClientStorage, StoredObject
from airflow_provider_jobapi.server.store.requirement_lines import Installs
from airflow_provider_jobapi.server.store.set_aside import SetAside
from airflow_provider_jobapi.server.store.storages import Storages
from airflow_provider_jobapi.server.store.used_ids import UsedIds
from airflow_provider_jobapi.training.job_file import MOST_INPUTS, JobFile, Resources
from airflow_provider_jobapi.training.job_limits import JobLimits
from airflow_provider_jobapi.training.status import JobState

_ACCEPTED = "Accepted; it starts as soon as there is room for it."
_ATTEMPTS = 5
"""How often inputs are linked that change at the same time."""

Chosen = Sequence[tuple[str, StoredObject]]


class Submissions:
    """The submits of a server.

    :param capacity: The most that one job may ask for; None where the engine's own queue decides.
    :param on_accepted: Called with the row of each new job when it is committed.
    :ivar limits: The limits that a client can check a job against.
    """

    def __init__(
        self,
        settings: Settings,
        database: Database,
        storages: Storages,
        capacity: Resources | None = None,
        on_accepted: Callable[[Row[Any]], None] = lambda _: None,
    ) -> None:
        self._settings = settings
        self._database = database
        self._storages = storages
        self._capacity = capacity
        self._on_accepted = on_accepted
        self._ids = _Ids()
        has = capacity or JobLimits()
        self.limits = JobLimits(has.cpus, has.gpus, has.memory)

    def submit(
        self,
        key: JobKey,
        job_file: JobFile,
        cycle: str | None = None,
        *,
        has_python_2: bool = False,
        installs: Installs | None = None,
        check: Callable[[str, JobFile], None] = lambda *_: None,
    ) -> bool:
        """Accept a job. Return False if it was accepted before.

        :param cycle: What the jobs of one clear cycle of a task have in common.
        :param check: Called with the client and the job file of a new job; raises InvalidJob where it is none.
        :param has_python_2: Whether one of the server's Pythons is Python 2.7.
        :param installs: What the server installs.

        :raises InvalidJob: when the job is invalid in itself.
        :raises ServerError: ``JobIdTaken``, ``DeletedJob``, ``ResourcesExceeded``, ``MissingInput``, ``ChangedInput``,
            ``QueueFull`` or ``OutOfSpace``.
        """
        with self._ids.hold(key):
            for _ in range(_ATTEMPTS):
                with self._database.read() as connection:
                    if self._is_known(connection, key, job_file):
                        return False
                self.refuse_used_id(key)
                check_runnable(job_file, self._capacity, has_python_2=has_python_2)
                check_inputs([file.path for file in job_file.job.inputs or ()])
                check(key.client_id, job_file)
                try:
                    if self._accept(key, job_file, cycle, self._choose(key, job_file, installs or Installs())):
                        return True
                except FileNotFoundError:  # an input was replaced or deleted in the meantime
                    if not layout.client_directory(self._settings.root, key.client_id).exists():
                        raise  # or the client was removed
        raise ChangedInput("The inputs of the job change while it is submitted: upload them, then submit it again.")

    def refuse_used_id(self, key: JobKey) -> None:
        """Raise DeletedJob for an id that was used according to the disk, and that has no row in the database."""
        if key.job_id in self.used_ids(key.client_id):
            raise DeletedJob(key.job_id, forgotten=True)

    def used_ids(self, client_id: str) -> UsedIds:
        """Return the ids that a client has used."""
        return UsedIds(layout.client_directory(self._settings.root, client_id))

    def _choose(self, key: JobKey, job_file: JobFile, installs: Installs) -> Chosen:
        storage, place = self._storages.of(key.client_id), job_file.directory(key.job_id)
        with self._database.read() as connection:
            self._check_queue(connection, key.client_id)
            there = storage.objects_below(connection, place, 2 * MOST_INPUTS)
        chosen = choose_inputs(job_file, place, there)
        check_requirements_in(chosen, storage.blobs, installs)
        return chosen

    def _accept(self, key: JobKey, job_file: JobFile, cycle: str | None, chosen: Chosen) -> bool:
        """Link the inputs of a job and record it. Return False where an input was changed in the meantime.

        :raises FileNotFoundError: when an input was deleted in the meantime.
        """
        home = layout.job_directory(self._settings.root, *key)
        storage = self._storages.of(key.client_id)
        values: dict[str, Any] = {"client_id": key.client_id, "job_id": key.job_id, "name": job_file.job.name}
        values |= {"digest": job_file.digest(), "job_file": job_file.canonical().decode(), "gpu_ids": []}
        values |= {"cycle": cycle, "resume_from": job_file.job.resume_from or None}
        values |= {"keep_checkpoints": job_file.job.keep_checkpoints or None}
        self._make_place(home)
        accepted = False
        try:
            storage.link_inputs(chosen, home / "inputs")
            accepted = self._record(key, values, storage, chosen)
        finally:
            if not accepted:
                layout.remove_tree(home)
        return accepted

    def _record(self, key: JobKey, values: dict[str, Any], storage: ClientStorage, chosen: Chosen) -> bool:
        values |= {"state": JobState.PENDING.value, "message": _ACCEPTED, "submitted": datetime.now(UTC)}
        try:
            with self._database.write() as connection:
                self._check_queue(connection, key.client_id)
                connection.execute(insert(jobs).values(values))
                row = connection.execute(select(jobs).where(is_row_of(key))).one()
                if not storage.record_inputs(connection, key.job_id, chosen):
                    raise _Changed
                after_commit(connection, partial(self._on_accepted, row))
        except _Changed:
            return False
        return True

    def _make_place(self, home: Path) -> None:
        """Make the directory of a new job; what a submit that crashed left there is set aside."""
        if home.exists() and not SetAside(self._settings.root).move(home):
            raise DeletedJob(home.name, forgotten=True)
        layout.make_job_directory(home)

    def _is_known(self, connection: Connection, key: JobKey, job_file: JobFile) -> bool:
        row: Row[Any] | None = connection.execute(select(jobs).where(is_row_of(key))).one_or_none()
        if row is None:
            return False
        existing_row(row, key)
        if row.digest != job_file.digest():
            raise JobIdTaken(
                f"The id {key.job_id} belongs to another job, {row.name!r} of {row.submitted:%Y-%m-%d %H:%M:%S} UTC: "
                "submit this one under an id of its own.",
            )
        return True

    def _check_queue(self, connection: Connection, client_id: str) -> None:
        query = select(func.count()).where(jobs.c.client_id == client_id, WAITING)
        count = connection.execute(query).scalar_one()
        if count >= self._settings.queue_bound:
            raise QueueFull(
                f"{count} jobs of this client are waiting, which is the limit: submit this one again later."
            )


class _Changed(Exception):
    """An input was changed while it was linked; the transaction is rolled back."""


class _Ids:
    """Lets one submit of an id proceed at a time."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._held: dict[JobKey, tuple[Lock, int]] = {}

    @contextmanager
    def hold(self, key: JobKey) -> Iterator[None]:
        with self._lock:
            lock, count = self._held.get(key, (Lock(), 0))
            self._held[key] = lock, count + 1
        try:
            with lock:
                yield
        finally:
            with self._lock:
                lock, count = self._held.pop(key)
                if count > 1:
                    self._held[key] = lock, count - 1
