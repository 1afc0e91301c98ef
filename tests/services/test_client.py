# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_provider_jobapi.exceptions import BrokenContract, ConnectionProblem, JobNotFound, ServiceUnavailable
from airflow_provider_jobapi.services.jobapi import contract
from airflow_provider_jobapi.services.jobapi.client import Client
from airflow_provider_jobapi.services.jobapi.connection import JobApiConnection
from airflow_provider_jobapi.services.jobapi.tokens import TokenSource
from airflow_provider_jobapi.services.retry import Retry
from tests.harness.client import connection
from tests.harness.proxy import BlackHole, Broken, Canned, FaultProxy
from tests.harness.server import Server, running
from tests.harness.tiny import Asked, Reply, Tiny, reply
from tests.harness.tls import Authority

STORAGE = reply({"protocol": "http", "status": "READY"})


@pytest.fixture
def network(jobapi_server: Server) -> Iterator[FaultProxy]:
    with FaultProxy(jobapi_server.port) as proxy:
        yield proxy


def client(settings: JobApiConnection, **more: object) -> Client:
    return Client(settings, TokenSource(settings), lambda _: None, **more)  # type: ignore[arg-type]


@pytest.mark.usefixtures("no_waits")
def test_what_may_pass_is_tried_again(jobapi_server: Server, network: FaultProxy) -> None:
    network.next(Canned(503), Canned(429, {"Retry-After": "0"}), Canned(502), Canned(504), Broken(0), Broken(20))
    answer = client(connection(jobapi_server, network.url)).send(contract.storage())
    assert contract.read_storage(answer).state == "READY"
    assert network.count("GET /api/v2/storage") == 7


@pytest.mark.usefixtures("no_waits")
def test_patience_with_a_closed_port_ends(jobapi_server: Server, network: FaultProxy) -> None:
    network.refuse()
    asking = client(connection(jobapi_server, network.url), retry=Retry(attempts=3))
    with pytest.raises(ServiceUnavailable, match=r"cannot be reached: connection refused\. If this lasts, check"):
        asking.send(contract.storage())
    network.accept()
    assert asking.send(contract.storage()).status == 200


def test_retry_after_is_kept(jobapi_server: Server, network: FaultProxy) -> None:
    network.next(Canned(429, {"Retry-After": "1"}))
    began = time.monotonic()
    client(connection(jobapi_server, network.url)).send(contract.storage())
    assert 1.0 <= time.monotonic() - began < 10


@pytest.mark.usefixtures("no_waits")
def test_silence_is_given_up(jobapi_server: Server, network: FaultProxy) -> None:
    network.next(BlackHole(), BlackHole())
    began = time.monotonic()
    asking = client(connection(jobapi_server, network.url, timeout=0.3), retry=Retry(attempts=2))
    with pytest.raises(ServiceUnavailable, match="did not answer in time"):
        asking.send(contract.storage())
    assert 0.6 <= time.monotonic() - began < 10


@pytest.mark.usefixtures("no_waits")
def test_what_will_not_pass_is_not_tried_again(jobapi_server: Server, network: FaultProxy) -> None:
    with pytest.raises(JobNotFound):
        client(connection(jobapi_server, network.url)).send(contract.status("5b0b7d4e-0f0e-4f0c-9d7e-0c5f3e6c7a11"))
    assert len(network.seen) == 1


def test_one_new_login_when_the_token_is_refused(tmp_path: Path) -> None:
    masked: list[str] = []
    with running(tmp_path / "jobapi") as server:
        settings = connection(server)
        tokens = TokenSource(settings)
        asking = Client(settings, tokens, masked.append)
        asking.send(contract.storage())
        # The service forgets its key: every token that it gave is worth nothing any more.
        server.stop()
        for key in (server.root / "keys").iterdir():
            key.unlink()
        server.restart()
        assert asking.send(contract.storage()).status == 200
        assert len(set(masked)) == len(masked) == 2


def test_a_token_that_is_refused_twice_is_the_connections_fault() -> None:
    numbers = iter(range(10))
    routes = {
        "POST /oauth/token": lambda _: reply({"access_token": f"hidden-{next(numbers)}", "expires_in": 60}),
        "GET /": lambda asked: reply({"detail": f"no {asked.headers['Authorization']}"}, 401),
    }
    with Tiny(routes) as tiny:
        with pytest.raises(
            ConnectionProblem, match=r"refuses the token of this connection.*no Bearer \*\*\*"
        ) as caught:
            client(connection(tiny)).send(contract.storage())
        assert tiny.count("/storage") == 2
    assert "hidden" not in str(caught.value)


def test_no_redirect_is_followed() -> None:
    with Tiny({"GET /": STORAGE}) as other:
        away = {"GET /": Reply(302, {"Location": f"{other.url}/api/v2/storage"})}
        with Tiny(away) as tiny, pytest.raises(ConnectionProblem, match="redirects are not followed"):
            client(connection(tiny)).send(contract.storage())
        assert other.asked == []


