# SPDX-License-Identifier: Apache-2.0
"""Many jobs followed by one request, on a real server: jobs that wait, whose logs the tests write."""

from __future__ import annotations

import concurrent.futures
import json
import re
import shlex
import subprocess
import sys
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path

import pytest
import requests

from airflow_provider_jobapi.training.logs import RECORD_LIMIT
from tests.harness.followed import PATH, Entry, ask, entries, follow
from tests.harness.proxy import FaultProxy
from tests.harness.records import format_record
from tests.harness.server import Server, poll, running

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
MIB = 2**20
HOLDER = "import time\nwhile True: time.sleep(0.1)\n"
WAIT = 20
SOON = 15
"""Seconds, less than ``WAIT``: what came before them did not wait for the end of it."""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(
        tmp_path_factory.mktemp("follow") / "root", "--cpus", "1", "--grace", "1s", "--queue-bound", "1000"
    ) as started:
        started.wait_for(started.submit(HOLDER), "RUNNING")
        yield started


class Waiting:
    """Requests that wait in threads of their own."""

    def __init__(self, server: Server, way: FaultProxy, pool: concurrent.futures.Executor) -> None:
        self._server = server
        self._way = way
        self._pool = pool

    def begin(self, *jobs: dict[str, object], server: Server | None = None, token: str = ""):
        """Send a request, and return when the server has it; ``result`` of what is returned has its entries."""
        asked, server = self._way.count(PATH), server or self._server
        headers = {"Prefer": f"wait={WAIT}", "Authorization": f"Bearer {token or server.token()}"}
        sent = self._pool.submit(
            requests.post, self._way.url + PATH, json={"jobs": jobs}, headers=headers, timeout=WAIT + 30
        )
        poll(lambda: self._way.count(PATH) > asked, 20, "the request to be sent")
        server.request("GET", "/healthz")  # answered later than the request, which came before, began to wait
        return self._pool.submit(lambda: sent.result(WAIT + 30))


def news(waiting) -> list[Entry]:
    """The entries of an answer that came before the end of the wait."""
    answer = waiting.result(SOON)
    assert answer.status_code == 200
    return entries(answer.content)


@pytest.fixture
def waiting(server: Server):
    with FaultProxy(server.port) as way, concurrent.futures.ThreadPoolExecutor(4) as pool:
        yield Waiting(server, way, pool)


class Job:
    """A job that waits for room, and its log, which this test writes."""

    def __init__(self, server: Server) -> None:
        self.job_id = str(uuid.uuid4())
        document = {"job": {"name": "test", "execution": {"command": "true"}}}
        answer = server.request("POST", f"/api/v2/jobs/{self.job_id}", json=document)
        assert answer.status_code == 201, answer.text
        self.home = server.root / "clients" / "airflow" / "jobs" / self.job_id

    def write(self, *texts: str) -> bytes:
        content = b"".join(format_record(NOON, text) for text in texts)
        with (self.home / "log").open("ab") as file:
            file.write(content)
        return content

    def at(self, offset: int = 0, **more: object) -> dict[str, object]:
        return {"job": self.job_id, "offset": offset, **more}


@pytest.fixture
def job(server: Server) -> Job:
    return Job(server)


@pytest.fixture(scope="module")
def many(server: Server) -> list[Job]:
    return [Job(server) for _ in range(40)]


def heads(found) -> list[str]:
    return [entry["job"] for entry in found]


def test_only_jobs_with_news_have_an_entry_in_the_order_of_the_request(server: Server, many: list[Job]):
    ends = {each.job_id: (each.home / "log").stat().st_size if (each.home / "log").exists() else 0 for each in many}
    asked = [each.at(ends[each.job_id], state="PENDING") for each in reversed(many)]
    assert follow(server, asked) == []
    written = {each.job_id: each.write(f"line of {number}") for number, each in enumerate(many) if number % 7 == 0}
    found = follow(server, asked, wait=WAIT)
    while len(found) < len(written):  # those that were not seen yet
        more = follow(server, [each for each in asked if each["job"] not in heads(found)], wait=WAIT)
        assert more
        found = sorted(found + more, key=lambda entry: [each["job"] for each in asked].index(entry["job"]))
    assert heads(found) == [each.job_id for each in reversed(many) if each.job_id in written]
    for entry in found:
        job_id, body = entry["job"], written[entry["job"]]
        size = ends[job_id] + len(body)
        assert entry.body == body
        assert entry.head == {
            "job": job_id,
            "state": "PENDING",
            "next_offset": size,
            "size": size,
            "complete": False,
            "scalars": 0,
            "length": len(body),
        }


