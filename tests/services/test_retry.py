# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
import logging
import time
from datetime import UTC, datetime

import pytest

from airflow_provider_jobapi.exceptions import BrokenContract, ConnectionProblem, ServiceUnavailable, describe
from airflow_provider_jobapi.services import retry
from airflow_provider_jobapi.services.answer import Answer
from airflow_provider_jobapi.services.retry import Outage, Retry


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

    async def call_async(self) -> str:
        return self()


def busy(retry_after: float | None = None) -> ServiceUnavailable:
    return ServiceUnavailable("The service is busy.", retry_after=retry_after)


@pytest.fixture(params=["sync", "async"])
def call(request: pytest.FixtureRequest):
    """Calls a Flaky through a Retry, in either of the two ways."""

    def sync(policy: Retry, work: Flaky, log: logging.Logger | None = None) -> str:
        return policy.call(work, log)

    def by_event_loop(policy: Retry, work: Flaky, log: logging.Logger | None = None) -> str:
        return asyncio.run(policy.call_async(lambda: work.call_async(), log))  # noqa: PLW0108 -- as followers do

    return sync if request.param == "sync" else by_event_loop


def test_only_an_unavailable_service_is_called_again(call, no_waits: None) -> None:
    work = Flaky(busy(), busy())
    assert call(Retry(), work) == "done"
    assert work.calls == 3

    work = Flaky(ConnectionProblem("The secret is wrong."))
    with pytest.raises(ConnectionProblem):
        call(Retry(), work)
    assert work.calls == 1


def test_the_attempts_are_limited(call, no_waits: None) -> None:
    work = Flaky(*(busy() for _ in range(20)))
    with pytest.raises(ServiceUnavailable):
        call(Retry(attempts=4), work)
    assert work.calls == 4


def test_retry_after_is_kept(call) -> None:
    began = time.monotonic()
    assert call(Retry(), Flaky(busy(0.3))) == "done"
    assert 0.3 <= time.monotonic() - began < 25


def test_a_retry_after_beyond_the_total_ends_the_attempts(call) -> None:
    began = time.monotonic()
    work = Flaky(busy(30))
    with pytest.raises(ServiceUnavailable):
        call(Retry(total=5), work)
    assert work.calls == 1
    assert time.monotonic() - began < 25


def test_only_if_asked(call, no_waits: None) -> None:
    work = Flaky(busy(1), busy())
    with pytest.raises(ServiceUnavailable):
        call(Retry(only_if_asked=True), work)
    assert work.calls == 2


def test_each_failed_attempt_is_logged(call, no_waits: None, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        call(Retry(), Flaky(busy(2)), logging.getLogger("test"))
    assert [text for text in caplog.messages if "busy" in text] == ["The service is busy. Trying again in 2.0 seconds."]


def test_testing_mode(call) -> None:
    assert not retry.is_testing()
    with retry.testing(attempts=2):
        assert retry.is_testing()
        work = Flaky(*(busy(50) for _ in range(20)))
        with pytest.raises(ServiceUnavailable):
            call(Retry(total=1_000), work)
        assert work.calls == 2
        with retry.testing():
            assert call(Retry(total=1_000), Flaky(*(busy(50) for _ in range(4)))) == "done"
    assert not retry.is_testing()


def test_the_waits_of_an_outage_grow_and_are_spread() -> None:
    outage = Outage(1_000_000.0, lambda _: None)
    waits = [outage.failed(busy()) for _ in range(30)]
    assert waits[0] is not None
    assert waits[0] < 0.5
    assert waits[-1] is not None
    assert 15 <= waits[-1] <= 30
    assert len(set(waits)) > 20


def test_an_outage_keeps_retry_after() -> None:
    assert Outage(1_000.0, lambda _: None).failed(busy(77)) == 77
    assert Outage(1_000.0, lambda _: None, longest_wait=2.0).failed(busy(77)) == 2


def test_an_outage_is_reported_when_it_begins_and_when_it_ends() -> None:
    said: list[str] = []
    outage = Outage(60, said.append)
    outage.failed(busy())
    outage.failed(busy())
    outage.succeeded()
    outage.succeeded()
    assert said == [
        "Contact with the job service is lost: The service is busy. Trying again for 60 seconds.",
        "Contact with the job service is back after 0 seconds.",
    ]
    assert Outage(0, said.append).failed(busy()) is None


def test_an_outage_reports_once_that_the_connection_is_refused_now() -> None:
    said: list[str] = []
    outage = Outage(60, said.append)
    refused = ConnectionProblem("The token is refused: correct the connection.")
    for error in (busy(), BrokenContract("HTML"), refused, busy(), refused):
        outage.failed(error)
    assert [text.partition(":")[0] for text in said] == [
        "Contact with the job service is lost",
        "Contact with the job service is still lost, now for another reason",
    ]
    assert said[1].endswith("The token is refused: correct the connection.")
    outage.succeeded()
    outage.failed(refused)
    outage.failed(refused)
    assert len(said) == 4


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        ("1.5", 1.5),
        ("999999999", 3_600.0),
        ("Sat, 21 Nov 2026 10:00:30 GMT", 30.0),
        ("Sat, 21 Nov 2026 09:00:00 GMT", 0.0),
        ("Sat, 21 Nov 2099 09:00:00 GMT", 3_600.0),
        ("soon", None),
        ("-1", None),
        ("", None),
    ],
)
def test_retry_after_as_seconds_and_as_a_date(header: str, seconds: float | None) -> None:
    assert Answer(429, {"retry-after": header}, b"", datetime(2026, 11, 21, 10, tzinfo=UTC)).retry_after() == seconds


def test_no_retry_after() -> None:
    assert Answer(429, {}, b"", datetime.now(UTC)).retry_after() is None


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (ValueError(), "ValueError."),
        (ValueError("a\n b"), "ValueError: a b."),
        (BrokenContract("It is so."), "It is so."),
    ],
)
def test_an_error_is_described_in_a_sentence(error: Exception, sentence: str) -> None:
    assert describe(error) == sentence
