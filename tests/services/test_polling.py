# SPDX-License-Identifier: Apache-2.0
"""What followers share that poll the logs of a job."""

from __future__ import annotations

import asyncio
import logging
import time

import pytest

from airflow_provider_jobapi.exceptions import ConnectionProblem, ServiceUnavailable
from airflow_provider_jobapi.services.polling import (
    COMPLETE_AFTER,
    COMPLETE_ANYWAY_AFTER,
    JITTER,
    REPORTED_AFTER,
    Complaints,
    QuietEnd,
    RequestPace,
    jittered,
)


def reads_until(end: QuietEnd, *, whole: bool) -> int:
    for number in range(1, 50):
        if end.reached(ended=True, news=False, whole=whole):
            return number
    raise AssertionError("it never ends")


def test_a_log_is_complete_after_quiet_reads() -> None:
    assert reads_until(QuietEnd(0), whole=True) == COMPLETE_AFTER
    assert reads_until(QuietEnd(0), whole=False) == COMPLETE_ANYWAY_AFTER
    end = QuietEnd(0)
    assert not end.reached(ended=False, news=False, whole=True)
    assert not end.reached(ended=True, news=False, whole=True)
    assert end.begun
    assert not end.reached(ended=True, news=True, whole=True)
    assert not end.begun
    assert reads_until(end, whole=True) == COMPLETE_AFTER


def test_quiet_reads_must_last_some_seconds() -> None:
    end = QuietEnd(3_600)
    assert not any(end.reached(ended=True, news=False, whole=True) for _ in range(20))
    assert (end.interval(5, ended=False), QuietEnd(8).interval(5, ended=True)) == (5, 4)


def test_an_error_is_said_once_for_each_kind(caplog: pytest.LogCaptureFixture) -> None:
    complaints = Complaints("j1", logging.getLogger("test"))
    for _ in range(REPORTED_AFTER - 1):
        complaints.note(ServiceUnavailable("It is busy."))
    complaints.note(None)
    assert caplog.text == ""
    for _ in range(REPORTED_AFTER + 2):
        complaints.note(ServiceUnavailable("It is busy."))
    assert caplog.text.count("It is busy.") == 1
    for _ in range(3):
        complaints.note(ConnectionProblem("It is not allowed."))
    assert caplog.text.count("The log of job j1 cannot be read, so lines may be missing here.") == 2


def test_intervals_differ() -> None:
    assert all(1 - JITTER <= jittered(1) <= 1 + JITTER for _ in range(100))
    assert len({jittered(1) for _ in range(20)}) > 1


def test_requests_are_spread() -> None:
    async def send() -> float:
        pace, began = RequestPace(100), time.monotonic()
        await asyncio.gather(*(pace.step() for _ in range(21)))
        return time.monotonic() - began

    assert asyncio.run(send()) >= 0.19
