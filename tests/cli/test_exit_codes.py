# SPDX-License-Identifier: Apache-2.0
"""Every end of a job as a sentence and as an exit code; every text as a terminal may see it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_jobapi.cli.exit_codes import exit_code
from airflow_provider_jobapi.cli.terminal import visible
from airflow_provider_jobapi.training.identity import Content
from airflow_provider_jobapi.training.status import JobStatus
from tests.harness.command import Command
from tests.harness.tiny import Tiny, reply

JOB_ID = "1b4e28ba-2fa1-11d2-883f-0016d3cca427"


@pytest.mark.parametrize(
    ("status", "reason", "code", "expected"),
    [
        ("SUCCESSFUL", None, 0, 0),
        ("COMPLETED", None, None, 0),
        ("FAILED", "NonZeroExit", 3, 3),
        ("FAILED", None, 3, 3),
        ("FAILED", "NonZeroExit", 255, 255),
        ("FAILED", "NonZeroExit", 256, 1),
        ("FAILED", "NonZeroExit", -9, 137),
        ("FAILED", None, None, 1),
        ("FAILED", "StorageFull", 0, 1),
        ("FAILED", "CompletionTimeExceeded", 143, 1),
        ("FAILED", "OutOfMemory", 137, 1),
        ("STOPPED", "Stopped", 143, 143),
        ("KILLED", None, None, 143),
        ("RUNNING", None, None, 69),
    ],
)
def test_exit_codes(status, reason, code, expected):
    assert exit_code(JobStatus(status=status, reason=reason, exit_code=code)) == expected


@given(st.text())
def test_nothing_drives_the_terminal(text):
    shown = visible(text)
    assert not [each for each in shown if (ord(each) < 32 and each != "\t") or 127 <= ord(each) < 160]
    assert visible(shown) == shown


@given(st.text(alphabet=st.characters(exclude_categories=["C"])))
def test_what_drives_nothing_is_shown_as_it_is(text):
    assert visible(text) == text


def test_the_id_follows_from_the_content_and_is_no_tasks():
    ids = {
        Content(client, digest).job_id(generation) for client in "ab" for digest in ("x", "y") for generation in (0, 1)
    }
    assert len(ids) == 8
    # Jobs are found again by it, so it must never change.
    assert Content("airflow", "ab" * 32).job_id(0) == "c3a7de44-7a86-5408-9680-0033e7bacc11"


def test_a_status_in_the_words_of_another_service(work):
    status = {"id": JOB_ID, "status": "Dead", "name": "x", "exitCode": 5, "startTime": "0001-01-01T00:00:00Z"}
    with Tiny({f"GET /api/v2/jobs/{JOB_ID}": reply(status)}) as tiny:
        done = Command(work, {"host": tiny.url, "login": "a", "password": "b"})("status", JOB_ID)
    assert "status:    FAILED (exit code 5)" in done.out
    assert "started" not in done.out