def test_answers_are_bounded() -> None:
    large = Reply(200, {}, b"[" + b"1," * contract.LARGEST_ANSWER)
    bomb = Reply(200, {"Content-Encoding": "gzip"}, zlib.compress(b" " * 2**28, wbits=31))
    for answer, words in ((large, "sent more than 4,194,304 bytes"), (bomb, "sends compressed answers")):
        with Tiny({"GET /": answer}) as tiny, pytest.raises(BrokenContract, match=words):
            client(connection(tiny)).send(contract.storage())


def test_no_cookie_and_no_netrc_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine localhost login other password other\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with Tiny({"GET /": Reply(200, {"Set-Cookie": "a=b; Path=/"}, b"{}")}) as tiny:
        asking = client(connection(tiny))
        asking.send(contract.storage())
        asking.send(contract.storage())
    last = tiny.asked[-1].headers
    assert "Cookie" not in last
    assert last["Authorization"] == "Bearer tiny-token"
    assert last["Accept-Encoding"] == "identity"


def test_certificates_are_checked_as_the_connection_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = Authority(tmp_path / "ours"), Authority(tmp_path / "theirs")
    with Tiny({"GET /": STORAGE}, ours.server_context()) as tiny:
        with pytest.raises(ConnectionProblem, match=r"certificate of localhost:\d+.* is not trusted .*ca_bundle"):
            client(connection(tiny)).send(contract.storage())
        # What the environment names is not what the connection names.
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(theirs.bundle))
        assert client(connection(tiny, ca_bundle=str(ours.bundle))).send(contract.storage()).status == 200
        assert client(connection(tiny, verify=False)).send(contract.storage()).status == 200
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(ours.bundle))
        assert client(connection(tiny)).send(contract.storage()).status == 200


def test_our_own_certificate_where_the_service_asks_for_one(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    bundle = str(authority.bundle)
    with Tiny({"GET /": STORAGE}, authority.server_context(ask_clients=True)) as tiny:
        ours = str(authority.issue("me"))
        assert client(connection(tiny, ca_bundle=bundle, client_cert=ours)).send(contract.storage()).status == 200
        once = Retry(attempts=1)
        with pytest.raises((ConnectionProblem, ServiceUnavailable)):
            client(connection(tiny, ca_bundle=bundle), retry=once).send(contract.storage())


def test_an_address_without_tls_that_was_called_with_it(jobapi_server: Server) -> None:
    settings = connection(jobapi_server, jobapi_server.url.replace("http:", "https:"))
    with pytest.raises(ConnectionProblem, match="does not speak TLS"):
        client(settings).send(contract.storage())


def test_the_proxy_of_the_connection_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    with Tiny(
        {"POST http://jobs.invalid/oauth/token": reply({"access_token": "t"}), "GET http://jobs.invalid/": STORAGE}
    ) as proxy:
        settings = JobApiConnection.of(
            host="http://jobs.invalid", login="me", password="word", extra={"proxy": proxy.url}
        )
        assert client(settings).send(contract.storage()).status == 200
        assert [each.target for each in proxy.asked] == [
            "http://jobs.invalid/oauth/token",
            "http://jobs.invalid/api/v2/storage",
        ]


def test_a_proxy_that_wants_another_user() -> None:
    with Tiny({"CONNECT ": Reply(407)}) as proxy:
        settings = JobApiConnection.of(
            host="https://jobs.invalid",
            login="me",
            password="word",
            extra={"proxy": proxy.url.replace("//", "//a:hidden@")},
        )
        with pytest.raises(ConnectionProblem, match="check the connection's proxy") as caught:
            client(settings).send(contract.storage())
    assert "hidden" not in str(caught.value)


def test_the_base_path_of_an_address_is_kept() -> None:
    with Tiny({"POST /base/oauth/token": reply({"access_token": "t"}), "GET /base/api/v3/storage": STORAGE}) as tiny:
        settings = JobApiConnection.of(host=f"{tiny.url}/base/", login="me", password="word", extra={"version": "v3"})
        assert client(settings).send(contract.storage()).status == 200


def test_a_client_apart_shares_no_socket() -> None:
    """The main thread may hold the lock of the connection pool when a signal handler asks for a stop."""
    held, release = threading.Event(), threading.Event()

    def slow(_: Asked) -> Reply:
        held.set()
        release.wait(20)
        return STORAGE

    with Tiny({"GET /": slow, "POST /api/v2/jobs/1/stop": reply({"status": "STOPPED"})}) as tiny:
        asking = client(connection(tiny))
        thread = threading.Thread(target=asking.send, args=(contract.storage(),))
        thread.start()
        assert held.wait(10)
        session = asking._session
        with asking.isolated(Retry(total=5)) as other:
            assert other.send(contract.stop("1")).status == 200
            assert other._session is not session
        release.set()
        thread.join(10)
        assert asking._session is session
