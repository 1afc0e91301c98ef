# SPDX-License-Identifier: Apache-2.0
"""The transactions of the job registry, on a real database, without a runner that would move the jobs on."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from airflow_provider_jobapi.server.config import Settings
from airflow_provider_jobapi.server.errors import (
    DeletedJob,
    JobIdTaken,
    JobStillActive,
    QueueFull,
    ResourcesExceeded,
    UnknownJob,
)
from airflow_provider_jobapi.server.store import layout
from airflow_provider_jobapi.server.store.clients import ClientRegistry
from airflow_provider_jobapi.server.store.database import Database
from airflow_provider_jobapi.server.store.jobs import JobKey, JobRegistry
from airflow_provider_jobapi.server.store.storages import Storages
from airflow_provider_jobapi.training.job_file import JobFile, Resources
from airflow_provider_jobapi.training.status import JobState, Reason

CAPACITY = Resources(cpus=2, gpus=1, memory=4096)
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


def job_file(name: str = "train", command: str = "true", **more: object) -> JobFile:
    return JobFile.model_validate({"job": {"name": name, "execution": {"command": command, **more}}})


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(root=tmp_path / "root", queue_bound=5)


@pytest.fixture
def registry(settings: Settings) -> Iterator[JobRegistry]:
    layout.prepare_root(settings.root)
    database = Database(settings.root / "jobapi.sqlite")
    ClientRegistry(settings, database).add("one")
    yield JobRegistry(settings, database, Storages(settings, database), CAPACITY)
    database.close()


def submit(registry: JobRegistry, **more: object) -> JobKey:
    job, created = registry.submit("one", str(uuid.uuid4()), job_file(**more))
    assert created
    return job.key


def test_a_submitted_job_waits(registry: JobRegistry, settings: Settings):
    key = submit(registry)
    job = registry.get(*key)
    assert (job.state, job.reason, job.exit_code, job.started, job.finished) == (
        JobState.PENDING,
        None,
        None,
        None,
        None,
    )
    assert job.message
    assert abs(datetime.now(UTC) - job.submitted) < timedelta(seconds=10)
    assert job.directory == settings.root / "clients" / "one" / "jobs" / key.job_id
    assert job.directory.is_dir()
    assert [each.key for each in registry.waiting()] == [key]
    assert registry.placed() == []


def start(registry: JobRegistry, key: JobKey, gpu_ids: tuple[int, ...] = ()) -> None:
    """Bring a waiting job to RUNNING."""
    assert registry.place(key, gpu_ids)
    assert registry.start(key, NOON)


def test_jobs_wait_in_the_order_of_their_submission(registry: JobRegistry):
    keys = [submit(registry, name=f"job-{number}") for number in range(5)]
    assert [job.key for job in registry.waiting()] == keys
    assert [job.key for job in registry.page("one", 10, None, None)] == keys[::-1]
    assert [job.key for job in registry.page("one", 2, keys[3].job_id, None)] == [keys[2], keys[1]]


def test_a_job_goes_through_its_states(registry: JobRegistry):
    key = submit(registry)
    assert registry.place(key, (0,), "The inputs are being copied.")
    job = registry.get(*key)
    assert (job.state, job.reason, job.message) == (JobState.PENDING, "Preparing", "The inputs are being copied.")
    assert (job.gpu_ids, job.started) == ((0,), None)
    assert registry.waiting() == []
    assert registry.placed() == [job]
    assert registry.start(key, NOON)
    job = registry.get(*key)
    assert (job.state, job.reason, job.message, job.started) == (JobState.RUNNING, None, "", NOON)
    registry.set_storing(key, NOON, "storing the model")
    job = registry.get(*key)
    assert (job.message, job.status().to_wire()["storingTime"]) == ("storing the model", "2026-11-21T12:00:00.000Z")
    model = {"path": "model", "prefix": "x", "files": []}
    assert registry.finish(key, JobState.SUCCESSFUL, message="done", exit_code=0, model=model)
    job = registry.get(*key)
    assert (job.state, job.message, job.exit_code, job.model) == (JobState.SUCCESSFUL, "done", 0, model)
    assert job.finished is not None
    assert registry.placed() == registry.waiting() == []


def test_an_ended_job_does_not_change(registry: JobRegistry):
    key = submit(registry)
    assert registry.finish(key, JobState.FAILED, reason=Reason.LOST, message="lost")
    before = registry.get(*key)
    assert not registry.place(key)
    assert not registry.start(key, NOON)
    assert not registry.finish(key, JobState.SUCCESSFUL)
    registry.set_storing(key, NOON, "x")
    registry.set_waiting_reason(key, "x")
    assert registry.request_stop(key, by="somebody") == before


def test_a_running_job_is_not_started_twice_and_has_no_waiting_reason(registry: JobRegistry):
    key = submit(registry)
    assert not registry.start(key, NOON)  # it is not placed
    start(registry, key)
    assert not registry.place(key, (0,))
    assert not registry.start(key, NOON + timedelta(seconds=1))
    registry.set_waiting_reason(key, "waits")
    assert registry.get(*key).message != "waits"


def test_a_waiting_job_is_stopped_at_once(registry: JobRegistry):
    key = submit(registry)
    job = registry.request_stop(key, by="client one")
    assert (job.state, job.reason) == (JobState.STOPPED, Reason.STOPPED)
    assert job.message == "Stopped by client one before it began."
    assert job.finished is not None
    assert not registry.place(key)


@pytest.mark.parametrize("state", [JobState.PENDING, JobState.RUNNING])
def test_a_placed_job_is_marked_and_the_first_stop_request_counts(registry: JobRegistry, state):
    key = submit(registry)
    registry.place(key)
    if state is JobState.RUNNING:
        registry.start(key, NOON)
    assert registry.request_stop(key, by="client one").stop_requested_by == "client one"
    job = registry.request_stop(key, by="another")
    assert (job.state, job.stop_requested_by) == (state, "client one")
    assert (job.status().reason, job.status().outlook) == (Reason.STOPPED, JobState.STOPPED)


@pytest.mark.parametrize("ran", [True, False])
def test_the_end_does_not_change_when_a_job_started(registry: JobRegistry, ran):
    key = submit(registry)
    registry.place(key)
    if ran:
        registry.start(key, NOON)
    later = NOON + timedelta(seconds=1)
    registry.finish(key, JobState.FAILED, started=later)
    assert registry.get(*key).started == (NOON if ran else later)


def test_the_same_job_is_the_same_job(registry: JobRegistry):
    key = submit(registry)
    start(registry, key)
    job, created = registry.submit(*key, job_file())
    assert not created
    assert job.state is JobState.RUNNING


def test_another_job_under_the_id_is_refused(registry: JobRegistry):
    key = submit(registry)
    with pytest.raises(JobIdTaken, match="belongs to another job, 'train'"):
        registry.submit(*key, job_file(command="false"))


@pytest.mark.parametrize("content", ["the same", "another"])
def test_the_id_of_a_deleted_job_stays_used(registry: JobRegistry, content):
    key = submit(registry)
    registry.finish(key, JobState.FAILED)
    registry.delete(key)
    command = "true" if content == "the same" else "false"
    for ask in (
        lambda: registry.get(*key),
        lambda: registry.delete(key),
        lambda: registry.request_stop(key, by="x"),
        lambda: registry.submit(*key, job_file(command=command)),
    ):
        with pytest.raises(DeletedJob):
            ask()
    assert registry.page("one", 10, None, None) == []
    assert registry.state(key) is None


def test_an_active_job_cannot_be_deleted(registry: JobRegistry):
    key = submit(registry)
    for state in ("PENDING", "RUNNING"):
        with pytest.raises(JobStillActive, match=f"is {state}: stop it first"):
            registry.delete(key)
        if state == "PENDING":
            start(registry, key)


def test_a_client_sees_only_its_own_jobs(registry: JobRegistry):
    key = submit(registry)
    stranger = JobKey("two", key.job_id)
    for ask in (
        lambda: registry.get(*stranger),
        lambda: registry.delete(stranger),
        lambda: registry.request_stop(stranger, by="x"),
        lambda: registry.page("two", 10, key.job_id, None),
    ):
        with pytest.raises(UnknownJob):
            ask()
    assert registry.page("two", 10, None, None) == []


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"cpus": 3}, "3 CPUs and this server has 2"),
        ({"gpus": 2}, "2 GPUs and this server has 1"),
        ({"memory": 5000}, "5000 MB of memory and this server has 4096"),
    ],
)
def test_a_job_that_needs_more_than_the_server_has_is_refused(registry: JobRegistry, asked, said):
    with pytest.raises(ResourcesExceeded, match=said) as error:
        submit(registry, resources=asked)
    assert error.value.field == f"job.execution.resources.{next(iter(asked))}"
    submit(registry, resources={"cpus": 2, "gpus": 1, "memory": 4096})


def test_an_engine_with_a_queue_of_its_own_takes_jobs_of_any_size(settings: Settings, registry: JobRegistry):
    unbounded = JobRegistry(settings, registry._database, registry._storages)
    submit(unbounded, resources={"cpus": 4000, "gpus": 100, "memory": 10**9})
    assert len(unbounded.waiting()) == 1


def test_the_queue_of_a_client_is_bounded(registry: JobRegistry):
    keys = [submit(registry) for _ in range(5)]
    with pytest.raises(QueueFull, match="5 jobs of this client are waiting"):
        submit(registry)
    assert not registry.submit(*keys[0], job_file())[1]
    registry.place(keys[0])
    submit(registry)


def test_one_of_racing_submits_creates_the_job(registry: JobRegistry):
    job_id = str(uuid.uuid4())
    barrier, answers = threading.Barrier(8), []

    def race() -> None:
        barrier.wait()
        answers.append(registry.submit("one", job_id, job_file())[1])

    threads = [threading.Thread(target=race) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [False] * 7 + [True]
    assert len(registry.waiting()) == 1


def test_one_of_racing_state_changes_wins(registry: JobRegistry):
    key = submit(registry)
    start(registry, key)
    barrier, answers = threading.Barrier(8), []

    def race(state: JobState) -> None:
        barrier.wait()
        answers.append(registry.finish(key, state, message=state.value))

    states = [JobState.SUCCESSFUL, JobState.FAILED, JobState.STOPPED, JobState.FAILED] * 2
    threads = [threading.Thread(target=race, args=(state,)) for state in states]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [False] * 7 + [True]
    job = registry.get(*key)
    assert job.message == job.state.value
    assert registry.state(key) is job.state


def test_listeners_are_called_after_every_committed_change(registry: JobRegistry):
    heard: list[tuple[JobKey, JobState | None]] = []
    registry.on_change(lambda key: heard.append((key, registry.state(key))))
    key = submit(registry)
    start(registry, key)
    registry.request_stop(key, by="x")
    registry.finish(key, JobState.STOPPED)
    registry.finish(key, JobState.FAILED)
    registry.delete(key)
    states = [JobState.PENDING, JobState.PENDING, JobState.RUNNING, JobState.RUNNING, JobState.STOPPED, None]
    assert heard == [(key, state) for state in states]


def test_a_late_reader_does_not_bring_an_old_state_back(registry: JobRegistry):
    key = submit(registry)
    old = registry.get(*key)
    registry.finish(key, JobState.FAILED)
    registry._states.remember(key, old.state)
    assert registry.state(key) is JobState.FAILED


def test_only_what_ended_long_ago_expires(registry: JobRegistry):
    old, young, going = submit(registry), submit(registry), submit(registry)
    now = datetime.now(UTC)
    registry.finish(old, JobState.SUCCESSFUL, finished=now - timedelta(days=31))
    registry.finish(young, JobState.SUCCESSFUL, finished=now - timedelta(days=29))
    start(registry, going)
    assert registry.expire(timedelta(days=30)) == 1
    assert registry.expire(timedelta(days=30)) == 0
    assert {job.key for job in registry.page("one", 10, None, None)} == {young, going}
    assert not layout.job_directory(registry._settings.root, *old).exists()
    with pytest.raises(DeletedJob):
        registry.get(*old)


def test_jobs_are_the_same_after_a_restart(registry: JobRegistry, settings: Settings):
    key = submit(registry, resources={"cpus": 2, "gpus": 1}, completionTime="20h")
    start(registry, key, (0,))
    registry.request_stop(key, by="client one")
    before = registry.get(*key)
    database = Database(settings.root / "jobapi.sqlite")
    again = JobRegistry(settings, database, Storages(settings, database))
    assert again.placed() == [before]
    assert again.placed()[0].job_file == job_file(resources={"cpus": 2, "gpus": 1}, completionTime="20h")
    database.close()


def test_a_running_job_of_an_earlier_version_is_placed(registry: JobRegistry, settings: Settings):
    key = submit(registry)
    with registry._database.write() as connection:
        connection.exec_driver_sql("ALTER TABLE jobs DROP COLUMN placed")
        connection.exec_driver_sql("UPDATE jobs SET state = 'RUNNING', started = 1")
        connection.exec_driver_sql("PRAGMA user_version = 2")
    database = Database(settings.root / "jobapi.sqlite")
    again = JobRegistry(settings, database, Storages(settings, database))
    assert [job.key for job in again.placed()] == [key]
    assert again.waiting() == []
    database.close()


def test_the_directory_of_a_submit_that_crashed_is_removed(registry: JobRegistry, settings: Settings):
    key = submit(registry)
    lost = layout.job_directory(settings.root, "one", str(uuid.uuid4()))
    (lost / "inputs").mkdir(parents=True)
    (lost / "inputs" / "train.py").touch()
    registry.sweep("one")
    assert not lost.exists()
    assert registry.get(*key).directory.is_dir()
    (lost / "inputs").mkdir(parents=True)
    (lost / "inputs" / "old.py").touch()
    job, created = registry.submit("one", lost.name, job_file())
    assert created
    assert list((job.directory / "inputs").iterdir()) == []


def test_a_database_of_a_later_version_is_refused(registry: JobRegistry, settings: Settings):
    with registry._database.write() as connection:
        connection.exec_driver_sql("PRAGMA user_version = 99")
    with pytest.raises(Exception, match="made by a later version of this server"):
        Database(settings.root / "jobapi.sqlite")


def test_the_database_of_an_earlier_version_is_migrated(registry: JobRegistry, settings: Settings):
    key = submit(registry)
    with registry._database.write() as connection:
        for column in ("storing", "placed"):
            connection.exec_driver_sql(f"ALTER TABLE jobs DROP COLUMN {column}")
        connection.exec_driver_sql("PRAGMA user_version = 1")
    for _ in range(2):  # the second time there is nothing to do
        database = Database(settings.root / "jobapi.sqlite")
        brought = JobRegistry(settings, database, Storages(settings, database))
        assert brought.get(*key).storing is None
        database.close()
    start(registry, key)
    registry.set_storing(key, NOON, "storing")
    assert registry.get(*key).storing == NOON


def test_what_is_in_memory_is_what_the_database_says(registry: JobRegistry, settings: Settings):
    registry.hold_active()
    waits, asked, runs, stores, over = (submit(registry) for _ in range(5))
    for key in (asked, runs, stores, over):
        registry.place(key, (0,), "Placed.")
    stopped = submit(registry)
    registry.request_stop(stopped, "alice")
    registry.request_stop(asked, "alice")
    registry.set_waiting_reason(asked, "It waits.", "Preparing")
    for key in (runs, stores, over):
        registry.start(key, NOON)
    registry.set_resumed(runs, str(uuid.uuid4()))
    registry.set_storing(stores, NOON, "Stored.")
    registry.finish(over, JobState.FAILED, message="No.")
    again = JobRegistry(settings, registry._database, registry._storages, CAPACITY)
    assert registry.waiting() == again.waiting() == [registry.get(*waits)]
    assert not again.active.loaded
    assert registry.placed() == again.placed() == [registry.get(*key) for key in (asked, runs, stores)]
    for key in (waits, asked, runs, stores, over, stopped):
        assert registry.get(*key) == again.get(*key)
        assert registry.state(key) is registry.get(*key).state
