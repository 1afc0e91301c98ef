# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import pytest

from airflow_provider_jobapi.server.run.supervisor import process_bound, process_tree
from tests.harness.bench import processes_of
from tests.harness.supervised import SUPERVISOR, Supervised, supervised

__all__ = ["supervised"]

PYTHON = sys.executable
linux = pytest.mark.skipif(not process_tree.WATCHES, reason="processes are watched through /proc, which is not here")

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


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


FORKS = """
import os, sys, time
count = 0
try:
    for _ in range(400):
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)
        count += 1
        time.sleep(float(sys.argv[1]))
except BlockingIOError:
    pass
print("children", count, flush=True)
os._exit(7)
"""


def forks(pause: float) -> list[dict[str, object]]:
    return [{"name": "training", "argv": [PYTHON, "-c", FORKS, str(pause)]}]


@root_only
@pytest.mark.parametrize("uid", [None, 2_000_017])
def test_a_fork_bomb_has_a_bound(supervised, uid):
    """As root in a control group; as a user of its own by RLIMIT_NPROC, too."""
    if not uid and not any((parent / "pids.max").exists() or (parent / "tasks").exists() for parent in parents()):
        pytest.skip("there is no control group for the number of processes here")
    steps = forks(0)
    steps[0]["cwd"] = "/"
    if uid:
        steps[0]["argv"] = ["/usr/bin/python3", "-c", FORKS, "0"]
    job = supervised(steps=steps, processes=100, uid=uid, gid=uid)
    record = job.record()
    (said,) = [line for line in job.lines() if line.startswith("children ")]
    assert 50 < int(said.split()[1]) <= 100
    assert (record["reason"], record["exit_code"]) == ("NonZeroExit", 7)
    assert processes_of(job.directory) == []
    job.processes[0].wait(10)
    assert not [group for parent in parents() for group in parent.glob("jobapi-*") if group.name == name_of(job)]


def parents() -> list[Path]:
    return process_bound._parents()


def name_of(job: Supervised) -> str:
    return process_bound._name(f"JOB_DIRECTORY={job.directory}".encode())


@root_only
def test_a_job_with_too_many_processes_is_ended_where_the_kernel_has_no_bound_for_it(supervised):
    """Without control groups, as on a machine where the server may not make any."""
    job = supervised(steps=forks(0.02), processes=100, start=False)
    hidden = f"mount -t tmpfs none /sys/fs/cgroup && exec {PYTHON} -I -S {SUPERVISOR} {job.directory}"
    process = subprocess.Popen(["unshare", "-m", "sh", "-c", hidden], start_new_session=True, cwd="/")
    job.processes.append(process)
    record = job.record(60)
    if process.wait(10) == 1:
        pytest.skip("nothing can be mounted here")
    assert record["reason"] == "NonZeroExit"
    assert record["message"].startswith("Too many processes: the job has 1")
    assert record["message"].endswith("and 100 are allowed.")
    assert processes_of(job.directory) == []


@linux
def test_a_bomb_is_killed_faster_than_it_forks(supervised):
    bomb = "import os, time\nprint(1, flush=True)\nwhile True:\n  os.fork()\n  time.sleep(0.01)"
    job = supervised(steps=[{"name": "training", "argv": [PYTHON, "-c", bomb]}], processes=200, grace=0)
    job.wait_for_line("1")
    job.stop(grace=0)
    record = job.record(60)
    assert record["reason"] in {"Stopped", "NonZeroExit"}
    assert processes_of(job.directory) == []
