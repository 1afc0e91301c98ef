# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_jobapi.exceptions import ConnectionProblem
from airflow_provider_jobapi.services.jobapi.connection import JobApiConnection, TokenMethod
from tests.harness.tls import Authority


def made(host: str | None = "https://jobs.example.com", **fields: Any) -> JobApiConnection:
    return JobApiConnection.of(**{"host": host, "login": "me", "password": "secret-word", **fields})


@pytest.mark.parametrize(
    ("fields", "base_url"),
    [
        ({"host": "https://jobs.example.com"}, "https://jobs.example.com"),
        ({"host": "https://jobs.example.com/"}, "https://jobs.example.com"),
        ({"host": " https://jobs.example.com/base/path/ "}, "https://jobs.example.com/base/path"),
        ({"host": "jobs.example.com"}, "https://jobs.example.com"),
        ({"host": "jobs.example.com", "schema": "http", "port": 8787}, "http://jobs.example.com:8787"),
        ({"host": "https://jobs.example.com/base", "port": 8443}, "https://jobs.example.com:8443/base"),
        ({"host": "http://jobs.example.com:1", "port": 2}, "http://jobs.example.com:1"),
        ({"host": "http://[::1]:8787"}, "http://[::1]:8787"),
        ({"host": "http://127.0.0.1", "port": 8787}, "http://127.0.0.1:8787"),
        ({"host": "http://127.0.0.1", "port": 8787, "schema": "https"}, "http://127.0.0.1:8787"),
        ({"host": "http://127.0.0.1:8787", "port": 0}, "http://127.0.0.1:8787"),
        ({"host": "127.0.0.1:8787", "port": 0, "schema": "http"}, "http://127.0.0.1:8787"),
        ({"host": "jobs.example.com", "port": 0, "schema": ""}, "https://jobs.example.com"),
        ({"host": "https://jobs.example.com/base", "port": 443}, "https://jobs.example.com/base"),
        ({"host": "http://jobs.example.com", "port": 443}, "http://jobs.example.com:443"),
        ({"host": "http://[::1]", "port": 8787}, "http://[::1]:8787"),
        ({"host": "[::1]", "port": 8787, "schema": "HTTP"}, "http://[::1]:8787"),
        ({"host": "::1", "port": 8787, "schema": "http"}, "http://[::1]:8787"),
        ({"host": "http://fd00::7/base", "port": 8787}, "http://[fd00::7]:8787/base"),
    ],
)
def test_every_way_to_write_an_address(fields: dict[str, Any], base_url: str) -> None:
    connection = made(**fields)
    assert connection.base_url == base_url
    assert connection.api_url == f"{base_url}/api/v2"
    assert connection.token_url == f"{base_url}/oauth/token"


def test_the_extra_says_the_rest(tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.touch()
    connection = made(
        extra={
            "token_url": "https://login.example.com/t?tenant=1",
            "token_method": "get_basic",
            "scope": "jobs",
            "version": "v3",
            "verify": "false",
            "ca_bundle": str(bundle),
            "proxy": "http://me:word@proxy:3128",
            "timeout": "12",
            "client_cert": None,
            "client_key": "",
        }
    )
    assert connection.token_url == "https://login.example.com/t?tenant=1"
    assert (connection.token_method, connection.scope, connection.version) == (TokenMethod.GET_BASIC, "jobs", "v3")
    assert (connection.verify, connection.ca_bundle, connection.timeout) == (False, str(bundle), 12.0)
    assert connection.client_cert is None
    assert connection.proxy_for("https://jobs.example.com/x") == "http://me:word@proxy:3128"
    assert "secret-word" not in repr(connection)
    assert "word@proxy" not in repr(connection)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"host": None}, "no host"),
        ({"host": "  "}, "no host"),
        ({"host": "ftp://jobs"}, "host is not an address"),
        ({"host": "https://"}, "host is not an address"),
        ({"host": "https://jobs:port"}, "host is not an address"),
        ({"host": "https://jobs.example.com\\@evil"}, "host is not an address"),
        ({"host": "https://jobs.example.com\nX: y"}, "host is not an address"),
        ({"host": "https://me:pw@jobs"}, "login"),
        ({"host": "https://jobs/?a=b"}, "query"),
        ({"schema": "gopher", "host": "jobs"}, "http or https"),
        ({"port": -1}, "port cannot be -1: it is 1 to 65535"),
        ({"port": 70_000}, "port cannot be 70000"),
        ({"login": None}, "no login"),
        ({"password": ""}, "no password"),
        ({"extra": {"verfy": False}}, "'verfy'"),
        ({"extra": {"verify": "perhaps"}}, "verify"),
        ({"extra": {"timeout": "soon"}}, "timeout"),
        ({"extra": {"timeout": True}}, "timeout"),
        ({"extra": {"timeout": -1}}, "timeout"),
        ({"extra": {"timeout": "nan"}}, "timeout"),
        ({"extra": {"version": "../v1"}}, "version"),
        ({"extra": {"token_method": "put"}}, "post_basic, post_form, get_basic"),
        ({"extra": {"token_method": []}}, "post_basic, post_form, get_basic"),
        ({"extra": {"oauth_url": 5}}, "oauth_url"),
        ({"extra": {"oauth_method": "put"}}, "oauth_method cannot be 'put'"),
        ({"extra": {"oauth_url": "https://a/t", "token_url": "https://b/t"}}, "both oauth_url and token_url; keep o"),
        ({"extra": {"token_url": 5}}, "token_url"),
        ({"extra": {"token_url": "oauth/token"}}, "token_url"),
        ({"extra": {"proxy": "socks5://proxy"}}, "proxy"),
        ({"extra": {"ca_bundle": "/nowhere/ca.pem"}}, "/nowhere/ca.pem"),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ConnectionProblem, match=words) as caught:
        made(**fields)
    assert str(caught.value).endswith(".")
    assert "secret-word" not in str(caught.value)
    assert "pw@" not in str(caught.value)


