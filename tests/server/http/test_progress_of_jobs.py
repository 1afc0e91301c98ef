# SPDX-License-Identifier: Apache-2.0
"""How far running jobs are, in their status objects: read from their logs, within bounds, only where it is known."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from airflow_provider_jobapi.server.http import progress_reader
from airflow_provider_jobapi.server.http.progress_reader import ProgressReader
from airflow_provider_jobapi.server.store.job_record import JobKey
from airflow_provider_jobapi.training.status import JobState, JobStatus
from tests.harness.records import format_record
from tests.harness.server import Server, poll

TRAINING = """
import sys, time
for epoch in range(1, 11):
    print(f"Epoch {epoch}/10, loss: 0.5", flush=True)
    time.sleep(0.2 if epoch < 4 else 600)
"""


def test_a_running_job_says_how_far_it_is_and_others_do_not(jobapi_server: Server):
    silent = jobapi_server.submit("import time\nprint('begun', flush=True)\ntime.sleep(600)\n", name="silent")
    job_id = jobapi_server.submit(TRAINING, name="far")

    def look() -> dict | None:
        status = jobapi_server.status(job_id)
        return status if status.get("progress") == 0.4 else None

    status = poll(look, 60, "the progress of the job")
    assert 0 <= status["remaining"] <= 60
    listed = {each["job_id"]: each for each in jobapi_server.request("GET", "/api/v2/jobs").json()["jobs"]}
    assert listed[job_id]["progress"] == 0.4
    jobapi_server.wait_for(silent, "RUNNING")
    assert not {"progress", "remaining"} & (listed[silent].keys() | jobapi_server.status(silent).keys())
    for each in (silent, job_id):
        jobapi_server.request("POST", f"/api/v2/jobs/{each}/stop")
        assert not {"progress", "remaining"} & jobapi_server.wait_for(each, "STOPPED").keys()


class Registry:
    """The states of the jobs of a test."""

    def __init__(self) -> None:
        self.states: dict[JobKey, JobState] = {}
        self.listeners: list = []
        self.on_change = self.listeners.append
        self.state = self.states.get


class Logged:
    """A running job with a log."""

    def __init__(self, folder, number: int = 1, command: str = "python3 train.py") -> None:
        self.key = JobKey("client", f"job-{number}")
        self.directory = folder / str(number)
        self.directory.mkdir()
        self.state, self.storing, self.submitted = JobState.RUNNING, None, datetime(2026, 1, 1, tzinfo=UTC)
        self.job_file = SimpleNamespace(job=SimpleNamespace(execution=SimpleNamespace(command=command)))
        self.now = datetime.now(UTC) - timedelta(seconds=100)

    def print(self, *texts: str) -> None:
        with (self.directory / "log").open("ab") as log:
            for text in texts:
                self.now += timedelta(seconds=1)
                log.write(format_record(self.now, text))

    def status(self) -> JobStatus:
        return JobStatus(job_id=self.key.job_id, status=self.state, storing_time=self.storing)


def progress(reader: ProgressReader, *jobs: Logged) -> list[float | None]:
    return [status.progress for status in reader.statuses(list(jobs))]


def test_each_request_goes_on_where_the_last_one_ended(tmp_path, mocker):
    job, reader = Logged(tmp_path), ProgressReader(Registry())
    assert progress(reader, job) == [None]
    job.print("Epoch 1/10 loss 0.5")
    assert progress(reader, job) == [0.1]
    job.print("Epoch 2/10 loss 0.5")
    with (job.directory / "log").open("ab") as log:
        log.write(b"2026-01-01T00:00:00.000000Z Epoch 3/10 lo")  # is being written
    read = mocker.spy(progress_reader, "parse_records")
    assert progress(reader, job) == [0.2]
    assert read.call_args.args[0].count(b"\n") == 1


def test_the_command_names_totals(tmp_path):
    job, reader = Logged(tmp_path, command="pip3 install x && python3 train.py --epochs=4"), ProgressReader(Registry())
    job.print("Epoch 1 loss 0.5")
    assert progress(reader, job) == [0.25]


def test_only_of_a_job_whose_command_runs(tmp_path):
    job, reader = Logged(tmp_path), ProgressReader(Registry())
    job.print("Epoch 1/10 loss 0.5")
    for state in set(JobState) - {JobState.RUNNING}:
        job.state = state
        assert progress(reader, job) == [None]
    job.state, job.storing = JobState.RUNNING, datetime.now(UTC)
    assert progress(reader, job) == [None]


def test_a_request_reads_so_many_bytes_and_the_next_one_goes_on(tmp_path):
    reader = ProgressReader(Registry(), most=20_000)
    jobs = [Logged(tmp_path, number) for number in range(3)]
    for job in jobs:
        job.print(*("Epoch 1/10 loss 0.5" for _ in range(300)), "Epoch 5/10 loss 0.5")
    seen = [progress(reader, *jobs) for _ in range(4)]
    assert seen == [[0.5, None, None], [0.5, 0.5, None], [0.5, 0.5, 0.5], [0.5, 0.5, 0.5]]
    jobs[0].print(*("Epoch 6/10 loss 0.5" for _ in range(500)))
    assert progress(reader, *jobs) == [None, 0.5, 0.5]
    assert progress(reader, *jobs) == [0.6, 0.5, 0.5]


@pytest.mark.parametrize("damage", [b"", b"no record\n", b"2026-01-01T00:00:00.000000Z Epoch 9/10\n"])
def test_a_log_that_was_damaged_is_no_error(tmp_path, damage):
    job, reader = Logged(tmp_path), ProgressReader(Registry())
    job.print("Epoch 1/10 loss 0.5", "Epoch 2/10 loss 0.5")
    assert progress(reader, job) == [0.2]
    (job.directory / "log").write_bytes(damage)
    assert progress(reader, job) == [None]


def test_jobs_that_ended_and_too_many_are_forgotten(tmp_path, monkeypatch):
    registry = Registry()
    reader = ProgressReader(registry)
    jobs = [Logged(tmp_path, number) for number in range(4)]
    progress(reader, *jobs)
    registry.states |= {job.key: JobState.RUNNING for job in jobs} | {jobs[0].key: JobState.FAILED}
    for job in jobs:
        registry.listeners[0](job.key)
    assert list(reader._readings) == [job.key for job in jobs[1:]]
    monkeypatch.setattr(progress_reader, "MOST_JOBS", 2)
    progress(reader, jobs[1])
    assert list(reader._readings) == [jobs[3].key, jobs[1].key]


def test_a_job_of_the_same_id_begins_from_nothing(tmp_path):
    job, reader = Logged(tmp_path), ProgressReader(Registry())
    job.print("Epoch 1/10 loss 0.5")
    assert progress(reader, job) == [0.1]
    job.submitted += timedelta(days=1)
    (job.directory / "log").unlink()
    job.print("Epoch 3/10 loss 0.5")
    assert progress(reader, job) == [0.3]