def test_a_line_of_one_job_ends_the_wait(server: Server, many: list[Job], waiting):
    asked = [each.at((each.home / "log").stat().st_size if (each.home / "log").exists() else 0) for each in many]
    for _ in range(3):  # the first wait begins the watch, the others find it
        sent = waiting.begin(*asked)
        body = many[5].write("news")
        (entry,) = news(sent)
        assert (entry["job"], entry.body) == (many[5].job_id, body)
        asked[5]["offset"] = entry["next_offset"]


def test_an_answer_without_news_is_empty_when_the_time_is_over(server: Server, job: Job):
    begin = time.monotonic()
    answer = ask(server, [job.at(state="PENDING")], wait=1)
    assert 0.9 < time.monotonic() - begin < SOON
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["preference-applied"] == "wait=1"
    assert "job-time" in answer.headers
    assert "preference-applied" not in ask(server, [job.at()]).headers


def test_the_wait_is_at_most_25_seconds(server: Server, job: Job):
    job.write("news")
    assert ask(server, [job.at()], wait=9999).headers["preference-applied"] == "wait=25"


def test_another_state_than_the_known_one_is_news(server: Server, job: Job):
    (entry,) = follow(server, [job.at(state="RUNNING")], wait=WAIT)
    assert (entry["state"], entry.body, entry["complete"]) == ("PENDING", b"", False)


def test_the_end_of_a_job_is_news_and_completes_its_log(server: Server, job: Job, waiting):
    sent = waiting.begin(job.at(state="PENDING"))
    server.request("POST", f"/api/v2/jobs/{job.job_id}/stop")
    (entry,) = news(sent)
    assert (entry["state"], entry["complete"]) == ("STOPPED", True)
    begin = time.monotonic()
    (again,) = follow(server, [job.at(state="STOPPED")], wait=WAIT)
    assert again["complete"]
    assert time.monotonic() - begin < SOON


def test_an_ended_job_with_records_is_complete_with_the_last_one(server: Server, job: Job):
    body = job.write("x" * 10_000, "y" * 10_000)
    server.request("POST", f"/api/v2/jobs/{job.job_id}/stop")
    (entry,) = follow(server, [job.at()])
    assert (entry.body, entry["complete"]) == (body, True)


def test_the_first_scalars_are_news_unless_the_client_knows_of_them(server: Server, job: Job, waiting):
    sent = waiting.begin(job.at(state="PENDING"))
    (job.home / "scalars").write_bytes(format_record(NOON, "{}"))
    (entry,) = news(sent)
    assert (entry["scalars"], entry.body) == ((job.home / "scalars").stat().st_size, b"")
    assert len(follow(server, [job.at()])) == 1
    assert follow(server, [job.at(scalars=True)], wait=1) == []


def test_a_job_that_cannot_be_read_has_the_problem_of_its_own_log(server: Server, job: Job):
    job.write("one", "two")
    gone = Job(server)
    server.request("POST", f"/api/v2/jobs/{gone.job_id}/stop")
    assert server.request("DELETE", f"/api/v2/jobs/{gone.job_id}").status_code == 204
    unknown = str(uuid.uuid4())
    asked = [gone.at(), {"job": unknown, "offset": 0}, job.at(5), job.at(0)]
    found = follow(server, asked[:3])
    for entry, each in zip(found, asked, strict=False):
        single = server.request("GET", f"/api/v2/jobs/{each['job']}/logs", params={"offset": each["offset"]})
        expected = single.json()
        if single.status_code == 416:
            expected["size"] = int(single.headers["job-log-size"])
        assert entry.head == {"job": each["job"], "problem": expected, "length": 0}
    assert [entry["problem"]["status"] for entry in found] == [410, 404, 416]
    assert follow(server, [asked[3]])[0].body


def test_a_log_that_the_server_may_not_read_is_a_problem_of_its_job_alone(server: Server, job: Job):
    (job.home / "log").symlink_to("/etc/passwd")
    other = Job(server)
    body = other.write("news")
    broken, good = follow(server, [job.at(), other.at()])
    assert (broken["problem"]["status"], good.body) == (500, body)
    assert re.search(r"number [0-9a-f]{12}", broken["problem"]["detail"])


