# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import sys
import time
from datetime import datetime

import pytest

from airflow_provider_jobapi.server.run.supervisor import process_tree
from tests.harness.bench import processes_of
from tests.harness.supervised import supervised

__all__ = ["supervised"]

PYTHON = sys.executable
linux = pytest.mark.skipif(not process_tree.WATCHES, reason="processes are watched through /proc, which is not here")


def script(text: str) -> str:
    """A shell command that runs a Python program."""
    return f"exec {PYTHON} -u -c '{text}'"


def test_the_completion_time_ends_the_training(supervised):
    begin = time.monotonic()
    job = supervised("echo up; sleep 60", limits={"seconds": 0.6, "memory": None})
    record = job.record()
    assert record["reason"] == "CompletionTimeExceeded"
    assert "0.6 s" in record["message"]
    assert job.lines() == ["up", f"jobapi: {record['message']}"]
    assert 0.5 < time.monotonic() - begin < 10


@pytest.mark.parametrize("environment", [0.0, 60.0])
def test_the_completion_time_counts_the_environment(supervised, environment):
    steps = [
        {"name": "environment", "argv": ["/bin/sleep", str(environment)], "failed": "EnvironmentFailed"},
        {"name": "training", "argv": ["/bin/sleep", "60"]},
    ]
    record = supervised(steps=steps, seconds=1.5).record()
    assert (record["reason"], record["step"]) == (
        "CompletionTimeExceeded",
        "environment" if environment else "training",
    )
    assert "has run for 1.5 s" in record["message"]


def test_the_time_limit_of_one_step_is_kept_for_the_jobs_of_earlier_servers(supervised):
    environment = {"name": "environment", "argv": ["/bin/sleep", "2"]}
    training = {"name": "training", "argv": ["/bin/sh", "-c", "echo trained"], "limits": {"seconds": 1.8}}
    assert supervised(steps=[environment, training]).record()["reason"] is None


@linux
def test_a_memory_hog_is_ended_with_its_own_reason(supervised):
    hog = "import time; hold = []\nwhile True: hold.append(bytearray(10 * 2**20)); time.sleep(0.02)"
    job = supervised(script(hog), limits={"memory": 100 * 2**20})
    record = job.record()
    assert (record["reason"], record["signal"]) == ("OutOfMemory", 9)
    assert "100 MB were asked for" in record["message"]
    assert 100 * 2**20 < record["peak_memory"] < 2**30
    assert job.lines() == [f"jobapi: {record['message']}"]


@linux
def test_memory_that_processes_share_counts_once(supervised):
    shared = """
import os, time
hold = bytearray(b"x") * (120 * 2**20)
for _ in range(4):
    if not os.fork():
        time.sleep(2.5)
        os._exit(0)
for _ in range(4):
    os.wait()
"""
    job = supervised(script(shared), limits={"memory": 300 * 2**20})
    assert job.record()["reason"] is None


@linux
def test_the_memory_of_a_whole_tree_counts(supervised):
    one = f"{PYTHON} -c 'import time; hold = bytearray(b\"x\") * (60 * 2**20); time.sleep(30)'"
    job = supervised(f"{one} & {one} & {one} & wait", limits={"memory": 120 * 2**20})
    assert job.record()["reason"] == "OutOfMemory"
    assert processes_of(job.directory) == []


def test_five_thousand_updates_of_a_progress_bar_are_a_few_lines(supervised):
    bar = 'import time\nfor n in range(5000): print(f"\\r{n + 1}/5000", end=""); time.sleep(0.0001)'
    job = supervised(script(bar))
    record = job.record()
    assert record["exit_code"] == 0
    took = datetime.fromisoformat(record["finished"]) - datetime.fromisoformat(record["started"])
    lines = job.lines()
    assert len(lines) <= took.total_seconds() + 2
    assert lines[-1] == "5000/5000"


def test_a_line_of_fifty_megabytes_and_what_follows_it(supervised):
    job = supervised("head -c 50000000 /dev/zero | tr '\\0' x; echo; echo after")
    assert job.record(60)["exit_code"] == 0
    first, last = job.lines()
    assert first.endswith("x…")
    assert last == "after"
    assert (job.directory / "log").stat().st_size < 20_000


def test_random_bytes_become_valid_lines(supervised):
    job = supervised("head -c 3000000 /dev/urandom; echo; echo after")
    assert job.record()["exit_code"] == 0
    assert job.lines()[-1] == "after"


def test_a_runaway_logger_meets_the_bound(supervised):
    job = supervised("yes 'the same line again' | head -c 30000000; echo the reason >&2; exit 1", log_bound=300_000)
    assert job.record(60)["exit_code"] == 1
    assert (job.directory / "log").stat().st_size <= 300_000
    assert job.lines()[-1] == "the reason"


def test_lines_come_while_the_job_runs(supervised):
    job = supervised("echo first; sleep 60")
    job.wait_for_line("first")
    assert not (job.directory / "exit.json").exists()
