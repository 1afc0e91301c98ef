# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import logging
import time

import pytest

from airflow_provider_jobapi.exceptions import ConnectionProblem, ServiceUnavailable
from airflow_provider_jobapi.services import patience
from airflow_provider_jobapi.services.patience import Patience


class Flaky:
    """Raises its errors one after the other, then works."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"


def busy(retry_after: float | None = None) -> ServiceUnavailable:
    return ServiceUnavailable("The service is busy.", retry_after=retry_after)


def test_only_what_may_pass_is_tried_again(no_waits: None) -> None:
    work = Flaky(busy(), busy())
    assert Patience().repeat(work) == "done"
    assert work.calls == 3

    work = Flaky(ConnectionProblem("The secret is wrong."))
    with pytest.raises(ConnectionProblem):
        Patience().repeat(work)
    assert work.calls == 1


def test_patience_ends(no_waits: None) -> None:
    work = Flaky(*(busy() for _ in range(20)))
    with pytest.raises(ServiceUnavailable):
        Patience(attempts=4).repeat(work)
    assert work.calls == 4


def test_the_service_says_how_long_to_wait() -> None:
    began = time.monotonic()
    assert Patience().repeat(Flaky(busy(0.3))) == "done"
    assert 0.3 <= time.monotonic() - began < 25


def test_what_is_asked_for_beyond_patience_is_not_waited_for() -> None:
    began = time.monotonic()
    work = Flaky(busy(30))
    with pytest.raises(ServiceUnavailable):
        Patience(total=5).repeat(work)
    assert work.calls == 1
    assert time.monotonic() - began < 25


def test_each_attempt_leaves_a_line(no_waits: None, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        Patience().repeat(Flaky(busy(2)), logging.getLogger("test"))
    assert caplog.messages == ["The service is busy. Trying again in 2.0 seconds."]


def test_the_switch_goes_back() -> None:
    assert patience.waits()
    with patience.testing():
        assert not patience.waits()
    assert patience.waits()
