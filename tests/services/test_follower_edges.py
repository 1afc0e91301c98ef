# SPDX-License-Identifier: Apache-2.0
"""The triggerer's side and services that are hostile, broken, or in a hurry."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_jobapi.exceptions import BrokenContract, ConnectionProblem, ServiceUnavailable
from airflow_provider_jobapi.services.jobapi import async_client, follower
from airflow_provider_jobapi.services.jobapi.connection import JobApiConnection
from airflow_provider_jobapi.services.jobapi.follower import JobApiFollower
from airflow_provider_jobapi.services.jobapi.tokens import TokenSource, tokens_of
from tests.harness.client import connection
from tests.harness.follow import follow, following, log_page, read_once
from tests.harness.records import format_record
from tests.harness.server import Server
from tests.harness.tiny import Asked, Reply, Tiny, reply
from tests.harness.tls import Authority

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def test_one_login_for_all_when_the_token_is_refused() -> None:
    good = ["token-0"]
    asked: list[str] = []
    first = threading.Event()

    def login(_: Asked) -> Reply:
        asked.append("login")
        return reply({"access_token": good[0], "expires_in": 600})

    def logs(request: Asked) -> Reply:
        if request.headers["Authorization"] != f"Bearer {good[0]}":
            return reply({"detail": f"not {request.headers['Authorization']}"}, 401)
        first.set()
        return log_page(b"", status="FAILED", complete=True)

    with Tiny({"POST /oauth/token": login, "GET /api/v2/jobs": logs}) as tiny:
        settings = connection(tiny)
        tokens = TokenSource(settings)
        tokens.token()
        good[0] = "token-1"

        async def all_at_once() -> list[Any]:
            watching = [following(settings, str(number), tokens) for number in range(40)]
            return await asyncio.gather(*(read_once(each) for each in watching))

        assert all(chunk.complete for chunk in asyncio.run(all_at_once()))
    assert asked == ["login", "login"]


def test_a_token_that_is_refused_twice_is_the_connections_fault() -> None:
    routes = {"GET /api/v2/jobs": lambda asked: reply({"detail": f"no {asked.headers['Authorization']}"}, 401)}
    with Tiny(routes) as tiny:
        with pytest.raises(ConnectionProblem, match=r"refuses the token .*no Bearer \*\*\*"):
            asyncio.run(read_once(following(connection(tiny), "1")))
        assert tiny.count("/logs") == 2


def test_tokens_are_masked_once() -> None:
    masked: list[str] = []
    routes = {"GET /api/v2/jobs": log_page(b"", status="FAILED", complete=True)}
    with Tiny(routes) as tiny:
        settings = connection(tiny)

        async def run() -> None:
            async with JobApiFollower(settings, TokenSource(settings), "1", masked.append) as watching:
                await watching.read(None)
                await watching.read(None)

        asyncio.run(run())
    assert masked == ["tiny-token"]


def test_a_log_that_shrank_is_followed_from_its_end(caplog: pytest.LogCaptureFixture) -> None:
    """After a power cut the end of a file may be gone."""
    record = format_record(NOW, "after")

    def logs(asked: Asked) -> Reply:
        if "offset=100" in asked.target:
            return Reply(416, {"Job-Log-Size": "40"})
        assert "offset=40" in asked.target
        return log_page(record, 40, status="FAILED", complete=True)

    with Tiny({"GET /api/v2/jobs": logs}) as tiny:
        lines = asyncio.run(follow(following(connection(tiny), "1"), {"offset": 100}))
    assert [line.text for line in lines] == ["after"]
    assert "has lost the end of the log of job 1" in caplog.text


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Reply(416, {"Job-Log-Size": "4000"}), "no record at offset 100 of 4000"),
        (Reply(416), "job-log-size"),
        (log_page(b"x" * 10), "is inconsistent"),
        (log_page(b"no time\n", 100), "without a time"),
        (log_page(format_record(NOW, "cut")[:-1], 100), "cut a log record"),
        (Reply(200, {"Content-Encoding": "gzip"}, b"x"), "sends compressed answers"),
        (Reply(200, {}, b"x" * 5_000_000), "sent more than"),
        (Reply(418), "Unexpected HTTP 418 from"),
    ],
)
def test_services_that_break_the_contract(answer: Reply, words: str) -> None:
    with Tiny({"GET /api/v2/jobs": answer}) as tiny, pytest.raises(BrokenContract, match=words):
        asyncio.run(read_once(following(connection(tiny), "1"), {"offset": 100}))


@pytest.mark.parametrize("cursor", [{}, {"offset": -1}, {"offset": "1"}, {"offset": True}, 5, "x", []])
def test_an_invalid_cursor(jobapi_server: Server, cursor: Any) -> None:
    with pytest.raises(BrokenContract, match=r"log cursor .* is invalid"):
        asyncio.run(read_once(following(connection(jobapi_server), "1"), cursor))


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When each request began; a busy machine takes it up later, and so the next one sooner after it."""
    times: list[float] = []
    send = async_client.AsyncClient.send

    def timed(*args: Any, **options: Any) -> Any:
        times.append(time.monotonic())
        return send(*args, **options)

    monkeypatch.setattr(async_client.AsyncClient, "send", timed)
    return times


def gaps(times: list[float]) -> list[float]:
    return [later - earlier for earlier, later in itertools.pairwise(times)]


