# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import concurrent.futures
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_jobapi.server.http.log_reader import CHUNK_LIMIT, read_part
from airflow_provider_jobapi.server.http.problems import Problem
from airflow_provider_jobapi.training.logs import RECORD_LIMIT, parse_records
from airflow_provider_jobapi.training.status import JobState, read_time
from tests.harness.proxy import FaultProxy
from tests.harness.records import format_record
from tests.harness.server import Server, poll, running

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
TEXTS = st.lists(
    st.one_of(st.text("abcä😀 ", max_size=60), st.integers(0, 16_000).map(lambda size: "x" * size)), max_size=30
)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("log") / "log"


@settings(max_examples=150)
@given(TEXTS, st.integers(1, 40_000), st.binary(max_size=50), st.sampled_from([JobState.RUNNING, JobState.FAILED]))
def test_reading_on_from_each_next_offset_yields_every_record_once(path: Path, texts, limit, half, state):
    records = [format_record(NOON, text) for text in texts]
    whole, half = b"".join(records), half.replace(b"\n", b"")
    path.write_bytes(whole + half)
    offset, seen = 0, b""
    while True:
        part = read_part(path, offset, limit, state)
        assert (part.size, part.state, part.next_offset) == (len(whole), state, offset + len(part.body))
        parse_records(part.body)
        assert len(part.body) <= limit or part.body.count(b"\n") == 1
        seen, offset = seen + part.body, part.next_offset
        assert part.complete == (state.ended and offset == len(whole))
        if not part.body:
            break
    assert seen == whole


@settings(max_examples=150)
@given(TEXTS, st.integers(0, 100_000))
def test_only_the_start_of_a_record_is_a_valid_offset(path: Path, texts, offset):
    records = [format_record(NOON, text) for text in texts]
    path.write_bytes(b"".join(records))
    starts = {sum(map(len, records[:count])) for count in range(len(records) + 1)}
    if offset in starts:
        assert read_part(path, offset, CHUNK_LIMIT, JobState.RUNNING).size == max(starts)
    else:
        with pytest.raises(Problem) as problem:
            read_part(path, offset, CHUNK_LIMIT, JobState.RUNNING)
        assert problem.value.status == 416
        assert problem.value.headers["Job-Log-Size"] == str(max(starts))


def test_a_log_that_is_not_there_yet_is_empty(path: Path):
    part = read_part(path.with_name("none"), 0, 10, JobState.PENDING)
    assert (part.body, part.size, part.complete) == (b"", 0, False)
    with pytest.raises(Problem):
        read_part(path.with_name("none"), 5, 10, JobState.PENDING)


def test_a_link_is_not_followed(path: Path):
    link = path.with_name("link")
    link.symlink_to("/etc/passwd")
    with pytest.raises(OSError, match="symbolic link"):
        read_part(link, 0, 10, JobState.RUNNING)


def test_one_record_is_returned_even_if_it_is_longer_than_the_limit(path: Path):
    text = "x" * (RECORD_LIMIT - 29)
    path.write_bytes(format_record(NOON, text) * 2)
    assert len(read_part(path, 0, 1, JobState.RUNNING).body) == RECORD_LIMIT


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("logs") / "root", "--cpus", "2", "--grace", "2s") as started:
        yield started


GATED = """
import pathlib, time
print("ready", flush=True)
for number in range(3):
    while not pathlib.Path(f"GATE{number}").exists():
        time.sleep(0.01)
    print("passed", number, flush=True)
"""


