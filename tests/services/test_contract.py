# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_jobapi.exceptions import BrokenContract
from airflow_provider_jobapi.services.answer import Answer
from airflow_provider_jobapi.services.jobapi import contract
from airflow_provider_jobapi.services.jobapi.listing import read_model, read_work
from airflow_provider_jobapi.training.job_file import JobFile
from airflow_provider_jobapi.training.status import JobState
from tests.harness.records import format_record

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)


def answer(content: Any = None, *, body: bytes | None = None, status: int = 200, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, named, json.dumps(content).encode() if body is None else body, NOW)


def page(body: bytes, offset: int = 0, **headers: str) -> Answer:
    end = str(offset + len(body))
    told = {"job_log_next_offset": end, "job_log_size": end, "job_status": "RUNNING", "job_log_complete": "false"}
    return answer(body=body, **{**told, **headers})


def test_requests_are_values() -> None:
    submit = contract.submit("a/../b", JobFile.parse("job: {name: t, execution: {command: run}}"))
    assert (submit.method, submit.path) == ("POST", "/jobs/a%2F..%2Fb")
    assert json.loads(submit.body or b"")["job"]["name"] == "t"
    assert contract.status("1").path == "/jobs/1"
    assert (contract.stop("1").method, contract.stop("1").path) == ("POST", "/jobs/1/stop")
    assert contract.model("1").path == "/jobs/1/model"
    log = contract.log_page("1", 7, wait=25, known=JobState.RUNNING)
    assert log.params == {"offset": "7", "limit": "1048576", "known": "RUNNING"}
    assert log.headers == {"Prefer": "wait=25"}
    assert contract.log_page("1", 0, known=JobState.UNKNOWN).params.keys() == {"offset", "limit"}
    assert contract.log_page("1", 0).headers == {}


def test_a_status_in_the_words_of_saps_service() -> None:
    seed = {
        "containerID": "", "finishTime": None, "job_id": "", "name": "", "startTime": "",
        "status": "Running", "submissionTime": "",
    }  # fmt: skip
    assert contract.read_status(answer(seed), "1").status is JobState.RUNNING
    other = {"id": "1", "status": "SUCCEEDED", "finishTime": "2018-09-27T10:38:40.000Z", "containerID": None}
    read = contract.read_status(answer(other), "1")
    assert (read.job_id, read.status) == ("1", JobState.SUCCESSFUL)
    assert read.finish_time == datetime(2018, 9, 27, 10, 38, 40, tzinfo=UTC)


def test_a_status_of_another_job_is_refused() -> None:
    with pytest.raises(BrokenContract, match=r"returned the status of job 2 instead of job 1\."):
        contract.read_status(answer({"job_id": "2", "status": "RUNNING"}), "1")


def test_what_a_service_says_is_made_fit_for_a_log() -> None:
    said = contract.read_status(answer({"status": "FAILED", "message": "\x1b[31mbad\r\nline\u2028" + "x" * 9_000}), "1")
    assert said.message.startswith("[31mbad line x")
    assert len(said.message) <= 2_001
    long = dict.fromkeys(("name", "reason", "containerID", "dataVersion"), "x" * 9000)
    said = contract.read_status(answer({"status": "FAILED", **long}), "1")
    assert (len(said.name), len(said.reason or ""), len(said.container_id), said.data_version) == (501, 501, 501, None)


@given(
    JSON | st.dictionaries(st.sampled_from(["job_id", "status", "startTime", "exitCode", "message", "reason"]), JSON)
)
def test_any_json_is_a_status_or_a_broken_contract(content: Any) -> None:
    try:
        read = contract.read_status(answer(content), "1")
    except BrokenContract:
        return
    assert isinstance(read.status, JobState)


@given(st.binary(max_size=200).filter(lambda body: b"{" not in body))
def test_bytes_that_are_no_object_are_a_broken_contract(body: bytes) -> None:
    for read in (contract.read_storage, read_model, read_work, contract.read_objects):
        with pytest.raises(BrokenContract):
            read(answer(body=body))


