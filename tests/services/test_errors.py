# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_jobapi.exceptions import (
    BrokenContract,
    ConnectionProblem,
    InvalidJob,
    JobConflict,
    JobGone,
    JobNotFound,
    QuotaReached,
    ServiceUnavailable,
    TrainingError,
)
from airflow_provider_jobapi.services.answer import Answer
from airflow_provider_jobapi.services.jobapi import contract
from airflow_provider_jobapi.services.jobapi.contract import Request
from airflow_provider_jobapi.services.jobapi.errors import error_of_answer

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
ADDRESS = "https://jobs.example.com"
POST = Request("POST", "/jobs/1", "job 1")
GET = contract.status("1")
STORAGE = contract.storage()


def refused(request: Request, status: int, content: Any = None, *secrets: str, **headers: str) -> TrainingError:
    named = {"content-type": "application/problem+json"} | {
        key.replace("_", "-"): value for key, value in headers.items()
    }
    body = content if isinstance(content, bytes) else json.dumps(content or {"detail": "The detail."}).encode()
    return error_of_answer(request, Answer(status, named, body, NOW), ADDRESS, secrets)


@pytest.mark.parametrize("body", [b"", b'{"detail": "The en', b"\xff\xfe", b"[" * 100_000, b"null", b"[1]", b'"text"'])
@pytest.mark.parametrize(
    ("request_", "status", "kind", "said"),
    [
        (GET, 500, ServiceUnavailable, f"{ADDRESS} cannot serve now. It answered 500."),
        (POST, 422, InvalidJob, "The service refuses job 1 and gives no reason."),
        (POST, 409, JobConflict, "The state of job 1 does not allow this."),
        (POST, 507, QuotaReached, "The service has no space left for this client."),
    ],
)
def test_an_answer_that_says_json_and_is_none_or_no_object(
    request_: Request, status: int, kind: type[TrainingError], said: str, body: bytes
) -> None:
    error = refused(request_, status, body or b" ")
    assert (type(error), str(error)) == (kind, said)


@pytest.mark.parametrize(
    ("request_", "status", "kind"),
    [
        (GET, 404, JobNotFound),
        (GET, 410, JobGone),
        (contract.log_page("1", 0), 404, JobNotFound),
        (contract.model("1"), 410, JobGone),
        (Request("PUT", "/storage/objects/jobs/t-1/a", "the file jobs/t-1/a"), 410, JobGone),
        (contract.model("1"), 409, JobConflict),
        (POST, 409, JobConflict),
        (POST, 400, InvalidJob),
        (POST, 413, InvalidJob),
        (POST, 422, InvalidJob),
        (STORAGE, 422, BrokenContract),
        (STORAGE, 404, ConnectionProblem),
        (STORAGE, 410, ConnectionProblem),
        (STORAGE, 405, ConnectionProblem),
        (STORAGE, 407, ConnectionProblem),
        (GET, 401, ConnectionProblem),
        (GET, 403, ConnectionProblem),
        (GET, 302, ConnectionProblem),
        (GET, 418, BrokenContract),
        (POST, 429, ServiceUnavailable),
        (GET, 500, ServiceUnavailable),
        (GET, 502, ServiceUnavailable),
        (GET, 503, ServiceUnavailable),
        (GET, 504, ServiceUnavailable),
        (POST, 507, QuotaReached),
    ],
)
def test_every_status_is_one_error_and_one_sentence(request_: Request, status: int, kind: type[TrainingError]) -> None:
    error = refused(request_, status)
    assert type(error) is kind
    assert str(error).endswith((".", "!"))
    if kind not in {JobNotFound, JobGone}:
        assert status == 302 or "The detail." in str(error)


def test_a_field_that_is_to_blame_is_kept() -> None:
    error = refused(
        POST, 422, {"detail": "job.execution.resources.cpus is too large.", "field": "job.execution.resources.cpus"}
    )
    assert isinstance(error, InvalidJob)
    assert error.field == "job.execution.resources.cpus"


def test_only_a_jobapi_may_say_that_there_is_no_job() -> None:
    """A proxy's web page must not make us submit a job again that is there."""
    error = refused(GET, 404, b"<html>Not found</html>", content_type="text/html")
    assert isinstance(error, ConnectionProblem)
    assert "check the connection's host and version" in str(error)


def test_a_detail_becomes_a_sentence() -> None:
    assert str(refused(POST, 422, {"detail": "no\r\nsuch field"})) == "no such field."
    assert str(refused(POST, 422, {"title": "No!", "detail": {}})) == "No!"


def test_what_a_service_repeats_is_hidden() -> None:
    error = refused(
        GET, 403, {"detail": "Bearer ey.token.x may not, nor secret-word."}, "ey.token.x", "secret-word", ""
    )
    assert "Bearer *** may not, nor ***." in str(error)


def test_where_a_redirect_leads_is_told_without_its_query() -> None:
    error = refused(GET, 307, location="https://me:pw@other.example.com/login?token=abc#x")
    assert "redirects to https://other.example.com/login;" in str(error)
    assert "abc" not in str(error)
    assert "pw" not in str(error)
    assert "another address" in str(refused(GET, 302, location="http://[broken"))


def test_a_busy_service_says_when_to_come_back() -> None:
    error = refused(GET, 429, retry_after="3")
    assert isinstance(error, ServiceUnavailable)
    assert error.retry_after == 3


@given(
    st.integers(300, 599), st.binary(max_size=80) | st.just(b'{"detail": {"a": 1}, "title": 5}'),
    st.dictionaries(st.sampled_from(["content-type", "location", "retry-after"]), st.text(max_size=30)),
    st.sampled_from([GET, POST, STORAGE]),
)  # fmt: skip
def test_any_refusal_is_one_of_our_errors(status: int, body: bytes, headers: dict[str, str], request_: Request) -> None:
    error = error_of_answer(request_, Answer(status, headers, body, NOW), ADDRESS)
    assert isinstance(error, TrainingError)
    assert "\n" not in str(error)
    assert len(str(error)) < 1_000
