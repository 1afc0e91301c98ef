# SPDX-License-Identifier: Apache-2.0
"""The scalars of a job over HTTP: a second stream beside the log, with offsets and long polls of its own."""

from __future__ import annotations

import concurrent.futures
import uuid

import pytest

from airflow_provider_jobapi.training.logs import parse_records
from airflow_provider_jobapi.training.metrics.helper import read_helper
from tests.harness.event_writer import SOURCE
from tests.harness.server import Server, poll, running

WRITER = {"event_writer.py": SOURCE.read_text()}
ONE_POINT = "import event_writer\nevent_writer.Writer('logs').scalar('loss', 1, 1)\n"
SILENT = """
import event_writer, pathlib, time
writer = event_writer.Writer("runs/a")
def wait_for(name):
    while not pathlib.Path(name).exists():
        time.sleep(0.01)
for step in range(1, 4):
    wait_for(f"GATE{step}")
    writer.scalar("loss", 1 / step, step)
wait_for("END")
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("scalars") / "root", "--cpus", "2", "--grace", "2s") as started:
        yield started


class Silent:
    """A job that prints nothing and writes a point each time it is told to."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.job_id = server.submit(SILENT, files=WRITER)
        self.path = f"/api/v2/jobs/{self.job_id}"
        self.work = server.root / "clients" / "airflow" / "jobs" / self.job_id / "work"
        self.offset = 0
        server.wait_for(self.job_id, "RUNNING")

    def open(self, name: str) -> None:
        (self.work / name).touch()

    def read(self, wait: int | None = None, **params: object):
        headers = {} if wait is None else {"Prefer": f"wait={wait}"}
        given = {"offset": self.offset, **params}
        answer = self.server.request("GET", f"{self.path}/scalars", params=given, headers=headers)
        if answer.status_code == 200:
            self.offset = int(answer.headers["job-scalars-next-offset"])
        return answer

    def log(self, wait: int | None = None):
        headers = {} if wait is None else {"Prefer": f"wait={wait}"}
        return self.server.request("GET", f"{self.path}/logs", headers=headers)


def test_the_life_of_the_scalars_of_a_job(server):
    job = Silent(server)
    answer = job.read()
    assert (answer.status_code, answer.text) == (200, "")
    assert answer.headers["job-scalars-size"] == answer.headers["job-scalars-next-offset"] == "0"
    assert (answer.headers["job-scalars-complete"], answer.headers["job-status"]) == ("false", "RUNNING")
    assert job.log().headers["job-scalars-size"] == "0"

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        waiting, log = pool.submit(job.read, 25), pool.submit(job.log, 25)
        job.open("GATE1")
        answer = waiting.result(60)
        assert answer.headers["preference-applied"] == "wait=25"
        assert int(log.result(60).headers["job-scalars-size"]) > 0, "the first scalars end the wait for the log"
    (line,) = parse_records(answer.content)
    ((measured, _, _),) = read_helper(line.text)
    assert (dict(measured.values), measured.step) == ({"loss": 1.0}, 1)
    assert job.read(1).text == ""

    job.server.kill()
    job.open("GATE2")
    job.server.restart()
    poll(lambda: "0.5" in job.read(1).text, 60, "the point that was written while no server ran")
    job.open("GATE3")
    job.open("END")
    server.wait_for(job.job_id)
    answer = job.read()
    assert '"loss": 0.33333334' in answer.text
    assert answer.headers["job-scalars-complete"] == "true"
    assert answer.headers["job-scalars-size"] == job.log().headers["job-scalars-size"] == str(job.offset)
    assert '"loss"' not in job.log().text

    whole = job.read(offset=0).content
    assert len(whole) == job.offset
    assert [read_helper(line.text)[0][0].step for line in parse_records(whole)] == [1, 2, 3]
    one = job.read(offset=0, limit=1)
    assert one.text.count("\n") == 1
    assert job.read(offset=len(one.content)).content == whole[len(one.content) :]


def test_an_offset_within_a_record_is_refused(server):
    job_id = server.submit(ONE_POINT, files=WRITER)
    server.wait_for(job_id)
    for offset in (1, 10**6):
        answer = server.request("GET", f"/api/v2/jobs/{job_id}/scalars", params={"offset": offset})
        assert answer.status_code == 416
        assert "continue from a Job-Scalars-Next-Offset, or from 0." in answer.json()["detail"]
        assert int(answer.headers["job-scalars-size"]) > 0


def test_a_job_without_event_files_has_none(server):
    job_id = server.submit("print('loss=1')\n")
    server.wait_for(job_id)
    answer = server.request("GET", f"/api/v2/jobs/{job_id}/scalars", headers={"Prefer": "wait=25"})
    assert (answer.text, answer.headers["job-scalars-size"]) == ("", "0")
    assert answer.headers["job-scalars-complete"] == "true"


def test_a_job_that_is_not_there_has_none(server):
    assert server.request("GET", f"/api/v2/jobs/{uuid.uuid4()}/scalars").status_code == 404
    job_id = server.submit("print(1)\n")
    server.wait_for(job_id)
    assert server.request("DELETE", f"/api/v2/jobs/{job_id}").status_code == 204
    assert server.request("GET", f"/api/v2/jobs/{job_id}/scalars").status_code == 410