@given(JSON, JSON, JSON)
def test_any_json_is_a_storage_a_model_a_listing_or_a_broken_contract(one: Any, two: Any, three: Any) -> None:
    for read, names in (
        (contract.read_storage, ("protocol", "endpoint", "status")),
        (read_model, ("model", "files", "path")),
        (contract.read_objects, ("objects", "next", "key")),
    ):
        try:
            read(answer(dict(zip(names, (one, two, three), strict=True))))
        except BrokenContract:
            continue


def test_deep_json_is_a_broken_contract() -> None:
    with pytest.raises(BrokenContract, match="not a JSON object"):
        contract.read_storage(answer(body=b'{"a":' + b"[" * 100_000))


def test_a_web_page_in_place_of_a_service_is_named() -> None:
    with pytest.raises(BrokenContract, match=r"begins with '<html> hello'; check that the connection's host"):
        contract.read_storage(answer(body=b"<html>\nhello"))


def test_a_log_page() -> None:
    body = format_record(NOW, "one") + format_record(NOW, "two ü")
    read = contract.read_log_page(page(body, 10), 10)
    assert [line.text for line in read.lines] == ["one", "two ü"]
    assert (read.next_offset, read.size, read.complete, read.state) == (
        10 + len(body),
        10 + len(body),
        False,
        "RUNNING",
    )


def test_only_a_job_that_ended_has_a_complete_log() -> None:
    assert not contract.read_log_page(page(b"", job_log_complete="true"), 0).complete
    assert contract.read_log_page(page(b"", job_log_complete="true", job_status="FAILED"), 0).complete


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({"job_log_next_offset": "0"}, "is inconsistent"),
        ({"job_log_next_offset": "99999"}, "is inconsistent"),
        ({"job_log_size": "3"}, "is inconsistent"),
        ({"job_log_size": "-3"}, "job-log-size is '-3'"),
        ({"job_log_size": "9" * 30}, "job-log-size"),
        ({"job_log_next_offset": "١"}, "job-log-next-offset"),
        ({"job_log_next_offset": ""}, "job-log-next-offset"),
    ],
)
def test_a_log_page_that_cannot_be_true(headers: dict[str, str], words: str) -> None:
    with pytest.raises(BrokenContract, match=words):
        contract.read_log_page(page(format_record(NOW, "one"), **headers), 0)


def test_a_log_page_that_is_too_large() -> None:
    with pytest.raises(BrokenContract, match="at most 1,048,576 are allowed"):
        contract.read_log_page(page(b"\n" * (2**20 + 1)), 0)


@given(st.lists(st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]), max_size=20)))
def test_every_log_is_read_as_it_was_written(texts: list[str]) -> None:
    body = b"".join(format_record(NOW, text) for text in texts)
    assert [line.text for line in contract.read_log_page(page(body), 0).lines] == texts


@given(st.binary(min_size=1, max_size=60))
def test_any_bytes_are_records_or_a_broken_contract(body: bytes) -> None:
    try:
        contract.read_log_page(page(body), 0)
    except BrokenContract:
        return


def test_the_skew_is_our_clock_minus_theirs() -> None:
    assert contract.read_skew(answer(job_time="2026-11-21T11:59:57.500000Z")) == timedelta(seconds=2.5)
    assert contract.read_skew(answer(job_time="2026-11-21T12:00:01")) == timedelta(seconds=-1)
    assert contract.read_skew(answer(job_time="soon")) == timedelta(0)
    assert contract.read_skew(answer()) == timedelta(0)


def test_a_storage_of_saps_service_is_s3_over_tls() -> None:
    read = contract.read_storage(answer({"endpoint": "files.example.com", "accessKey": "a", "secretKey": "hidden"}))
    assert (read.protocol, read.bucket, read.state) == ("s3", "data", "READY")
    assert "hidden" not in repr(read)
    with pytest.raises(BrokenContract, match="protocol 'gopher'"):
        contract.read_storage(answer({"protocol": "Gopher"}))


def test_a_job_without_a_model() -> None:
    assert read_model(answer({"job_id": "1", "model": None})) is None
    with pytest.raises(BrokenContract, match="no list of files"):
        read_model(answer({"job_id": "1"}))
