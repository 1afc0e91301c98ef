# SPDX-License-Identifier: Apache-2.0
"""A real supervisor reads the event files of its job: its curves, in their own file beside the log."""

from __future__ import annotations

import json
import os
import signal
import sys

import pytest

from airflow_provider_jobapi.training.logs import parse_records
from airflow_provider_jobapi.training.metrics.helper import read_helper
from tests.harness.bench import supervisor_of
from tests.harness.event_writer import SOURCE
from tests.harness.server import poll
from tests.harness.supervised import Supervised, supervised  # noqa: F401 -- a fixture

WRITES = """
import event_writer, pathlib, time
train, validation = event_writer.Writer("logs/train"), event_writer.Writer("logs/validation", 1)
for step in range(1, 6):
    train.scalar("epoch loss", 1 / step, step)
    validation.scalar("epoch loss", 2 / step, step)
    while step == 3 and not pathlib.Path("go").exists():
        time.sleep(0.01)
"""
DIES = """
import event_writer, os
writer = event_writer.Writer("logs")
for step in range(1, 4):
    writer.scalar("loss", 1 / step, step)
os.kill(os.getpid(), 9)
"""
SPLIT = ("train/epoch_loss", "validation/epoch_loss")


def points(job: Supervised) -> list[tuple[str, float | None, float]]:
    path = job.directory / "scalars"
    content = path.read_bytes() if path.exists() else b""
    lines = parse_records(content[: content.rfind(b"\n") + 1])
    measured = [each for line in lines for each, _, _ in read_helper(line.text)]
    return [(name, each.step, value) for each in measured for name, value in each.values.items()]


@pytest.fixture
def training(supervised, tmp_path):  # noqa: F811 -- the fixture
    """Make a supervised job that writes event files."""

    def make(script: str = WRITES) -> Supervised:
        job = supervised(f"exec {sys.executable} train.py", start=False)
        wanted = json.loads((job.directory / "spec.json").read_bytes())
        wanted["scalars"] = {"folders": [str(job.work)], "bound": 10**6}
        (job.directory / "spec.json").write_text(json.dumps(wanted))
        (job.work / "train.py").write_text(script)
        (job.work / "event_writer.py").write_text(SOURCE.read_text())
        job.start()
        return job

    return make


def test_points_are_there_while_the_job_runs_and_all_of_them_at_its_end(training):
    job = training()
    poll(lambda: len(points(job)) == 6, 60, "the first points")
    assert not (job.directory / "exit.json").exists()
    (job.work / "go").touch()
    assert job.record()["exit_code"] == 0
    for name, value in zip(SPLIT, (1, 2), strict=True):
        curve = [point[1:] for point in points(job) if point[0] == name]
        assert curve == [(step, pytest.approx(value / step, rel=1e-6)) for step in range(1, 6)]
    assert job.lines() == []


def test_a_job_that_is_killed_has_its_last_points(training):
    job = training(DIES)
    assert job.record()["signal"] == 9
    assert [step for _, step, _ in points(job)] == [1, 2, 3]


def test_a_stopped_job_has_its_last_points(training):
    job = training()
    poll(lambda: len(points(job)) == 6, 60, "the first points")
    job.stop(grace=0)
    assert job.record()["reason"] == "Stopped"
    assert len(points(job)) == 6


def test_a_killed_supervisor_leaves_whole_records(training):
    job = training()
    poll(lambda: len(points(job)) == 6, 60, "the first points")
    os.kill(supervisor_of(job.directory), signal.SIGKILL)
    job.end()
    assert len(points(job)) == 6
    assert (job.directory / "scalars").read_bytes().endswith(b"\n")


def test_a_spec_of_an_earlier_server_asks_for_none(supervised):  # noqa: F811 -- the fixture
    job = supervised("mkdir logs; echo nothing > logs/events.out.tfevents.1.host")
    assert job.record()["exit_code"] == 0
    assert job.lines() == []
    assert not (job.directory / "scalars").exists()


def test_a_damaged_file_is_said_in_the_log_and_ends_nothing(training):
    job = training("open('x.tfevents.1', 'wb').write(b'damaged' * 9)\n")
    assert job.record()["exit_code"] == 0
    assert job.lines() == [
        "jobapi: The event file x.tfevents.1 is not read any further: a record's length is damaged at byte 0."
    ]
