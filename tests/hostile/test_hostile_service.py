# SPDX-License-Identifier: Apache-2.0
"""The worker's side of a jobAPI before a service that lies: one error of our tree, in time, and nothing given away."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_jobapi.exceptions import (
    BrokenContract,
    ConnectionProblem,
    InvalidJob,
    JobConflict,
    QuotaReached,
    ServiceUnavailable,
    TrainingError,
)
from airflow_provider_jobapi.services import patience
from tests.harness.hostile_server import (
    TOKEN,
    Answer,
    Computed,
    Endless,
    HostileServer,
    Raw,
    Reply,
    Silence,
    Trickle,
    as_json,
    log_page,
    records,
    secrets_in,
)
from tests.hostile.lies import BRIEF, HANDLE, JOB_ID, OPERATIONS, check_error, job, one_clear_error, service

ROUTES = {
    "token": "/oauth/token",
    "storage": "/api/v2/storage",
    "submit": f"POST /api/v2/jobs/{JOB_ID}",
    "find": f"GET /api/v2/jobs/{JOB_ID}",
    "status": f"GET /api/v2/jobs/{JOB_ID}",
    "stop": f"POST /api/v2/jobs/{JOB_ID}/stop",
    "fetch": f"GET /api/v2/jobs/{JOB_ID}/model",
}
"""The route on which the lie stands, by what is asked of the service."""


def _unknown_job(server: HostileServer) -> None:
    """Let a submit have something to do."""
    server.says(f"GET /api/v2/jobs/{JOB_ID} ".rstrip(), as_json({"detail": "None."}, 404))


def test_an_honest_service_is_believed(hostile: HostileServer, destination: Path, tmp_path: Path) -> None:
    # Without this, everything below could fail for a reason of the test's own.
    assert service(hostile).token() == TOKEN
    for ask in OPERATIONS.values():
        ask(service(hostile), destination)
    assert service(hostile).last_lines(HANDLE, 5) == ("hello", "world")
    assert [path.name for path in destination.iterdir()] == ["1767225600"]
    _unknown_job(hostile)
    hostile.says(f"POST /api/v2/jobs/{JOB_ID}", as_json({"job_id": JOB_ID, "status": "PENDING"}, 201))
    assert service(hostile).submit(job(), JOB_ID).handle == HANDLE
    assert hostile.count("PUT ") == 2


SHAPES: dict[str, Reply] = {
    "nothing": Answer(200, {"Content-Type": "application/json"}),
    "HTML": Answer(200, {"Content-Type": "text/html"}, b"<html><body>Welcome to the captive portal</body></html>"),
    "a-list": as_json([1, 2, 3]),
    "a-text": as_json("hello"),
    "a-number": as_json(1),
    "null": as_json(None),
    "half-an-object": Answer(200, {"Content-Type": "application/json"}, b'{"job_id": "'),
    "deep": Answer(200, {"Content-Type": "application/json"}, b"[" * 60_000),
    "deep-objects": Answer(200, {"Content-Type": "application/json"}, b'{"a":' * 12_000),
    "a-huge-number": Answer(200, {"Content-Type": "application/json"}, b'{"expires_in": 1' + b"0" * 5_000 + b"}"),
    "no-encoding": Answer(200, {"Content-Type": "application/json"}, b"\xff\xfe{\x00}"),
    "NULs": Answer(200, {"Content-Type": "application/json"}, b"\0" * 1_000),
    "cut-off": Answer(200, {"Content-Length": "1000"}, b'{"job_id": "x"'),
    "a-bomb": Answer(200, {"Content-Encoding": "gzip"}, b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03" + b"\xff" * 100),
    "a-status-of-999": Answer(999),
    "a-status-of-299": Answer(299, {}, b"warning"),
    "a-teapot": Answer(418),
    "nothing-at-all": Raw(b""),
    "no-HTTP": Raw(b"SSH-2.0-OpenSSH_9.2\r\n"),
    "binary": Raw(bytes(range(256)) * 4),
    "a-status-line-only": Raw(b"HTTP/1.1 200 OK\r\n"),
    "no-status": Raw(b"HTTP/1.1 OK\r\n\r\n"),
    "negative-length": Raw(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n[]"),
    "two-lengths": Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}"),
    "bad-chunks": Raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n{}"),
    "half-a-chunk": Raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nFF\r\n{}"),
    "a-huge-header": Raw(b"HTTP/1.1 200 OK\r\nX: " + b"a" * 200_000 + b"\r\n\r\n"),
    "thousands-of-headers": Raw(b"HTTP/1.1 200 OK\r\n" + b"X: a\r\n" * 20_000 + b"\r\n"),
    "100-for-ever": Endless(b"HTTP/1.1 100 Continue\r\n\r\n" * 100, b""),
    "headers-for-ever": Endless(b"X: " + b"a" * 1_000 + b"\r\n", b"HTTP/1.1 200 OK\r\n"),
    "a-line-for-ever": Endless(b"a" * 65_536, b"HTTP/1.1 200 "),
    "a-body-for-ever": Endless(b" " * 65_536),
    "chunks-for-ever": Endless(
        b"10000\r\n" + b" " * 65_536 + b"\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    ),
    "an-error-for-ever": Endless(b" " * 65_536, b"HTTP/1.1 422 No\r\nContent-Type: application/problem+json\r\n\r\n"),
    "busy-for-ever": Endless(b" " * 65_536, b"HTTP/1.1 503 No\r\nRetry-After: 0\r\n\r\n"),
    "silence": Silence(),
}


_NO_SUCCESS = {
    "a-status-of-999", "a-teapot", "nothing-at-all", "no-HTTP", "binary", "no-status", "an-error-for-ever", "busy-for-ever",
    "headers-for-ever", "a-line-for-ever", "a-huge-header", "thousands-of-headers",
}  # fmt: skip
"""What is wrong before anybody looks at what a success says; nobody does so after a stop."""


def _cases() -> Iterator[Any]:
    for operation in ROUTES:
        for shape in SHAPES:
            long = shape in {"100-for-ever", "silence"} and operation not in {"token", "status"}
            if operation != "stop" or shape in _NO_SUCCESS:
                yield pytest.param(operation, shape, marks=[pytest.mark.slow] if long else [])


@pytest.mark.parametrize(("operation", "shape"), list(_cases()))
def test_an_answer_of_the_wrong_shape(
    operation: str, shape: str, hostile: HostileServer, destination: Path, tally: Counter[str]
) -> None:
    if operation == "submit":
        _unknown_job(hostile)
    hostile.says(ROUTES[operation], SHAPES[shape])
    tally["lies told to the worker"] += 1
    with one_clear_error():
        OPERATIONS[operation](service(hostile, timeout=BRIEF), destination)
    assert not list(destination.iterdir())


@pytest.mark.parametrize(
    "operation",
    [
        "token",
        "status",
        "lines",
        *(pytest.param(each, marks=pytest.mark.slow) for each in ROUTES if each not in {"token", "status"}),
    ],
)
def test_an_answer_that_comes_a_byte_at_a_time_is_given_up(
    operation: str, hostile: HostileServer, destination: Path, tally: Counter[str]
) -> None:
    """Never silent for as long as a timeout, and never done: a day for the head alone."""
    if operation == "submit":
        _unknown_job(hostile)
    slow = Trickle(b"HTTP/1.1 200 OK\r\nX: " + b"a" * 60_000 + b"\r\n\r\n", BRIEF / 4)
    hostile.says(ROUTES.get(operation, "/logs"), slow)
    tally["lies told to the worker"] += 1
    if operation == "lines":
        with patience.testing():
            assert service(hostile, timeout=BRIEF).last_lines(HANDLE, 5) == ()
        return
    with one_clear_error(ServiceUnavailable):
        OPERATIONS[operation](service(hostile, timeout=BRIEF), destination)


def test_a_body_that_comes_a_byte_at_a_time_is_given_up(hostile: HostileServer, tally: Counter[str]) -> None:
    hostile.says(
        ROUTES["status"], Trickle(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n" + b" " * 60_000, BRIEF / 4)
    )
    with one_clear_error(ServiceUnavailable):
        service(hostile, timeout=BRIEF).status(HANDLE)
    tally["lies told to the worker"] += 1


# The token


@pytest.mark.parametrize(
    "answer",
    [
        {}, {"access_token": None}, {"access_token": 1}, {"access_token": ""}, {"access_token": ["a"]}, {"access_token": {"a": "b"}},
        {"access_token": "a b"}, {"access_token": "a\r\nX-Injected: 1"}, {"access_token": "a\n"}, {"access_token": "ä"},
        {"access_token": "\ud800"}, {"access_token": "a" * 20_000}, {"access_token": "a\0"},
        {"access_token": "a", "expires_in": -1}, {"access_token": "a", "expires_in": 0}, {"access_token": "a", "expires_in": "soon"},
        {"access_token": "a", "expires_in": "-5"}, {"access_token": "a", "expires_in": [1]}, {"access_token": "a", "expires_in": {}},
        {"access_token": "a", "expires_in": 1e308}, {"access_token": "a", "expires_in": float("inf")},
        {"access_token": "a", "expires_in": float("nan")}, {"access_token": "a", "expires_in": ""},
        {"access_token": "a", "expires_at": "never"}, {"access_token": "a", "expires_at": [1]},
        {"access_token": "a", "token_type": "mac"}, {"access_token": "a", "token_type": 7}, {"access_token": "a", "token_type": {"a": 1}},
        {"error": None}, {"error": {"a": [1]}}, {"error": ["x"]}, {"error": "x" * 30_000}, {"error": "a\n\x1b[2Jb"},
        {"error": "invalid_client", "error_description": {"a": 1}}, {"error": "invalid_client", "error_description": "no\r\nno"},
    ],
    ids=lambda value: json.dumps(value)[:50],
)  # fmt: skip
def test_a_token_that_is_none(answer: dict[str, object], hostile: HostileServer, tally: Counter[str]) -> None:
    hostile.says("/oauth/token", as_json({"token_type": "Bearer", "expires_in": 60} | answer))
    tally["lies told to the worker"] += 1
    usable = (
        {"access_token": "a", "expires_in": ""},
        {"access_token": "a", "expires_at": "never"},
        {"access_token": "a", "expires_at": [1]},
    )
    if answer in usable:
        # Nothing is wrong with the token itself; what matters is that nothing else than ours comes out.
        try:
            assert service(hostile).token() == "a"
        except TrainingError as error:
            check_error(error)
        return
    with one_clear_error(BrokenContract, ConnectionProblem):
        service(hostile).token()
    assert not [seen for seen in hostile.seen if "x-injected" in seen.headers]


@settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None)
@given(
    st.dictionaries(
        st.sampled_from(
            ["access_token", "token_type", "expires_in", "expires_at", "error", "error_description", "scope"]
        ),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
            max_leaves=5,
        ),
    ),
    st.sampled_from([200, 201, 400, 401, 403, 404, 418, 500, 503]),
)
def test_no_token_answer_brings_an_error_of_somebody_else(
    hostile: HostileServer, tally: Counter[str], answer: dict[str, object], status: int
) -> None:
    hostile.says("/oauth/token", as_json(answer, status))
    tally["lies told to the worker"] += 1
    with patience.testing():
        try:
            token = service(hostile).token()
        except TrainingError as error:
            check_error(error)
        else:
            assert token == answer["access_token"]


# Redirects


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
@pytest.mark.parametrize("operation", [*ROUTES, "lines", "upload", "download", "listing"])
def test_no_redirect_is_followed_and_no_token_goes_along(
    operation: str, status: int, hostile: HostileServer, destination: Path, tally: Counter[str]
) -> None:
    routes = ROUTES | {
        "lines": "/logs",
        "upload": "PUT /",
        "download": "/storage/objects/m/",
        "listing": "/storage/objects?",
    }
    asks = OPERATIONS | {
        "upload": OPERATIONS["submit"],
        "listing": OPERATIONS["submit"],
        "download": OPERATIONS["fetch"],
        "lines": lambda service, _: (
            service.last_lines(HANDLE, 5) or (_ for _ in ()).throw(ConnectionProblem("No lines there."))
        ),
    }
    if operation in {"submit", "upload", "listing"}:
        _unknown_job(hostile)
    with HostileServer() as elsewhere:
        # Another host, and another port of the same: neither may be given the token.
        for host in ("127.0.0.1", "localhost"):
            hostile.says(routes[operation], Answer(status, {"Location": f"http://{host}:{elsewhere.port}/take?it=all"}))
            with one_clear_error(ConnectionProblem) as refused:
                asks[operation](service(hostile), destination)
            assert "take?it=all" not in str(refused.error)
            tally["redirects that were not followed"] += 1
        assert elsewhere.seen == []


def test_a_storage_that_points_elsewhere_gets_no_token(hostile: HostileServer, destination: Path) -> None:
    with HostileServer() as elsewhere:
        told = {"endpoint": elsewhere.url, "protocol": "http", "bucket": "data", "status": "READY"}
        hostile.says("/api/v2/storage ".rstrip(), Computed(lambda seen: _storage_or_honest(seen, told)))
        service(hostile).fetch_model(HANDLE, destination)
        assert elsewhere.seen == []


def test_an_s3_storage_that_is_a_lie_gets_its_own_keys_and_nothing_of_ours(
    hostile: HostileServer, destination: Path
) -> None:
    with HostileServer() as elsewhere:
        told = {
            "endpoint": elsewhere.url,
            "protocol": "s3",
            "bucket": "data",
            "accessKey": "a",
            "secretKey": "b",
            "status": "READY",
        }
        hostile.says("/api/v2/storage ".rstrip(), Computed(lambda seen: _storage_or_honest(seen, told)))
        with one_clear_error(within=60):
            service(hostile).fetch_model(HANDLE, destination)
        assert elsewhere.seen
        assert not secrets_in(f"{seen.line} {seen.headers} {seen.body!r}" for seen in elsewhere.seen)


def _storage_or_honest(seen, told):
    from tests.harness.hostile_server import honest

    return as_json(told) if seen.path == "/api/v2/storage" else honest(seen)


def test_cookies_are_not_kept(hostile: HostileServer) -> None:
    content = {"job_id": JOB_ID, "status": "RUNNING"}
    hostile.says(ROUTES["status"], as_json(content, 200, **{"Set-Cookie": "session=stolen; Path=/"}))
    asked = service(hostile)
    asked.status(HANDLE)
    asked.status(HANDLE)
    assert not [seen for seen in hostile.seen if "cookie" in seen.headers]


# Storage, jobs, logs


@pytest.mark.parametrize(
    "content",
    [
        {"protocol": "gopher"}, {"protocol": 1}, {"protocol": ["s3"]}, {"status": "READY", "endpoint": {}}, {"bucket": 1}, {"message": []},
        {"protocol": "s3"}, {"protocol": "s3", "endpoint": "http://[", "accessKey": "a", "secretKey": "b"},
        {"protocol": "s3", "endpoint": "file:///etc", "accessKey": "a", "secretKey": "b"},
        {"protocol": "s3", "endpoint": "a\r\nb", "accessKey": "a", "secretKey": "b"},
        {"protocol": "s3", "endpoint": "http://127.0.0.1:1", "accessKey": "a\r\nX: y", "secretKey": "b", "bucket": "../.."},
        {"protocol": "s3", "endpoint": "http://127.0.0.1:1", "accessKey": "a", "secretKey": "b", "region": "\n"},
        {"protocol": "http", "status": "ERROR", "message": "x" * 100_000}, {"protocol": "http", "status": "a" * 100_000},
        {"protocol": "http", "status": "PENDING", "message": "\x1b[2J\n::error::"},
    ],
    ids=lambda value: json.dumps(value)[:60],
)  # fmt: skip
def test_a_storage_that_cannot_be(
    content: dict[str, object], hostile: HostileServer, destination: Path, tally: Counter[str]
) -> None:
    hostile.says("/api/v2/storage", as_json(content))
    with one_clear_error(within=60):
        service(hostile).fetch_model(HANDLE, destination)
    tally["lies told to the worker"] += 1
    assert not list(destination.iterdir())


@pytest.mark.parametrize(
    "change",
    [
        {"status": None}, {"job_id": "another"}, {"job_id": 7}, {"job_id": ["a"]}, {"name": {}}, {"finishTime": "yesterday"},
        {"finishTime": 1e300}, {"finishTime": {}}, {"finishTime": "2026-99-99"}, {"exitCode": "many"}, {"exitCode": 1.5}, {"message": []},
        {"reason": {}}, {"startTime": [1]},
    ],
    ids=lambda value: json.dumps(value)[:40],
)  # fmt: skip
def test_a_status_that_cannot_be(change: dict[str, object], hostile: HostileServer, tally: Counter[str]) -> None:
    hostile.says(ROUTES["status"], as_json({"job_id": JOB_ID, "status": "RUNNING"} | change))
    with one_clear_error(BrokenContract):
        service(hostile).status(HANDLE)
    tally["lies told to the worker"] += 1


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None)
@given(
    st.dictionaries(
        st.sampled_from(
            [
                "job_id",
                "id",
                "status",
                "name",
                "finishTime",
                "startTime",
                "submissionTime",
                "message",
                "reason",
                "exitCode",
            ]
        ),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30) | st.datetimes().map(str),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
            max_leaves=4,
        ),
    )
)
def test_no_status_brings_an_error_of_somebody_else(
    hostile: HostileServer, tally: Counter[str], destination: Path, content: dict[str, object]
) -> None:
    hostile.says(ROUTES["status"] + "/model", as_json({"job_id": JOB_ID, "model": None}))
    hostile.says(ROUTES["status"], as_json(content))
    tally["lies told to the worker"] += 1
    asked = service(hostile)
    with patience.testing():
        for ask in (lambda: asked.status(HANDLE), lambda: asked.find(JOB_ID)):
            try:
                ask()
            except TrainingError as error:
                check_error(error)


@pytest.mark.parametrize(
    "time", ["", "now", "9999-12-31T23:59:59.999999Z", "0001-01-01T00:00:00+14:00", "1e9", "2026-01-01T00:00:00+99:00"]
)
def test_a_clock_that_cannot_be(time: str, hostile: HostileServer) -> None:
    hostile.says(ROUTES["find"], as_json({"job_id": JOB_ID, "status": "RUNNING"}, 200, **{"Job-Time": time}))
    found = service(hostile).find(JOB_ID)
    assert found.handle == HANDLE


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(log_page(b"no time here\n", 0), id="no-time"),
        pytest.param(log_page(b"2026-01-01T00:00:00.000000Z cut", 0), id="cut"),
        pytest.param(log_page(records("a"), 1_000), id="ahead"),
        pytest.param(log_page(records("a"), 0, Job_Log_Next_Offset="0"), id="does-not-move"),
        pytest.param(log_page(records("a"), 0, Job_Log_Next_Offset="-5"), id="goes-back"),
        pytest.param(log_page(records("a"), 0, Job_Log_Next_Offset="9" * 30), id="beyond-all"),
        pytest.param(log_page(records("a"), 0, Job_Log_Next_Offset="many"), id="no-number"),
        pytest.param(log_page(records("a"), 0, Job_Log_Size="1"), id="smaller-than-itself"),
        pytest.param(log_page(b"", 0, Job_Log_Size="99999"), id="never-gives-what-it-has"),
        pytest.param(Answer(200, {}, records("a")), id="no-headers"),
        pytest.param(log_page(records("a" * 2_000_000), 0), id="too-much"),
        pytest.param(
            Endless(b"a" * 65_536, b"HTTP/1.1 200 OK\r\nJob-Log-Next-Offset: 0\r\nJob-Log-Size: 0\r\n\r\n"),
            id="endless",
        ),
        pytest.param(log_page(b"\xff" * 30 + b"\n", 0), id="binary"),
        pytest.param(as_json({"detail": "no"}, 416), id="416"),
    ],
)
def test_the_last_lines_are_best_effort_whatever_the_log_says(
    reply: Reply, hostile: HostileServer, tally: Counter[str], caplog: pytest.LogCaptureFixture
) -> None:
    hostile.says("/logs", reply)
    with patience.testing(), caplog.at_level(logging.INFO):
        lines = service(hostile).last_lines(HANDLE, 5)
    assert lines in ((), ("a",))
    assert hostile.count("/logs") <= 3
    assert not secrets_in([caplog.text])
    tally["lies told to the worker"] += 1


@pytest.mark.slow
def test_a_log_of_crumbs_does_not_hold_the_worker(hostile: HostileServer) -> None:
    """A log that gives one short record an answer, and says that there are millions more."""

    def crumb(seen):
        offset = int(seen.path.partition("offset=")[2].partition("&")[0] or 0)
        return log_page(records("a"), offset, Job_Log_Size="99999999999")

    hostile.says("/logs", Computed(crumb))
    import time

    started = time.monotonic()
    assert set(service(hostile).last_lines(HANDLE, 5)) == {"a"}
    assert time.monotonic() - started < 120


# What a service says with an error


@pytest.mark.parametrize(
    ("status", "kinds"),
    [
        (400, (InvalidJob, BrokenContract)), (401, (ConnectionProblem,)), (403, (ConnectionProblem,)), (404, (TrainingError,)),
        (405, (ConnectionProblem,)), (407, (ConnectionProblem,)), (409, (JobConflict,)), (410, (TrainingError,)), (413, (InvalidJob, BrokenContract)),
        (422, (InvalidJob, BrokenContract)), (429, (ServiceUnavailable,)), (451, (BrokenContract,)), (500, (ServiceUnavailable,)),
        (503, (ServiceUnavailable,)), (507, (QuotaReached,)), (599, (ServiceUnavailable,)), (600, (TrainingError,)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("operation", ["submit", "status", "stop", "fetch"])
def test_what_a_service_says_with_an_error_is_one_tame_sentence(
    operation: str,
    status: int,
    kinds: tuple[type[TrainingError], ...],
    hostile: HostileServer,
    destination: Path,
    tally: Counter[str],
) -> None:
    if operation == "submit":
        _unknown_job(hostile)
    wild = f"\x1b[31mred\x1b[0m\r\n::error::{TOKEN} %s {{}} \u2028 \x00 " + "x" * 100_000
    for content in (
        {"detail": wild, "field": wild},
        {"detail": [wild]},
        {"detail": None, "title": {"a": 1}},
        [wild],
        wild,
    ):
        for kind in ("application/problem+json", "text/html", "\xff"):
            headers = {"Content-Type": kind, "Retry-After": "-1", "WWW-Authenticate": wild[:5].strip("\x1b")}
            hostile.says(ROUTES[operation], Answer(status, headers, json.dumps(content).encode()))
            with one_clear_error(*kinds):
                OPERATIONS[operation](service(hostile), destination)
            tally["lies told to the worker"] += 1


@pytest.mark.parametrize(
    "value", ["-1", "1e9", "nan", "inf", "9" * 400, "tomorrow", "Wed, 99 Feb 99999 99:99:99 GMT", "\xff", ""]
)
def test_no_retry_after_holds_us_for_ever(value: str, hostile: HostileServer) -> None:
    hostile.says(ROUTES["status"], Answer(503, {"Retry-After": value}))
    with one_clear_error(ServiceUnavailable) as refused:
        service(hostile).status(HANDLE)
    asked = refused.error.retry_after  # type: ignore[attr-defined]
    assert asked is None or 0 <= asked <= 3600