@given(
    host=st.text(max_size=40), schema=st.none() | st.text(max_size=8), port=st.none() | st.integers(-1, 70_000),
    extra=st.dictionaries(
        st.sampled_from(["oauth_url", "token_url", "token_method", "version", "verify", "timeout", "proxy", "scope"]),
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.lists(st.none()),
    ),
)  # fmt: skip
def test_any_field_gives_a_connection_or_one_kind_of_error(
    host: str, schema: str | None, port: int | None, extra: dict[str, Any]
) -> None:
    try:
        connection = made(host, schema=schema, port=port, extra=extra)
    except ConnectionProblem:
        return
    assert connection.base_url.startswith(("http://", "https://"))
    assert hash(connection) == hash(made(host, schema=schema, port=port, extra=extra))


def test_the_older_keys_of_the_token_server_mean_the_same() -> None:
    older = made(extra={"token_url": "https://login.example.com/t", "token_method": "post_form"})
    assert older == made(extra={"oauth_url": "https://login.example.com/t", "oauth_method": "post_form"})
    assert older.token_url == "https://login.example.com/t"
    assert older == made(
        extra={
            "token_url": "https://login.example.com/t",
            "oauth_url": "https://login.example.com/t",
            "oauth_method": "post_form",
        }
    )
    assert older == made(
        extra={"token_url": "https://login.example.com/t", "oauth_url": "", "token_method": "post_form"}
    )


def test_the_environment_names_a_proxy_for_both_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    assert made().proxy_for("https://jobs.example.com/") is None
    monkeypatch.setenv("https_proxy", "proxy.example.com:3128")
    assert made().proxy_for("https://jobs.example.com/") == "http://proxy.example.com:3128"
    assert made().proxy_for("http://jobs.example.com/") is None
    monkeypatch.setenv("no_proxy", "example.com")
    assert made().proxy_for("https://jobs.example.com/") is None
    monkeypatch.delenv("no_proxy")
    monkeypatch.setenv("https_proxy", "socks5://proxy")
    with pytest.raises(ConnectionProblem, match="socks5 proxy"):
        made().proxy_for("https://jobs.example.com/")


def test_whether_secrets_leave_this_machine_in_clear() -> None:
    assert not made().in_clear
    assert not made("http://localhost:8787").in_clear
    assert not made("http://127.0.0.1:8787").in_clear
    assert made("http://jobs.example.com").in_clear
    assert made(extra={"token_url": "http://login.example.com/t"}).in_clear


def test_the_tls_of_a_connection(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    context = made(extra={"ca_bundle": str(authority.bundle), "client_cert": str(authority.issue("me"))}).ssl_context()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert [each["subject"] for each in context.get_ca_certs()] == [
        ((("commonName", f"test authority {tmp_path.name}"),),)
    ]
    open_context = made(extra={"verify": False}).ssl_context()
    assert open_context.verify_mode is ssl.CERT_NONE
    assert not open_context.check_hostname

    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("nothing")
    with pytest.raises(ConnectionProblem, match=r"CA bundle .*nonsense"):
        made(extra={"ca_bundle": str(nonsense)}).ssl_context()
    with pytest.raises(ConnectionProblem, match=r"client_cert .*nonsense"):
        made(extra={"client_cert": str(nonsense)}).ssl_context()