def test_a_job_that_is_deleted_in_the_wait_is_gone(server: Server, waiting):
    first, second = Job(server), Job(server)
    sent = waiting.begin(first.at(state="PENDING"), second.at(state="PENDING"))
    server.request("POST", f"/api/v2/jobs/{first.job_id}/stop")
    assert [entry["state"] for entry in news(sent)] == ["STOPPED"]
    server.request("DELETE", f"/api/v2/jobs/{first.job_id}")
    (entry,) = follow(server, [first.at(state="STOPPED"), second.at(state="PENDING")], wait=WAIT)
    assert (entry["job"], entry["problem"]["status"]) == (first.job_id, 410)


def test_the_jobs_of_another_client_do_not_exist(server: Server, job: Job):
    command = [sys.executable, "-m", "airflow_provider_jobapi.cli", "client", "add", "other", "--trust-all-clients"]
    command += ["--root", str(server.root), "--port", str(server.port)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"AIRFLOW_CONN_JOBAPI_DEFAULT=.*", printed)
    assert found, printed
    secret = json.loads(shlex.split(found[0])[0].partition("=")[2])["password"]
    grant = {"grant_type": "client_credentials"}
    answer = requests.post(f"{server.url}/oauth/token", data=grant, auth=("other", secret), timeout=30)
    headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
    job.write("secret")
    for _ in range(2):
        (entry,) = entries(ask(server, [job.at()], headers=headers).content)
        assert entry["problem"]["status"] == 404
        assert follow(server, [job.at()])[0].body


def test_one_with_megabytes_does_not_hold_the_others(server: Server, job: Job):
    text = "x" * 1_000
    body = job.write(*[text] * 6_000)
    small = [Job(server) for _ in range(3)]
    lines = [each.write("small") for each in small]
    found = follow(server, [job.at(), *(each.at() for each in small)])
    assert [entry.body for entry in found[1:]] == lines
    assert 0.99 * MIB < len(found[0].body) <= MIB
    assert body.startswith(found[0].body)
    assert found[0]["size"] == len(body)
    offset, seen = 0, b""
    while offset < len(body):
        (entry,) = follow(server, [job.at(offset)])
        offset, seen = entry["next_offset"], seen + entry.body
    assert seen == body


def test_the_room_of_an_answer_is_divided_and_what_one_does_not_need_goes_to_others(server: Server):
    sizes = [2_000, 2_000, 10, 10, 600, 2_000, 2_000, 2_000]
    jobs = [Job(server) for _ in sizes]
    bodies = [each.write(*["x" * 1_000] * size) for each, size in zip(jobs, sizes, strict=True)]
    found = follow(server, [each.at() for each in jobs])
    taken = [len(entry.body) for entry in found]
    assert sum(taken) <= 4 * MIB
    assert sum(taken) > 4 * MIB - 9 * RECORD_LIMIT
    assert [found[place].body for place in (2, 3, 4)] == [bodies[place] for place in (2, 3, 4)]
    large = [taken[place] for place in (0, 1, 5, 6, 7)]
    assert max(large) - min(large) <= 3 * RECORD_LIMIT
    for entry, body in zip(found, bodies, strict=True):
        assert body.startswith(entry.body)


