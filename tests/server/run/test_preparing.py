# SPDX-License-Identifier: Apache-2.0
"""A job is PENDING with the reason Preparing until its command runs, and RUNNING from then on."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from airflow_provider_jobapi.server.run.runner import MAKING_ENVIRONMENT
from tests.harness.server import Server, jobapi, poll

__all__ = ["jobapi"]

WAITS = "import os, time\nprint('up')\nwhile not os.path.exists({!r}): time.sleep(0.02)\n"


@contextmanager
def environment_held(server: Server) -> Iterator[None]:
    """Let the first step of the next job wait while it makes the environment of no requirements."""
    server.wait_for(server.submit())
    (venv,) = (server.root / "clients" / "airflow" / "environments" / "venvs").glob("*[!k]")
    shutil.rmtree(venv)
    with Path(f"{venv}.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def preparing(server: Server, job_id: str) -> dict[str, Any]:
    """Wait until the status says that the environment is being made."""

    def look() -> dict[str, Any] | None:
        status = server.status(job_id)
        return status if status["message"] == MAKING_ENVIRONMENT else None

    return poll(look, 20, "the environment to be made")


def test_a_job_is_preparing_until_its_command_runs(jobapi, tmp_path):
    gate = tmp_path / "gate"
    with environment_held(jobapi):
        job_id = jobapi.submit(WAITS.format(str(gate)))
        status = preparing(jobapi, job_id)
        assert (status["status"], status["reason"], status["startTime"]) == ("PENDING", "Preparing", None)
    status = jobapi.wait_for(job_id, "RUNNING")
    assert (status["reason"], status["message"]) == (None, "")
    assert status["startTime"] > status["submissionTime"]
    gate.touch()
    assert jobapi.wait_for(job_id)["startTime"] == status["startTime"]


def test_a_job_that_was_preparing_when_the_server_was_killed_goes_on(jobapi, tmp_path):
    gate = tmp_path / "gate"
    with environment_held(jobapi):
        job_id = jobapi.submit(WAITS.format(str(gate)))
        preparing(jobapi, job_id)
        jobapi.kill()
        jobapi.restart()
        assert preparing(jobapi, job_id)["status"] == "PENDING"
    status = jobapi.wait_for(job_id, "RUNNING")
    jobapi.kill()
    gate.touch()
    jobapi.restart()
    assert jobapi.wait_for(job_id, "SUCCESSFUL")["startTime"] == status["startTime"]


def test_a_job_that_ran_while_the_server_was_away_has_the_start_of_its_command(jobapi):
    with environment_held(jobapi):
        job_id = jobapi.submit()
        preparing(jobapi, job_id)
        jobapi.kill()
    poll((jobapi.root / "clients" / "airflow" / "jobs" / job_id / "exit.json").exists, 20, "the exit record")
    jobapi.restart()
    status = jobapi.wait_for(job_id, "SUCCESSFUL")
    assert status["submissionTime"] < status["startTime"] <= status["storingTime"] <= status["finishTime"]


def test_a_job_that_is_preparing_can_be_stopped(jobapi):
    with environment_held(jobapi):
        job_id = jobapi.submit()
        preparing(jobapi, job_id)
        status = jobapi.request("POST", f"/api/v2/jobs/{job_id}/stop").json()
        assert (status["status"], status["reason"]) == ("PENDING", "Stopped")
        status = jobapi.wait_for(job_id)
        assert status["status"] == "STOPPED"
        # Whether the supervisor has begun the environment's step by then is a matter of its machine.
        assert status["message"] in {
            f"Stopped by client airflow{when}." for when in ("", " before its environment began")
        }


def test_the_completion_time_counts_the_preparation(jobapi):
    with environment_held(jobapi):
        status = jobapi.wait_for(jobapi.submit(completionTime="1s"))
        assert (status["status"], status["reason"]) == ("FAILED", "CompletionTimeExceeded")