def test_requests_of_one_job_keep_their_pace(sent: list[float]) -> None:
    size = [0]

    def chatty(_: Asked) -> Reply:
        record = format_record(NOW, "x")
        size[0] += len(record)
        return log_page(record, size[0] - len(record), status="FAILED", complete=len(sent) == 6)

    with Tiny({"GET /api/v2/jobs": chatty}) as tiny:
        asyncio.run(follow(following(connection(tiny), "1")))
    assert len(sent) == 6
    assert min(gaps(sent)) >= 0.19
    assert max(gaps(sent)) < 5


def test_questions_for_the_status_keep_the_pace_of_the_reads(sent: list[float]) -> None:
    def logs(_: Asked) -> Reply:
        return log_page(b"", status="RUNNING", complete=False)

    def status(_: Asked) -> Reply:
        return reply({"job_id": "1", "status": "RUNNING"})

    async def run() -> None:
        async with following(connection(tiny), "1") as watching:
            for _ in range(2):
                await asyncio.gather(watching.read(None), watching.status(), watching.status())

    with Tiny({"GET /api/v2/jobs/1/logs": logs, "GET /api/v2/jobs/1": status}) as tiny:
        asyncio.run(run())
    assert len(sent) == 6
    assert min(gaps(sent)) >= 0.19


def test_a_service_without_long_poll_is_asked_each_second(sent: list[float]) -> None:
    def quiet(_: Asked) -> Reply:
        return log_page(b"", status="FAILED", complete=len(sent) == 3)

    with Tiny({"GET /api/v2/jobs": quiet}) as tiny:
        asyncio.run(follow(following(connection(tiny), "1")))
    assert min(gaps(sent)) >= 0.99


def test_many_followers_slow_each_other_down() -> None:
    settings = JobApiConnection.of(host="http://localhost:1", login="a", password="b")

    async def run() -> None:
        many = [following(settings, str(number)) for number in range(1_500)]
        for each in many:
            await each.__aenter__()
        assert follower._crowd.interval() == pytest.approx(1.5)
        for each in many:
            await each.__aexit__(None, None, None)
        assert follower._crowd.interval() == follower.LEAST_INTERVAL

    asyncio.run(run())


def test_a_cancelled_login_is_not_taken_from_the_others() -> None:
    release = threading.Event()
    asked = threading.Event()

    def slow(_: Asked) -> Reply:
        asked.set()
        release.wait(20)
        return reply({"access_token": "t", "expires_in": 600})

    routes = {"POST /oauth/token": slow, "GET /api/v2/jobs": log_page(b"", status="FAILED", complete=True)}
    with Tiny(routes) as tiny:
        settings = connection(tiny)
        tokens = TokenSource(settings)

        async def run() -> Any:
            one = asyncio.create_task(read_once(following(settings, "1", tokens)))
            two = asyncio.create_task(read_once(following(settings, "2", tokens)))
            await asyncio.to_thread(asked.wait, 10)
            one.cancel()
            release.set()
            return await two

        assert asyncio.run(run()).complete
        assert tiny.count("token") == 1


def test_the_event_loop_is_not_blocked_by_a_login() -> None:
    release = threading.Event()

    def slow(_: Asked) -> Reply:
        release.wait(20)
        return reply({"access_token": "t", "expires_in": 600})

    routes = {"POST /oauth/token": slow, "GET /api/v2/jobs": log_page(b"", status="FAILED", complete=True)}
    with Tiny(routes) as tiny:

        async def run() -> None:
            reading = asyncio.create_task(read_once(following(connection(tiny), "1")))
            began = time.monotonic()
            for _ in range(20):
                await asyncio.sleep(0.01)
            assert time.monotonic() - began < 5
            assert not reading.done()
            release.set()
            await reading

        asyncio.run(run())


def test_the_connections_tls_holds_here_too(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    bundle = str(authority.bundle)
    page = {"GET /api/v2/jobs": log_page(b"", status="FAILED", complete=True)}
    with Tiny(page, authority.server_context()) as tiny:
        plain = connection(tiny)
        tokens = TokenSource(connection(tiny, verify=False))
        with pytest.raises(ConnectionProblem, match=r"certificate of https://localhost:\d+ is not trusted"):
            asyncio.run(read_once(following(plain, "1", tokens)))
        assert asyncio.run(read_once(following(connection(tiny, ca_bundle=bundle), "1"))).complete
        assert asyncio.run(read_once(following(connection(tiny, verify=False), "1"))).complete
    with Tiny(page, authority.server_context(ask_clients=True)) as tiny:
        ours = connection(tiny, ca_bundle=bundle, client_cert=str(authority.issue("me")))
        assert asyncio.run(read_once(following(ours, "1"))).complete
        with pytest.raises((ConnectionProblem, ServiceUnavailable)):
            asyncio.run(read_once(following(connection(tiny, ca_bundle=bundle), "1", tokens_of(ours))))


def test_the_connections_proxy_holds_here_too() -> None:
    routes = {
        "POST http://jobs.invalid/oauth/token": reply({"access_token": "t"}),
        "GET http://jobs.invalid/api/v2/jobs/1/logs": log_page(b"", status="FAILED", complete=True),
    }
    with Tiny(routes) as proxy:
        settings = JobApiConnection.of(host="http://jobs.invalid", login="a", password="b", extra={"proxy": proxy.url})
        assert asyncio.run(read_once(following(settings, "1"))).complete
        assert proxy.count("jobs.invalid") == 2
    with Tiny({"GET http://": Reply(407)}) as proxy:
        settings = JobApiConnection.of(host="http://jobs.invalid", login="a", password="b", extra={"proxy": proxy.url})
        with pytest.raises(ConnectionProblem):
            asyncio.run(read_once(following(settings, "1")))
