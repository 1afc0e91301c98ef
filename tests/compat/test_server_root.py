# SPDX-License-Identifier: Apache-2.0
"""A server that is started on a root of commit 83f1d40 serves and runs the jobs in it."""

from __future__ import annotations

import hashlib

import pytest
import requests

from tests.compat.fixtures import load
from tests.harness.server import poll

JOBS = load("server")["jobs"]
ENDED = [name for name, job in JOBS.items() if job["before"]["status"] not in {"PENDING", "RUNNING"}]
TAKEN_OVER = [name for name in JOBS if name not in ENDED]


def texts(log: str) -> list[str]:
    """The texts of log records, without their times."""
    return [line.partition(" ")[2] for line in log.splitlines() if " jobapi: " not in line]


def files_of(model: dict | None) -> list[tuple[str, int, str]] | None:
    if model is None:
        return None
    return sorted((file["path"], file["size"], file["sha256"]) for file in model["files"])


def test_the_root_has_a_job_of_each_kind():
    assert {JOBS[name]["before"]["status"] for name in ENDED} == {"SUCCESSFUL", "FAILED", "STOPPED"}
    assert set(TAKEN_OVER) == {"running", "finished", "prepared", "waiting"}


@pytest.mark.parametrize("name", ENDED)
def test_a_job_that_has_ended_keeps_its_status_and_its_log(recorded, name):
    job = JOBS[name]
    status = recorded.status(job["job_id"])
    assert {key: status.get(key, "missing") for key in job["before"]} == job["before"]
    assert recorded.job_log(job["job_id"]) == job["log"]


@pytest.mark.parametrize("name", ENDED)
def test_a_job_that_has_ended_keeps_its_model(recorded, name):
    job = JOBS[name]
    answer = recorded.request("GET", f"/api/v2/jobs/{job['job_id']}/model").json()
    expected = job["model"]["model"]
    assert answer["job_id"] == job["job_id"]
    assert files_of(answer["model"]) == files_of(expected)
    for file in expected["files"] if expected else ():
        content = recorded.request("GET", f"/api/v2/storage/objects/{file['key']}").content
        assert (len(content), hashlib.sha256(content).hexdigest()) == (file["size"], file["sha256"])


@pytest.mark.parametrize("name", TAKEN_OVER)
def test_a_job_that_was_under_way_comes_to_the_same_end(recorded, name):
    """The job that waited is run, and the job whose supervisor is gone is lost."""
    job = JOBS[name]
    status = recorded.wait_for(job["job_id"], "SUCCESSFUL", "FAILED", "STOPPED")
    for key in ("job_id", "name", "status", "reason", "exitCode", "submissionTime", "dataVersion"):
        assert status[key] == job["after"][key], key
    answer = recorded.request("GET", f"/api/v2/jobs/{job['job_id']}/model").json()
    assert files_of(answer["model"]) == files_of(job["model after"]["model"])
    assert texts(recorded.job_log(job["job_id"])) == texts(job["log after"])


def test_the_lines_of_a_job_that_was_running_are_kept(recorded):
    for name in ("running", "finished"):
        assert recorded.job_log(JOBS[name]["job_id"]).startswith(JOBS[name]["log"])
        assert JOBS[name]["log"]


def test_a_job_that_is_submitted_again_is_the_same_job(recorded):
    job = JOBS["running"]
    path = f"/api/v2/jobs/{job['job_id']}"
    assert recorded.request("POST", path, data=job["document"]).status_code == 200
    assert recorded.request("POST", path, data=job["document"].replace("--gate", "--gates")).status_code == 409


def test_an_object_in_the_storage_is_listed(recorded):
    job = JOBS["ended"]
    prefix = f"jobs/ended-{job['job_id']}/rows.csv"
    assert recorded.request("GET", f"/api/v2/storage/objects/{prefix}").content == b"a,b\n1,2\n"


def test_the_recorded_secret_is_the_only_one(recorded):
    answer = requests.post(
        f"{recorded.url}/oauth/token",
        data={"grant_type": "client_credentials"},
        auth=(recorded.client_id, "0" * 64),
        timeout=30,
    )
    assert answer.status_code == 401
    assert poll(recorded.token, 10, "a token")
