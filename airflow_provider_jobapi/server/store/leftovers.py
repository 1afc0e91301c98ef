# SPDX-License-Identifier: Apache-2.0
"""Free what jobs leave in the storage of their client: uploads that no job uses, and the work folders that stay.

The work folder of a job that was not successful, or wrote no model, counts to its client like an object, and has a
shorter life than the job.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import timedelta

from sqlalchemy import Connection, func, select, update

from airflow_provider_jobapi.server.config import Settings
from airflow_provider_jobapi.server.store import layout
from airflow_provider_jobapi.server.store.database import Database, Moment, clients, jobs, objects
from airflow_provider_jobapi.server.store.disk import tree_size
from airflow_provider_jobapi.server.store.job_record import ENDED, JobKey, is_row_of, job_of_key
from airflow_provider_jobapi.server.store.retention_clock import RetentionClock
from airflow_provider_jobapi.server.store.storages import Storages
from airflow_provider_jobapi.server.store.used_ids import UsedIds
from airflow_provider_jobapi.training.job_file import directory
from airflow_provider_jobapi.training.status import JobState

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_REMOVED = "Its work folder was removed: --work-retention is over."


class Leftovers:
    """What jobs leave in the storages of all clients.

    :param clock: The clock of the retention.
    """

    def __init__(
        self, settings: Settings, database: Database, storages: Storages, clock: RetentionClock | None = None
    ) -> None:
        self._settings = settings
        self._database = database
        self._storages = storages
        self._clock = clock or RetentionClock()

    def free_uploads(self, key: JobKey, name: str) -> bool:
        """Remove the files that were uploaded for a job that was not accepted; returns whether there were any."""
        storage, place = self._storages.of(key.client_id), directory(name, key.job_id)
        with self._database.write() as connection:
            row = connection.execute(select(jobs.c.name).where(is_row_of(key))).one_or_none()
            if (row is not None and row.name == name) or self._is_used(key) or storage.is_written(place):
                return False
            freed = storage.remove_job(connection, key.job_id, place)
        storage.blobs.delete(freed)
        return bool(freed)

    def expire_uploads(self) -> int:
        """Remove the files that were uploaded long ago for jobs that were never accepted; returns of how many jobs."""
        with self._database.write() as connection:
            before = self._clock.look(connection) - self._settings.upload_retention
            begun = self._clock.comparable_from(connection)
        if begun is not None and begun > before:
            return 0
        with self._database.read() as connection:
            last = func.max(objects.c.modified, type_=Moment())
            place = func.substr(objects.c.key, 1, 5 + func.instr(func.substr(objects.c.key, 6), "/"))
            query = select(objects.c.client_id, place, last).where(objects.c.key > "jobs/", objects.c.key < "jobs0")
            found = connection.execute(query.group_by(objects.c.client_id, place)).all()
            known = {tuple(row) for row in connection.execute(select(jobs.c.client_id, jobs.c.name, jobs.c.job_id))}
        count = 0
        for client_id, prefix, modified in found:
            name, job_id = job_of_key(f"{prefix}file")
            if modified < before and _UUID.fullmatch(job_id) and (client_id, name, job_id) not in known:
                count += self.free_uploads(JobKey(client_id, job_id), name)
        return count

    def expire_work(self, retention: timedelta) -> int:
        """Remove the work folders of jobs that ended longer ago than their retention, and return how many."""
        with self._database.write() as connection:
            before = self._clock.look(connection) - retention
            old = (jobs.c.work.is_not(None), jobs.c.deleted.is_(None), jobs.c.kept_from < before)
            keys = [JobKey(*row) for row in connection.execute(select(jobs.c.client_id, jobs.c.job_id).where(*old))]
        return sum(map(self._remove_work, keys))

    def _remove_work(self, key: JobKey) -> bool:
        home = layout.job_directory(self._settings.root, *key)
        if layout.is_running(home):
            return False
        layout.remove_tree(home / "work")
        if (home / "work").exists():
            return False
        with self._database.write() as connection:
            self.discount(connection, key)
            message = func.trim(jobs.c.message + f" {_REMOVED}")
            connection.execute(update(jobs).where(is_row_of(key), jobs.c.deleted.is_(None)).values(message=message))
        return True

    def discount(self, connection: Connection, key: JobKey) -> None:
        """Count the work folder of a job no longer."""
        size = connection.execute(select(jobs.c.work).where(is_row_of(key))).scalar_one_or_none()
        connection.execute(update(jobs).where(is_row_of(key)).values(work=None))
        if size:
            self._storages.of(key.client_id).count(connection, -size)

    def sweep(self, client_id: str) -> None:
        """Count the work folders that are there, as after an update, and remove what was not to stay.

        Call it before :meth:`ClientStorage.sweep`, which sums up what the client uses.
        """
        query = select(jobs.c.job_id, jobs.c.state, jobs.c.work, jobs.c.checkpoints).where(
            jobs.c.client_id == client_id, jobs.c.state.in_(ENDED), jobs.c.deleted.is_(None)
        )
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        sizes: list[tuple[JobKey, int]] = []
        for row in rows:
            home = layout.job_directory(self._settings.root, client_id, row.job_id)
            work, state = home / "work", home / "state"
            if layout.is_running(home):
                continue
            if row.state == JobState.SUCCESSFUL.value and row.checkpoints is None and state.exists():
                layout.remove_tree(state)
                layout.remove_tree(home / "last-checkpoints")
            if not work.exists() or row.work is not None:
                continue
            if row.state == JobState.SUCCESSFUL.value:
                layout.remove_tree(work)
            else:
                sizes.append((JobKey(client_id, row.job_id), tree_size(work)))
        self._record(sizes)

    def _record(self, sizes: Iterable[tuple[JobKey, int]]) -> None:
        for key, size in sizes:
            with self._database.write() as connection:
                connection.execute(update(jobs).where(is_row_of(key)).values(work=size))
                mine = clients.c.client_id == key.client_id
                connection.execute(update(clients).where(mine).values(used=clients.c.used + size))

    def _is_used(self, key: JobKey) -> bool:
        return key.job_id in UsedIds(layout.client_directory(self._settings.root, key.client_id))