class Gated:
    """A job that writes a line each time it is told to."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.job_id = server.submit(GATED)
        self.path = f"/api/v2/jobs/{self.job_id}/logs"
        self.work = server.root / "clients" / "airflow" / "jobs" / self.job_id / "work"
        self.offset = 0
        poll(lambda: "ready" in self.read().text, 60, "the job to begin")
        server.wait_for(self.job_id, "RUNNING")

    def read(self, wait: int | None = None, **params: object):
        headers = {} if wait is None else {"Prefer": f"wait={wait}"}
        answer = self.server.request("GET", self.path, params={"offset": self.offset, **params}, headers=headers)
        if answer.status_code == 200:
            self.offset = int(answer.headers["job-log-next-offset"])
        return answer

    def open(self, number: int) -> None:
        (self.work / f"GATE{number}").touch()


@pytest.fixture(scope="module")
def gated(server: Server) -> Gated:
    return Gated(server)


@pytest.fixture
def pool():
    with concurrent.futures.ThreadPoolExecutor(4) as made:
        yield made


def test_an_answer_without_news_is_immediate_without_a_wait(gated: Gated):
    begin = time.monotonic()
    answer = gated.read()
    assert time.monotonic() - begin < 10
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["job-log-size"] == answer.headers["job-log-next-offset"] == str(gated.offset)
    assert (answer.headers["job-log-complete"], answer.headers["job-status"]) == ("false", "RUNNING")
    assert abs((read_time(answer.headers["job-time"]) - datetime.now(UTC)).total_seconds()) < 5
    assert "preference-applied" not in answer.headers
    assert answer.text == ""
    begin = time.monotonic()
    answer = gated.read(wait=1)
    assert 0.9 < time.monotonic() - begin < 15
    assert answer.headers["preference-applied"] == "wait=1"
    assert answer.text == ""


def test_a_new_line_ends_the_wait(gated: Gated, pool):
    waiting = pool.submit(gated.read, 20)
    gated.open(0)
    begin = time.monotonic()
    answer = waiting.result(18)
    assert time.monotonic() - begin < 15
    assert answer.text.endswith(" passed 0\n")
    assert len(parse_records(answer.content)) == 1


@pytest.mark.parametrize(
    ("preferred", "applied"),
    [
        ("wait=0", "wait=0"),
        ("respond-async, wait=0", "wait=0"),
        ('wait="0"', "wait=0"),
        ("WAIT = 0; foo", "wait=0"),
        ("wait=-1", None),
        ("wait=x", None),
        ("await=9", None),
        ("", None),
    ],
)
def test_a_preference_is_read_or_ignored(gated: Gated, preferred, applied):
    answer = gated.server.request(
        "GET", gated.path, params={"offset": gated.offset}, headers={"Prefer": preferred}, timeout=15
    )
    assert answer.headers.get("preference-applied") == applied


def test_a_wait_is_at_most_25_seconds(gated: Gated):
    answer = gated.server.request("GET", gated.path, headers={"Prefer": "wait=9999"})
    assert answer.headers["preference-applied"] == "wait=25"
    assert answer.text


@pytest.mark.parametrize("params", [{"offset": -1}, {"offset": "x"}, {"limit": 0}, {"known": "Running"}])
def test_an_invalid_parameter_is_refused(gated: Gated, params):
    answer = gated.server.request("GET", gated.path, params=params)
    assert (answer.status_code, answer.json()["field"]) == (422, next(iter(params)))


def test_an_invalid_offset_is_refused_with_the_size_of_the_log(gated: Gated):
    size = gated.server.request("GET", gated.path).headers["job-log-size"]
    for offset in (1, int(size) - 1, int(size) + 1, 2**53):
        answer = gated.server.request(
            "GET", gated.path, params={"offset": offset}, headers={"Prefer": "wait=20"}, timeout=15
        )
        assert answer.status_code == 416
        assert answer.headers["job-log-size"] == size
        assert answer.json()["type"] == "/problems/offset"


def test_an_answer_within_a_limit_has_whole_records(gated: Gated):
    log = gated.server.request("GET", gated.path).content
    answer = gated.server.request("GET", gated.path, params={"limit": 1})
    assert answer.content == log[: log.index(b"\n") + 1]
    assert answer.headers["job-log-size"] == str(len(log))


def test_a_status_other_than_the_known_one_ends_the_wait(gated: Gated):
    begin = time.monotonic()
    answer = gated.server.request(
        "GET", gated.path, params={"offset": gated.offset, "known": "PENDING"}, headers={"Prefer": "wait=20"}
    )
    assert time.monotonic() - begin < 15
    assert answer.headers["job-status"] == "RUNNING"


def test_the_end_of_the_job_ends_the_wait_and_the_log(gated: Gated, pool):
    gated.open(1)
    gated.open(2)
    texts, answer = "", None
    while answer is None or answer.headers["job-log-complete"] != "true":
        answer = gated.read(wait=20)
        texts += answer.text
    assert answer.headers["job-status"] == "SUCCESSFUL"
    assert [line.split(" ", 1)[1] for line in texts.splitlines()][:2] == ["passed 1", "passed 2"]
    begin = time.monotonic()
    again = gated.read(wait=20)
    assert time.monotonic() - begin < 15
    assert (again.text, again.headers["job-log-complete"]) == ("", "true")


def test_a_waiting_job_that_is_stopped_ends_the_wait(server: Server, pool):
    holders = [server.submit("import time\nwhile True: time.sleep(0.1)\n") for _ in range(2)]
    for each in holders:
        server.wait_for(each, "RUNNING")
    job_id = server.submit("print(1)")
    path = f"/api/v2/jobs/{job_id}/logs"
    waiting = pool.submit(server.request, "GET", path, headers={"Prefer": "wait=20"})
    server.request("POST", f"/api/v2/jobs/{job_id}/stop")
    answer = waiting.result(18)
    assert (answer.headers["job-status"], answer.headers["job-log-complete"]) == ("STOPPED", "true")
    for each in holders:
        server.request("POST", f"/api/v2/jobs/{each}/stop")
        server.wait_for(each)


def test_many_requests_wait_while_others_are_answered(server: Server):
    job_id = server.submit("import time\nwhile True: time.sleep(0.1)\n")
    server.wait_for(job_id, "RUNNING")
    path = f"/api/v2/jobs/{job_id}/logs"
    ask = {"params": {"offset": 0}, "headers": {"Prefer": "wait=25"}}
    with concurrent.futures.ThreadPoolExecutor(60) as pool:
        waiting = [pool.submit(server.request, "GET", path, **ask) for _ in range(60)]
        begin = time.monotonic()
        assert server.request("GET", "/healthz").status_code == 200
        assert server.request("GET", "/api/v2/storage").status_code == 200
        assert time.monotonic() - begin < 15
        server.request("POST", f"/api/v2/jobs/{job_id}/stop")
        for each in waiting:
            assert each.result(20).status_code == 200
    server.wait_for(job_id)


def test_the_shutdown_of_the_server_ends_the_waits(tmp_path, pool):
    with running(tmp_path / "root", "--grace", "1s") as server:
        job_id = server.submit("import time\nwhile True: time.sleep(0.1)\n")
        server.wait_for(job_id, "RUNNING")
        path = f"/api/v2/jobs/{job_id}/logs"
        size = int(server.request("GET", path).headers["job-log-size"])
        headers = {"Prefer": "wait=25", "Authorization": f"Bearer {server.token()}"}
        with FaultProxy(server.port) as way:
            waiting = pool.submit(requests.get, way.url + path, params={"offset": size}, headers=headers, timeout=60)
            begin = time.monotonic()
            poll(lambda: way.count(path), 20, "the request to be sent")
            server.request("GET", "/healthz")
            assert server.stop() == 0
        assert time.monotonic() - begin < 20
        assert waiting.result(1).status_code == 200
        server.restart()
        assert server.status(job_id)["status"] == "RUNNING"


def test_the_log_of_an_unknown_or_deleted_job_is_refused(server: Server):
    answer = server.request("GET", f"/api/v2/jobs/{uuid.uuid4()}/logs", headers={"Prefer": "wait=25"}, timeout=15)
    assert answer.status_code == 404
