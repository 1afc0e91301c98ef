# SPDX-License-Identifier: Apache-2.0
"""The number of logins, and the time between requests to a busy service."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from airflow_provider_jobapi.exceptions import ConnectionProblem, JobNotFound, ServiceUnavailable
from airflow_provider_jobapi.services import retry
from airflow_provider_jobapi.services.modelarts.api_session import session_of
from airflow_provider_jobapi.services.modelarts.dialect_base import Dialect
from airflow_provider_jobapi.services.modelarts.dialects import dialect_of
from tests.harness.modelarts.double import ModelArts
from tests.harness.modelarts.samples import Samples
from tests.harness.modelarts.service import service
from tests.harness.proxy import Canned, FaultProxy
from tests.services.modelarts.follow import DIALECTS, following, settings

pytestmark = pytest.mark.usefixtures("no_cached_sessions")

TOKENS = "/v3/auth/tokens"


@pytest.fixture(params=DIALECTS)
def dialect(request: pytest.FixtureRequest) -> Dialect:
    return dialect_of(str(request.param))


def asked(double: ModelArts, since: int) -> tuple[int, list[dict[str, Any]]]:
    """Return the number of logins, and the other requests."""
    new = double.requests()[since:]
    logins = [each for each in new if each["path"] == TOKENS]
    return len(logins), [each for each in new if each not in logins]


@pytest.mark.parametrize(("status", "code"), [(403, "2784"), (401, "0203"), (401, "0202")])
def test_one_more_login_after_a_refused_token(modelarts: ModelArts, dialect: Dialect, status: int, code: str) -> None:
    since = len(modelarts.requests())
    modelarts.inject_fault("refusal", path="/v[12]/", status=status, code=code, message="No.", times=99)
    with pytest.raises(ConnectionProblem, match=rf"ModelArts\.{code}: No"):
        session_of(settings(modelarts, dialect.version), lambda _: None).send(dialect.flavors())
    logins, calls = asked(modelarts, since)
    assert (logins, len(calls)) == (2, 2)


@pytest.mark.parametrize(("status", "code"), [(403, "0112"), (401, "0112"), (401, "0428"), (401, "4901")])
def test_no_login_after_a_missing_permission(modelarts: ModelArts, dialect: Dialect, status: int, code: str) -> None:
    since = len(modelarts.requests())
    modelarts.inject_fault("refusal", path="/v[12]/", status=status, code=code, message="No.", times=99)
    with pytest.raises(ConnectionProblem, match=rf"ModelArts\.{code}: No"):
        session_of(settings(modelarts, dialect.version), lambda _: None).send(dialect.flavors())
    logins, calls = asked(modelarts, since)
    assert (logins, len(calls)) == (1, 1)


def test_many_threads_log_in_once(modelarts: ModelArts, dialect: Dialect) -> None:
    since = len(modelarts.requests())
    masked: list[str] = []

    def ask(_: int) -> int:
        return session_of(settings(modelarts, dialect.version), masked.append).send(dialect.flavors()).status

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(ask, range(16))) == {200}
    logins, calls = asked(modelarts, since)
    assert (logins, len(calls)) == (1, 16)
    assert masked
    assert len(set(masked)) == 1


@pytest.mark.parametrize("status", [401, 403])
def test_many_threads_with_an_expired_token_log_in_once(modelarts: ModelArts, dialect: Dialect, status: int) -> None:
    connection = settings(modelarts, dialect.version)
    session_of(connection, lambda _: None).send(dialect.flavors())
    modelarts.inject_fault("expired_token", status=status)
    modelarts.inject_fault("slow", path="/v[12]/", seconds=0.3)  # all are under way when the first one is refused
    since = len(modelarts.requests())
    with ThreadPoolExecutor(16) as threads:
        answers = threads.map(lambda _: session_of(connection, lambda _: None).send(dialect.flavors()), range(16))
        assert {answer.status for answer in answers} == {200}
    assert asked(modelarts, since)[0] == 1


def test_the_login_uses_the_proxy(modelarts: ModelArts, dialect: Dialect) -> None:
    with FaultProxy(modelarts.port) as proxy:
        session_of(settings(modelarts, dialect.version, proxy=proxy.url), lambda _: None).send(dialect.flavors())
    assert proxy.count(f"POST {modelarts.iam_url}/auth/tokens") == 1
    assert proxy.count(f"GET {modelarts.url}/{dialect.version}/") == 1


def test_a_token_that_another_thread_discards(modelarts: ModelArts, dialect: Dialect) -> None:
    session = session_of(settings(modelarts, dialect.version), lambda _: None)
    session.project_id()
    password = session._open()[1]

    class Late:
        """A lock of keystoneauth1 after which another thread discards the token."""

        def __enter__(self) -> None:
            password._lock = lock

        def __exit__(self, *_: object) -> None:
            password.invalidate()

    lock, password._lock = password._lock, Late()
    assert session.send(dialect.flavors()).status == 200


@pytest.mark.parametrize(
    ("fault", "how", "said", "seconds"),
    [
        ("too_many_requests", {"every": 1, "retry_after": 7}, r"is temporarily unavailable \(HTTP 429", 7),
        ("unavailable", {"retry_after": 5}, r"is temporarily unavailable \(HTTP 503", 5),
        ("bad_gateway", {}, r"is temporarily unavailable \(HTTP 502", None),
        ("refusal", {"status": 500, "message": "Oh."}, r"is temporarily unavailable \(HTTP 500: Oh\)", None),
    ],
)
def test_iam_unavailable(
    modelarts: ModelArts, fault: str, how: dict[str, Any], said: str, seconds: float | None
) -> None:
    modelarts.inject_fault(fault, path="/v3/", times=1, **how)
    session = session_of(settings(modelarts, "v2"), lambda _: None)
    with pytest.raises(ServiceUnavailable, match=f"^IAM at {modelarts.iam_url} {said}") as caught:
        session.project_id()
    assert caught.value.retry_after == seconds
    assert session.project_id()


def test_retry_after_of_iam(modelarts: ModelArts, dialect: Dialect) -> None:
    since = len(modelarts.requests())
    modelarts.inject_fault("too_many_requests", every=1, times=1, retry_after=2, path="/v3/")
    with pytest.raises(JobNotFound):
        service(modelarts, dialect.version).find("no-such-id")
    busy, done, _ = modelarts.requests()[since:]
    assert all(each["path"] == TOKENS for each in (busy, done))
    assert (busy["status"], done["status"]) == (429, 201)
    assert done["time"] - busy["time"] >= 2


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (404, "{}", r"{url} is not an IAM endpoint \(HTTP 404"),
        (405, "<html>", r"{url} is not an IAM endpoint \(HTTP 405"),
        (200, "<html>", "{url} is not an IAM endpoint .*check the connection's iam_url"),
        (201, "{}", "{url} is not an IAM endpoint .*check the connection's iam_url"),
        (201, '{"token": {}}', r"{url} is not an IAM endpoint \(.*x-subject-token.*check the connection's iam_url"),
    ],
)
def test_endpoints_that_are_not_iam(modelarts: ModelArts, status: int, body: str, said: str) -> None:
    with FaultProxy(modelarts.port) as other:
        other.next(Canned(status, {"Content-Type": "application/json"}, body.encode()))
        url = f"{other.url}/v3"
        with pytest.raises(ConnectionProblem, match="(?i)^" + said.replace("{url}", url)):
            session_of(settings(modelarts, "v2", iam_url=url), lambda _: None).project_id()


def test_retry_after_on_a_worker(modelarts: ModelArts, dialect: Dialect) -> None:
    modelarts_service = service(modelarts, dialect.version)
    since = len(modelarts.requests())
    modelarts.inject_fault("too_many_requests", every=1, times=1, retry_after=2)
    with pytest.raises(JobNotFound):
        modelarts_service.find("no-such-id")
    _, (busy, done) = asked(modelarts, since)
    assert (busy["status"], done["status"]) == (429, 200)
    assert 2 <= done["time"] - busy["time"] < 10


def test_retry_after_in_a_follower(modelarts: ModelArts, samples: Samples) -> None:
    path = samples.start_v1("import time\ntime.sleep(600)\n")
    follower = following(modelarts, path)
    since = len(modelarts.requests())
    modelarts.inject_fault("too_many_requests", every=1, times=1, retry_after=2)
    asyncio.run(follower.status())
    _, (busy, done) = asked(modelarts, since)
    assert (busy["status"], done["status"]) == (429, 200)
    assert 2 <= done["time"] - busy["time"] < 10


def test_interval_and_jitter(modelarts: ModelArts, samples: Samples, monkeypatch: pytest.MonkeyPatch) -> None:
    path = samples.start_v1("import time\ntime.sleep(600)\n")
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        if seconds > -1:  # else it is no poll's, but that of a call which the service may be sent long since
            pauses.append(seconds)

    monkeypatch.setattr(retry, "sleep_async", sleep)

    async def read() -> None:
        for _ in range(6):
            follower = following(modelarts, path, poll_interval=None)
            chunk = await follower.read(None)
            await follower.read(chunk.cursor)

    asyncio.run(read())
    first, later = pauses[::2], pauses[1::2]
    assert all(pause <= 1 for pause in first)
    assert all(5 < pause <= 11 for pause in later)
    assert max(later) - min(later) > 0.1
