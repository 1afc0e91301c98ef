# SPDX-License-Identifier: Apache-2.0
"""Errors name addresses, also where Airflow hides the values of extras whose keys contain ``token``."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
from airflow.sdk._shared.secrets_masker import SecretsMasker

from airflow_provider_jobapi.exceptions import TrainingError
from airflow_provider_jobapi.services.jobapi.checks import check
from airflow_provider_jobapi.services.jobapi.connection import JobApiConnection
from airflow_provider_jobapi.services.jobapi.service import JobApiService
from airflow_provider_jobapi.services.jobapi.tokens import TokenSource
from airflow_provider_jobapi.services.retry import Retry
from tests.harness.tiny import Reply, Tiny, reply

HTML = {"Content-Type": "text/html"}
REFUSALS = {
    "away": None,
    "nothing there": Reply(404, {}, b""),
    "another method": Reply(405, {}, b""),
    "redirect": Reply(302, {"Location": "https://elsewhere.example.com"}, b""),
    "invalid_client": reply({"error": "invalid_client"}, 401),
    "invalid_scope": reply({"error": "invalid_scope"}, 400),
    "invalid_request": reply({"error": "invalid_request"}, 400),
    "unauthorized_client": reply({"error": "unauthorized_client"}, 400),
    "unsupported_grant_type": reply({"error": "unsupported_grant_type"}, 400),
    "plain 401": Reply(401, HTML, b"<html>"),
    "plain 403": Reply(403, {}, b"no"),
    "busy": Reply(429, {}, b""),
    "down": Reply(503, HTML, b"<html>"),
    "no token": reply({}),
    "no JSON": Reply(200, HTML, b"<html>"),
    "no bearer": reply({"access_token": "t", "token_type": "mac"}),
    "strange lifetime": reply({"access_token": "t", "expires_in": "soon"}),
    "compressed": Reply(200, {"Content-Encoding": "gzip"}, b"\x1f"),
    "too long": Reply(200, {}, b"x" * 100_000),
}
KEYS = [("token_url", "token_method"), ("oauth_url", "oauth_method")]


def masked(text: str, extra: dict[str, Any]) -> str:
    """The text as Airflow shows it in a task's log."""
    masker = SecretsMasker()
    for secret in ("tiny-secret", json.dumps(extra), extra):
        masker.add_mask(secret)
    return str(masker.redact(text))


def said(work: Callable[[], object]) -> str:
    with pytest.raises(TrainingError) as caught:
        work()
    return str(caught.value)


def made(base: str, extra: dict[str, Any]) -> JobApiConnection:
    return JobApiConnection.of(host=base, login="client", password="tiny-secret", extra=extra)


@pytest.mark.parametrize("refusal", REFUSALS)
@pytest.mark.parametrize(("url_key", "method_key"), KEYS)
@pytest.mark.parametrize("method", ["post_basic", "post_form", "get_basic"])
def test_an_error_names_the_token_server(url_key: str, method_key: str, method: str, refusal: str) -> None:
    answer = REFUSALS[refusal]
    with Tiny({"POST /login/t": answer, "GET /login/t": answer} if answer else {}) as tiny:
        url = f"{tiny.url}/login/t" if answer else "http://127.0.0.1:9/login/t"
        extra = {url_key: f"{url}?tenant=hidden", method_key: method}
        message = masked(said(lambda: TokenSource(made(tiny.url, extra)).token()), extra)
    assert f"{urlsplit(url).netloc}/login/t" in message
    assert "***" not in message
    assert "hidden" not in message


@pytest.mark.parametrize(("url_key", "method_key"), KEYS)
def test_an_error_names_the_service(url_key: str, method_key: str) -> None:
    answers: list[Reply | None] = [
        *(Reply(status, {}, b"") for status in (400, 401, 403, 404, 405, 407, 409, 410, 413, 429, 500, 503, 507)),
        Reply(307, {"Location": "https://elsewhere.example.com/x"}, b""),
        Reply(200, HTML, b"<html>"),
    ]
    token = reply({"access_token": "t", "expires_in": 60})
    for answer in answers:
        with Tiny({"POST /t": token, "GET /api": answer, "POST /api": answer}) as tiny:
            extra = {url_key: f"{tiny.url}/t", method_key: "post_basic"}
            service = JobApiService(made(tiny.url, extra), retry=Retry.lasting(0))
            message = masked(said(lambda service=service: service.storage()), extra)
        assert "***" not in message, message


@pytest.mark.parametrize(("url_key", "method_key"), KEYS)
def test_the_test_button_names_the_token_server(url_key: str, method_key: str) -> None:
    with Tiny({"POST /t": reply({"access_token": "t", "expires_in": 60})}) as tiny:
        extra = {url_key: f"{tiny.url}/t", method_key: "post_basic"}
        token = str(check(JobApiService(made(tiny.url, extra)))[0])
    assert token.startswith("Token: ok")
    assert f"{urlsplit(tiny.url).netloc}/t" in masked(token, extra)


def test_a_method_that_does_not_exist_is_named() -> None:
    extra = {"oauth_method": "basic"}
    message = masked(said(lambda: made("https://jobs.example.com", extra)), extra)
    assert message == (
        "The connection's extra oauth_method cannot be 'basic': it is one of post_basic, post_form, get_basic."
    )
