# SPDX-License-Identifier: Apache-2.0
"""The double is killed and started again: jobs go on, nothing is forgotten, and nothing is left behind at the end."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import requests

from tests.harness.modelarts.caller import Caller
from tests.harness.modelarts.double import ModelArts
from tests.harness.modelarts.samples import V1, V2, Samples
from tests.harness.s3 import S3
from tests.harness.server import poll

LONG = "import time\nprint('going', flush=True)\ntime.sleep(300)"


@pytest.fixture
def double(tmp_path: Path, s3: S3) -> Iterator[ModelArts]:
    with ModelArts(tmp_path, pace=0.05, grace=1, store=s3) as started:
        yield started


def test_a_kill_forgets_nothing_and_ends_no_job(double: ModelArts) -> None:
    caller = Caller(double)
    samples = Samples(caller)
    gate = double.home / "gate"
    code = "import os, time\nprint('before', flush=True)\n"
    code += f"while not os.path.exists({str(gate)!r}): time.sleep(0.02)\nprint('after')"
    version, job = samples.start_v1(code), samples.start_v2(code)
    caller.wait(version, 8)
    caller.wait(job, "Running")
    double.misbehave("too_many_requests", every=2, path="engines")
    journal = double.requests()

    double.kill()
    with pytest.raises(requests.ConnectionError):
        caller.send("GET", version)
    gate.touch()
    double.restart()

    assert double.requests() == journal
    # The old token is still good, and the fault is still on.
    assert [caller.send("GET", "/v2/{project_id}/training-job-engines").status_code for _ in range(2)] == [200, 429]
    assert caller.wait(version, 10)["create_time"] > 0
    caller.wait(job, "Completed")
    log = caller.ok("GET", f"{job}/tasks/worker-0/logs/preview")["content"]
    assert "before\nafter\n" in log
    # Numbers go on where they were.
    second = samples.start_v1()
    assert int(second.split("/")[-1]) == int(version.split("/")[-1]) + 1


def test_a_job_that_was_created_but_not_started_starts_with_the_server(double: ModelArts) -> None:
    caller = Caller(double)
    body = Samples(caller).v2(Samples(caller).place())
    job = f"{V2}/{caller.ok('POST', V2, body)['metadata']['id']}"
    caller.wait(job, "Completed")
    double.kill()
    # As if the server had been killed between writing the job down and starting it.
    (double.job_folder(job.rsplit("/", maxsplit=1)[-1]) / "events.jsonl").unlink()
    double.restart()
    caller.wait(job, "Completed")


def test_a_job_whose_machine_dies_is_lost(double: ModelArts) -> None:
    caller = Caller(double)
    samples = Samples(caller)
    version, job = samples.start_v1(LONG), samples.start_v2(LONG)
    caller.wait(version, 8)
    caller.wait(job, "Running")
    for pid in double.processes():
        if "tests.harness.modelarts.runner" in psutil.Process(pid).cmdline():
            os.kill(pid, signal.SIGKILL)
    assert caller.wait(version, 14)["status"] == 14
    status = caller.wait(job, "Abnormal")["status"]
    assert status["secondary_phase"] == "Lost"


@pytest.mark.parametrize("way", ["stop", "delete"])
def test_stopping_ends_the_processes(double: ModelArts, way: str) -> None:
    caller = Caller(double)
    version = Samples(caller).start_v1(f"import subprocess\nsubprocess.Popen(['sleep', '300'])\n{LONG}")
    caller.wait(version, 8)
    poll(lambda: len(double.processes()) >= 4, 20, "server, runner, boot file and its child")
    if way == "stop":
        caller.ok("POST", f"{version}/stop")
        assert caller.ok("GET", version)["status"] in {9, 12}
        caller.wait(version, 12)
    else:
        caller.ok("DELETE", f"{V1}/{version.split('/')[-3]}")
        assert caller.no("GET", version) == (400, "2775")
    poll(lambda: len(double.processes()) == 1, 20, "the server alone to be left")


def test_a_boot_file_that_will_not_end_is_killed_after_the_grace(double: ModelArts) -> None:
    caller = Caller(double)
    stubborn = f"import os, signal\nsignal.signal(signal.SIGTERM, lambda *_: os.write(1, b'no\\n'))\n{LONG}"
    version = Samples(caller).start_v1(stubborn + "\nwhile True: time.sleep(1)")
    caller.wait(version, 8)
    (name,) = poll(lambda: caller.send("GET", f"{version}/log/file-names").json().get("log_file_list"), 20, "a log")
    log = f"{version}/aom-log?log_file={name}"
    poll(lambda: "going" in caller.ok("GET", log)["content"], 20, "the boot file to go")
    caller.ok("POST", f"{version}/stop")
    caller.wait(version, 12)
    assert "\n\nno\n" in caller.ok("GET", log)["content"]


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    others = set(psutil.Process().children())  # an Airflow of other tests may be among them, and goes on
    with ModelArts(tmp_path, pace=0.05, grace=1) as double:
        caller = Caller(double)
        job = Samples(caller).start_v2(LONG)
        caller.wait(job, "Running")
        poll(lambda: len(double.processes()) >= 3, 20, "server, runner and boot file")
        store = double.s3_url
        mine = set(psutil.Process().children()) - others
        assert len(mine) >= 2, "server and store"
    assert double.processes() == []
    assert [child for child in mine if child.is_running() and child.status() != psutil.STATUS_ZOMBIE] == []
    with pytest.raises(requests.ConnectionError):
        requests.get(store, timeout=5)