def test_jobs_without_room_have_no_entry_and_come_first_in_the_next_answer(server: Server):
    jobs = [Job(server) for _ in range(4 * MIB // RECORD_LIMIT + 4)]
    record = format_record(NOON, "x" * (RECORD_LIMIT - 29))
    for each in jobs:
        (each.home / "log").write_bytes(record)
    found = follow(server, [each.at() for each in jobs])
    count = 4 * MIB // len(record)
    assert count < len(jobs)
    assert heads(found) == [each.job_id for each in jobs[:count]]
    rest = follow(server, [each.at() for each in jobs[count:]])
    assert heads(rest) == [each.job_id for each in jobs[count:]]
    assert all(entry.body == record for entry in found + rest)


def test_a_record_that_is_being_written_is_no_news(server: Server, job: Job):
    body = job.write("whole")
    with (job.home / "log").open("ab") as file:
        file.write(b"2026-01-01T12:00:00.000000Z half")
    (entry,) = follow(server, [job.at()])
    assert (entry.body, entry["size"]) == (body, len(body))
    assert follow(server, [job.at(len(body), state="PENDING")], wait=1) == []


INVALID = {
    "no JSON": (b"{", "body"),
    "no text": (b"\xff", "body"),
    "no object": (b"[]", "body"),
    "no jobs": (b"{}", "jobs"),
    "an empty list": (b'{"jobs": []}', "jobs"),
    "no id": (b'{"jobs": [{"offset": 1}]}', "jobs.0.job"),
    "an id that is none": (b'{"jobs": [{"job": "../../x", "offset": 1}]}', "jobs.0.job"),
    "a negative offset": (b'{"jobs": [{"job": "%s", "offset": -1}]}' % str(uuid.uuid4()).encode(), "jobs.0.offset"),
    "an offset as text": (b'{"jobs": [{"job": "%s", "offset": "1"}]}' % str(uuid.uuid4()).encode(), "jobs.0.offset"),
    "an unknown state": (b'{"jobs": [{"job": "%s", "state": "Done"}]}' % str(uuid.uuid4()).encode(), "jobs.0.state"),
}


@pytest.mark.parametrize("kind", INVALID)
def test_a_wrong_body_is_refused_with_the_field(server: Server, kind):
    body, field = INVALID[kind]
    answer = server.request("POST", PATH, data=body, headers={"Prefer": "wait=20"}, timeout=SOON)
    assert (answer.status_code, answer.json()["field"]) == (422, field)
    assert answer.headers["content-type"] == "application/problem+json"
    assert len(answer.json()["detail"]) < 400


def test_a_job_that_is_named_twice_is_refused(server: Server, job: Job, many: list[Job]):
    answer = ask(server, [job.at(), many[0].at(), job.at(1)])
    assert (answer.status_code, answer.json()["field"]) == (422, "jobs.2.job")
    assert f"the job {job.job_id}, as jobs.0 does" in answer.json()["detail"]


def test_a_request_has_at_most_5000_jobs(server: Server):
    asked = [{"job": str(uuid.uuid4()), "offset": 2**53, "state": "SUCCESSFUL", "scalars": True} for _ in range(5_001)]
    answer = ask(server, asked)
    assert (answer.status_code, answer.json()["field"]) == (422, "jobs")
    answer = ask(server, asked[:5_000])
    assert answer.status_code == 200
    assert [entry["problem"]["status"] for entry in entries(answer.content)] == [404] * 5_000
    answer = server.request("POST", PATH, data=json.dumps({"jobs": asked}).encode().ljust(MIB + 1))
    assert answer.status_code == 413


def test_a_request_needs_a_token(server: Server, job: Job):
    answer = requests.post(server.url + PATH, json={"jobs": [job.at()]}, timeout=30)
    assert answer.status_code == 401


def test_a_token_that_expires_in_the_wait_ends_no_wait(tmp_path: Path):
    with running(tmp_path / "root", "--token-lifetime", "2s", "--cpus", "1", "--grace", "1s") as server:
        server.wait_for(server.submit(HOLDER), "RUNNING")
        job = Job(server)
        headers = {"Authorization": f"Bearer {server.token()}"}
        with FaultProxy(server.port) as way, concurrent.futures.ThreadPoolExecutor(2) as pool:
            sent = Waiting(server, way, pool).begin(job.at(state="PENDING"), token=headers["Authorization"][7:])

            def has_expired() -> bool:
                return requests.get(f"{server.url}/api/v2/jobs", headers=headers, timeout=30).status_code == 401

            poll(has_expired, SOON, "the token to expire")
            assert not sent.done()
            job.write("news")
            assert len(news(sent)) == 1
        assert ask(server, [job.at()], headers=headers).status_code == 401


def test_the_shutdown_of_the_server_ends_the_wait(tmp_path: Path):
    with running(tmp_path / "root", "--cpus", "1", "--grace", "1s") as server:
        server.wait_for(server.submit(HOLDER), "RUNNING")
        job = Job(server)
        with FaultProxy(server.port) as way, concurrent.futures.ThreadPoolExecutor(2) as pool:
            sent = Waiting(server, way, pool).begin(job.at(state="PENDING"))
            begin = time.monotonic()
            assert server.stop() == 0
            assert time.monotonic() - begin < SOON
            assert news(sent) == []
        server.restart()
        assert follow(server, [job.at(state="RUNNING")])[0]["state"] == "PENDING"
