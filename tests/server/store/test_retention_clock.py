# SPDX-License-Identifier: Apache-2.0
"""A clock that jumps removes no job before its time, and the retention of every job ends."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from airflow_provider_jobapi.server.config import Settings
from airflow_provider_jobapi.server.store import layout
from airflow_provider_jobapi.server.store.clients import ClientRegistry
from airflow_provider_jobapi.server.store.database import Database
from airflow_provider_jobapi.server.store.jobs import JobKey, JobRegistry
from airflow_provider_jobapi.server.store.retention_clock import MachineTime, RetentionClock
from airflow_provider_jobapi.server.store.storages import Storages
from airflow_provider_jobapi.training.job_file import JobFile
from airflow_provider_jobapi.training.status import JobState

DAY = timedelta(days=1)
RETENTION = 30 * DAY


class Machine:
    """A machine whose clock can be set, and which can be booted and run for days."""

    def __init__(self, root: Path) -> None:
        self.settings = Settings(root=root)
        layout.prepare_root(root)
        self.database = Database(root / "jobapi.sqlite")
        self.wall = datetime(2026, 11, 21, 12, tzinfo=UTC)
        self.boot, self.uptime = "first", 500.0
        self.start()

    def start(self) -> None:
        """Start a server."""
        clock = RetentionClock(lambda: self.wall, lambda: MachineTime(self.boot, self.uptime))
        self.registry = JobRegistry(self.settings, self.database, Storages(self.settings, self.database), clock=clock)
        self.registry.expire(RETENTION)

    def run(self, span: timedelta) -> None:
        """Let time go by."""
        self.wall += span
        self.uptime += span.total_seconds()

    def reboot(self, off: timedelta = timedelta()) -> None:
        """Boot the machine after it was off."""
        self.boot, self.uptime = uuid.uuid4().hex, 30.0
        self.wall += off

    def submit(self) -> JobKey:
        file = JobFile.model_validate({"job": {"name": "train", "execution": {"command": "true"}}})
        key = self.registry.submit("one", str(uuid.uuid4()), file)[0].key
        self.registry.place(key)
        return key

    def ended(self, finished: datetime | None = None) -> JobKey:
        """A job that has ended."""
        key = self.submit()
        self.registry.finish(key, JobState.SUCCESSFUL, finished=finished or self.wall)
        return key

    def kept(self) -> set[JobKey]:
        """The jobs that are there after the retention was enforced, with their directories."""
        self.registry.expire(RETENTION)
        keys = {job.key for job in self.registry.page("one", 100, None, None)}
        assert all(layout.job_directory(self.settings.root, *key).is_dir() for key in keys)
        return keys


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    root = tmp_path / "root"
    layout.prepare_root(root)
    database = Database(root / "jobapi.sqlite")
    ClientRegistry(Settings(root=root), database).add("one")
    database.close()
    made = Machine(root)
    yield made
    made.database.close()


@pytest.mark.parametrize("jump", [40 * DAY, 29 * DAY, 400 * DAY, -40 * DAY, -400 * DAY])
@pytest.mark.parametrize("when", ["while the server runs", "at its start", "at a boot"])
def test_a_clock_that_jumps_removes_nothing_and_the_retention_ends_in_time(machine, jump, when):
    key = machine.ended()
    machine.run(10 * DAY)
    assert machine.kept() == {key}
    machine.wall += jump
    if when == "at a boot":
        machine.reboot()
    if when != "while the server runs":
        machine.start()
    assert machine.kept() == {key}
    machine.run(19 * DAY)
    assert machine.kept() == {key}
    machine.run(2 * DAY)
    assert machine.kept() == set()


def test_a_clock_that_jumps_and_is_corrected_removes_nothing(machine):
    before = machine.ended()
    machine.run(10 * DAY)
    machine.wall += 40 * DAY
    machine.start()
    wrong = machine.ended()
    machine.run(DAY)
    machine.wall -= 40 * DAY
    after = machine.ended()
    assert machine.kept() == {before, wrong, after}
    machine.run(19 * DAY + timedelta(hours=1))
    assert machine.kept() == {wrong, after}
    machine.run(10 * DAY)
    assert machine.kept() == {after}
    machine.run(DAY)
    assert machine.kept() == set()


def test_a_job_that_ended_before_the_jump_and_is_recorded_after_it_is_kept(machine):
    key = machine.submit()
    finished = machine.wall
    machine.run(timedelta(minutes=1))
    machine.wall += 40 * DAY
    machine.start()
    machine.registry.finish(key, JobState.FAILED, finished=finished)
    assert machine.kept() == {key}
    assert machine.registry.get(*key).finished == finished
    machine.run(31 * DAY)
    assert machine.kept() == set()


def test_a_job_that_ended_in_the_future_is_kept_for_its_retention(machine):
    key = machine.ended(machine.wall + 40 * DAY)
    machine.run(29 * DAY)
    assert machine.kept() == {key}
    machine.run(2 * DAY)
    assert machine.kept() == set()


def test_the_time_in_which_only_the_server_was_down_counts(machine):
    machine.ended()
    machine.run(31 * DAY)
    machine.start()
    assert machine.kept() == set()


def test_the_time_in_which_the_machine_was_off_does_not_count(machine):
    key = machine.ended()
    machine.reboot(off=60 * DAY)
    machine.start()
    assert machine.kept() == {key}


@pytest.mark.parametrize("ahead", [timedelta(), 40 * DAY, -40 * DAY])
def test_a_root_that_moves_to_a_machine_that_is_on_for_long_keeps_its_jobs(machine, ahead):
    """As a volume that Kubernetes attaches to another node, whose clock may be wrong, too."""
    key = machine.ended()
    machine.run(DAY)
    machine.boot, machine.uptime = "of another machine", (300 * DAY).total_seconds()
    machine.wall += ahead
    machine.start()
    assert machine.kept() == {key}
    machine.run(28 * DAY)
    assert machine.kept() == {key}
    machine.run(3 * DAY)
    assert machine.kept() == set()


def test_a_root_of_an_earlier_version_is_measured_by_the_latest_time_in_it(machine):
    old = machine.ended()
    machine.run(20 * DAY)
    young = machine.ended()
    with machine.database.write() as connection:
        connection.exec_driver_sql("DROP TABLE clock")
        connection.exec_driver_sql("DROP TABLE removed_clients")
        connection.exec_driver_sql("ALTER TABLE jobs DROP COLUMN kept_from")
        connection.exec_driver_sql("ALTER TABLE clients DROP COLUMN generation")
        connection.exec_driver_sql("PRAGMA user_version = 3")
    machine.database.close()
    machine.wall += 40 * DAY
    machine.database = Database(machine.settings.root / "jobapi.sqlite")
    machine.start()
    assert machine.kept() == {old, young}
    machine.run(11 * DAY)
    assert machine.kept() == {young}


def test_the_machines_own_time_is_read_from_the_kernel():
    first = MachineTime.read()
    assert first.boot
    assert timedelta() <= MachineTime.read().since(first) < timedelta(minutes=10)
