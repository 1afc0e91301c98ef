# SPDX-License-Identifier: Apache-2.0
"""What a service says that lies: its tokens, its statuses, its logs, its errors. The worker takes none of it on trust."""

from __future__ import annotations

import json
import logging
from collections import Counter
from pathlib import Path

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
from airflow_provider_jobapi.services import retry
from tests.harness.hostile_server import (
    TOKEN,
    Answer,
    Endless,
    HostileServer,
    Reply,
    as_json,
    log_page,
    records,
    secrets_in,
)
from tests.hostile.lies import HANDLE, JOB_ID, OPERATIONS, check_error, one_clear_error, service
from tests.hostile.shapes import ROUTES, unknown_job

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


@settings(max_examples=100, derandomize=True, suppress_health_check=list(HealthCheck), database=None)
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
    with retry.testing():
        try:
            token = service(hostile).token()
        except TrainingError as error:
            check_error(error)
        else:
            assert token == answer["access_token"]


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


@settings(max_examples=150, derandomize=True, suppress_health_check=list(HealthCheck), database=None)
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
    with retry.testing():
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
    with retry.testing(), caplog.at_level(logging.INFO):
        lines = service(hostile).last_lines(HANDLE, 5)
    assert lines in ((), ("a",))
    assert hostile.count("/logs") <= 3
    assert not secrets_in([caplog.text])
    tally["lies told to the worker"] += 1


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
        unknown_job(hostile)
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
