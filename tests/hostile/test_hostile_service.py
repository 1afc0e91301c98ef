# SPDX-License-Identifier: Apache-2.0
"""The worker's side of a jobAPI before a service that lies: one error of our tree, in time, and nothing given away."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_jobapi.exceptions import (
    ConnectionProblem,
    ServiceUnavailable,
)
from airflow_provider_jobapi.services import retry
from tests.harness.hostile_server import (
    TOKEN,
    Answer,
    Computed,
    HostileServer,
    Trickle,
    as_json,
    secrets_in,
)
from tests.harness.tls import Authority
from tests.hostile.lies import BRIEF, HANDLE, JOB_ID, OPERATIONS, job, one_clear_error, service
from tests.hostile.shapes import ROUTES, SHAPES, unknown_job


def test_an_honest_service_is_believed(hostile: HostileServer, destination: Path, tmp_path: Path) -> None:
    # Without this, everything below could fail for a reason of the test's own.
    assert service(hostile).token() == TOKEN
    for ask in OPERATIONS.values():
        ask(service(hostile), destination)
    assert service(hostile).last_lines(HANDLE, 5) == ("hello", "world")
    assert [path.name for path in destination.iterdir()] == ["1767225600"]
    unknown_job(hostile)
    hostile.says(f"POST /api/v2/jobs/{JOB_ID}", as_json({"job_id": JOB_ID, "status": "PENDING"}, 201))
    assert service(hostile).submit(job(), JOB_ID).handle == HANDLE
    assert hostile.count("PUT ") == 2


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
        unknown_job(hostile)
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
        unknown_job(hostile)
    slow = Trickle(b"HTTP/1.1 200 OK\r\nX: " + b"a" * 60_000 + b"\r\n\r\n", BRIEF / 4)
    hostile.says(ROUTES.get(operation, "/logs"), slow)
    tally["lies told to the worker"] += 1
    if operation == "lines":
        with retry.testing():
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


def test_a_slow_answer_is_given_up_within_tls_too(tmp_path: Path, tally: Counter[str]) -> None:
    authority = Authority(tmp_path)
    with HostileServer(authority.server_context()) as hostile:
        given = {"timeout": BRIEF, "ca_bundle": str(authority.bundle)}
        assert service(hostile, ca_bundle=str(authority.bundle)).status(HANDLE).status.ended
        for slow in (
            Trickle(b"HTTP/1.1 200 OK\r\nX: " + b"a" * 60_000, BRIEF / 4),
            Trickle(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n" + b" " * 60_000, BRIEF / 4),
        ):
            hostile.says(ROUTES["status"], slow)
            with one_clear_error(ServiceUnavailable):
                service(hostile, **given).status(HANDLE)
            tally["lies told to the worker"] += 1


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
        unknown_job(hostile)
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


# The storage


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
