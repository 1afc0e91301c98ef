# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a connection is one sentence, the same in the worker and in the triggerer, on real sockets."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from airflow_provider_jobapi.exceptions import ConnectionProblem, TrainingError
from airflow_provider_jobapi.services.jobapi import async_client, contract
from airflow_provider_jobapi.services.jobapi.client import Client
from airflow_provider_jobapi.services.jobapi.connection import JobApiConnection
from airflow_provider_jobapi.services.jobapi.tokens import TokenSource
from airflow_provider_jobapi.services.retry import Retry
from tests.harness.client import connection
from tests.harness.tiny import Reply, Tiny, reply
from tests.harness.tls import Authority

STORAGE = reply({"protocol": "http", "status": "READY"})


def in_worker(settings: JobApiConnection) -> TrainingError:
    with pytest.raises(TrainingError) as caught:
        Client(settings, TokenSource(settings), lambda _: None, retry=Retry(attempts=1)).send(contract.storage())
    return caught.value


class _Known(TokenSource):
    """A token that was fetched before, so that the triggerer's own client meets the fault."""

    def cached(self) -> str | None:
        return "known"


def in_triggerer(settings: JobApiConnection) -> TrainingError:
    async def send() -> None:
        client = async_client.join(settings, _Known(settings))
        try:
            await client.send(contract.storage(), lambda _: None)
        finally:
            await async_client.leave(client)

    with pytest.raises(TrainingError) as caught:
        asyncio.run(send())
    return caught.value


both = pytest.mark.parametrize("fault", [in_worker, in_triggerer], ids=["worker", "triggerer"])
Fault = Callable[[JobApiConnection], TrainingError]


@both
@pytest.mark.parametrize(
    ("field", "content", "said"),
    [
        ("ca_bundle", None, "The CA bundle {} cannot be used: No such file or directory; check ca_bundle "),
        ("ca_bundle", "text", "The CA bundle {} cannot be used: it does not hold what is expected, in PEM; check ca_b"),
        ("client_cert", None, "The connection's client_cert {} cannot be used: No such file or directory; check cli"),
        ("client_cert", "text", "The connection's client_cert {} cannot be used: it does not hold what is expected, "),
    ],
)
def test_a_file_of_certificates_that_cannot_be_used(
    tmp_path: Path, fault: Fault, field: str, content: str | None, said: str
) -> None:
    """None is for one that is removed after the connection was read."""
    authority, file = Authority(tmp_path), tmp_path / "file.pem"
    file.write_text(content or "")
    files = {"ca_bundle": str(authority.bundle)} | {field: str(file)}
    with Tiny({"GET /": STORAGE}, authority.server_context()) as tiny:
        settings = connection(tiny, **files)
        if content is None:
            file.unlink()
        error = fault(settings)
    assert type(error) is ConnectionProblem
    assert str(error).startswith(said.format(file))


@both
def test_a_bundle_of_the_environment_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "none.pem"))
    with Tiny({"GET /": STORAGE}, Authority(tmp_path).server_context()) as tiny:
        error = fault(connection(tiny))
    assert type(error) is ConnectionProblem
    assert str(error).startswith(f"The CA bundle {tmp_path}/none.pem cannot be used: No such file or directory; check ")


@both
def test_a_key_of_another_certificate(tmp_path: Path, fault: Fault) -> None:
    authority = Authority(tmp_path)
    files = {"client_cert": str(authority.issue("me")), "client_key": str(authority.issue("you"))}
    with Tiny({"GET /": STORAGE}, authority.server_context()) as tiny:
        error = fault(connection(tiny, ca_bundle=str(authority.bundle), **files))
    assert type(error) is ConnectionProblem
    assert "cannot be used: the key is of another certificate; check client_cert and client_key." in str(error)


@both
def test_a_certificate_of_an_unknown_authority(tmp_path: Path, fault: Fault) -> None:
    ours, theirs = Authority(tmp_path / "ours"), Authority(tmp_path / "theirs")
    with Tiny({"GET /": STORAGE}, theirs.server_context()) as tiny:
        error = fault(connection(tiny, ca_bundle=str(ours.bundle)))
    assert type(error) is ConnectionProblem
    assert "is not trusted (" in str(error)
    assert str(error).endswith("; set the connection's ca_bundle to the authority that signed it.")


@both
def test_a_service_that_refuses_the_tls_of_the_client(tmp_path: Path, fault: Fault) -> None:
    """By an alert during the handshake: in TLS 1.3 a missing certificate may also be a connection that breaks later."""
    authority = Authority(tmp_path)
    context = authority.server_context(ask_clients=True)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with Tiny({"GET /": STORAGE}, context) as tiny:
        error = fault(connection(tiny, ca_bundle=str(authority.bundle)))
    assert type(error) is ConnectionProblem
    assert "refuses the TLS connection (" in str(error)
    assert str(error).endswith("; check the connection's client_cert.")


@both
def test_a_service_without_tls(fault: Fault) -> None:
    with Tiny({"GET /": STORAGE}) as tiny:
        error = fault(connection(tiny, tiny.url.replace("http:", "https:")))
    assert type(error) is ConnectionProblem
    assert "does not speak TLS" in str(error)


@both
def test_a_proxy_that_wants_a_user(fault: Fault) -> None:
    with Tiny({"CONNECT ": Reply(407)}) as proxy:
        proxied = proxy.url.replace("//", "//a:hidden@")
        settings = JobApiConnection.of(
            host="https://jobs.invalid", login="me", password="word", extra={"proxy": proxied}
        )
        error = fault(settings)
    assert type(error) is ConnectionProblem
    assert "refuses the user; check the connection's proxy." in str(error)
    assert "hidden" not in str(error)
