# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from airflow_provider_jobapi.training.status import JobState, JobStatus

# The example of SAP's documentation of trainingClient, letter for letter.
DOCUMENTED = (
    '{"containerID":"","finishTime":null,"job_id":"","name":"","startTime":"","status":"Running","submissionTime":""}'
)


@pytest.mark.parametrize(
    ("word", "state"),
    [
        ("Running", JobState.RUNNING),
        ("RUNNING", JobState.RUNNING),
        ("PENDING", JobState.PENDING),
        ("SUCCESSFUL", JobState.SUCCESSFUL),
        ("Succeeded", JobState.SUCCESSFUL),
        ("succeeded", JobState.SUCCESSFUL),
        ("SUCCEEDED", JobState.SUCCESSFUL),
        ("FAILED", JobState.FAILED),
        ("STOPPED", JobState.STOPPED),
        ("cancelled", JobState.STOPPED),
        (" RUNNING\n", JobState.RUNNING),
    ],
)
def test_every_spelling_ever_seen_is_understood(word, state):
    assert JobState.read(word) is state


@pytest.mark.parametrize("word", ["", None, "HIBERNATING", 7])
def test_an_unknown_word_never_ends_a_job(word):
    state = JobState.read(word)
    assert state is JobState.UNKNOWN
    assert not state.ended


def test_only_the_three_ends_are_ends():
    assert {state for state in JobState if state.ended} == {JobState.SUCCESSFUL, JobState.FAILED, JobState.STOPPED}


def test_the_documented_status_object_is_read():
    status = JobStatus.model_validate_json(DOCUMENTED)
    assert status.status is JobState.RUNNING
    assert (status.start_time, status.finish_time, status.submission_time) == (None, None, None)


@pytest.mark.parametrize("unset", [None, "", "  ", "0001-01-01T00:00:00.000Z", "0001-01-01T00:00:00Z"])
def test_an_unset_time_is_unset_in_every_spelling(unset):
    assert JobStatus.model_validate({"status": "PENDING", "startTime": unset}).start_time is None


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2018-02-13T13:23:49Z", datetime(2018, 2, 13, 13, 23, 49, tzinfo=UTC)),
        ("2018-09-27T10:38:40.000Z", datetime(2018, 9, 27, 10, 38, 40, tzinfo=UTC)),
        ("2018-09-27T12:38:40+02:00", datetime(2018, 9, 27, 10, 38, 40, tzinfo=UTC)),
        ("2018-09-27T10:38:40", datetime(2018, 9, 27, 10, 38, 40, tzinfo=UTC)),
    ],
)
def test_times_are_read_as_the_service_wrote_them(text, moment):
    assert JobStatus.model_validate({"status": "RUNNING", "startTime": text}).start_time == moment


def test_the_wire_form_has_the_documented_keys_first_and_comes_back_equal():
    status = JobStatus(
        job_id="4", name="digits", status="FAILED", reason="OutOfMemory", exit_code=137, message="too big",
        submission_time=datetime(2026, 1, 1, tzinfo=UTC),
    )  # fmt: skip
    wire = status.to_wire()
    assert list(wire)[:7] == list(json.loads(DOCUMENTED))
    assert wire["submissionTime"] == "2026-01-01T00:00:00.000Z"
    assert wire["finishTime"] is None
    assert JobStatus.model_validate_json(json.dumps(wire)) == status


def test_fields_that_we_do_not_know_are_left_aside():
    assert JobStatus.model_validate({"status": "RUNNING", "gpuTemperature": 71}).status is JobState.RUNNING


def test_a_status_in_words():
    failed = JobStatus(status="FAILED", job_id="7", reason="NonZeroExit", exit_code=3, message="It ended with 3.")
    assert failed.describe() == "Job 7 failed: NonZeroExit, exit code 3. It ended with 3."
    assert JobStatus(status="STOPPED", job_id="7", name="train").describe() == "Job 7 (train) was stopped."
    assert JobStatus(status="RUNNING", job_id="7").describe() == "Job 7 is RUNNING."


def test_the_progress_is_on_the_wire_only_where_it_is_known():
    status = JobStatus(status="RUNNING", progress=0.45, remaining=720.0)
    assert JobStatus.model_validate_json(json.dumps(status.to_wire())) == status
    assert "remaining" not in status.model_copy(update={"remaining": None}).to_wire()
    assert not {"progress", "remaining"} & JobStatus(status="RUNNING").to_wire().keys()


@pytest.mark.parametrize("value", [-0.1, 1e300, float("nan"), float("inf"), "0.5", True, [], {}])
def test_a_progress_that_is_none_is_not_known(value):
    status = JobStatus.model_validate({"status": "RUNNING", "progress": value, "remaining": value})
    assert (status.progress, status.remaining) == (None, None)
