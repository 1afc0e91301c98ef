# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import base64
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote_plus

import pytest

from airflow_provider_jobapi.exceptions import BrokenContract, ConnectionProblem, ServiceUnavailable, TrainingError
from airflow_provider_jobapi.services.jobapi.connection import TokenMethod
from airflow_provider_jobapi.services.jobapi.tokens import TokenSource, tokens_of
from tests.harness.client import connection
from tests.harness.server import Server, poll, running
from tests.harness.tiny import Asked, Reply, Tiny, reply


def token_server(answer: Any) -> Tiny:
    return Tiny({"POST /oauth/token": answer, "GET /oauth/token": answer})


@pytest.mark.parametrize("method", list(TokenMethod))
def test_the_real_server_takes_every_method(jobapi_server: Server, method: TokenMethod) -> None:
    token = TokenSource(connection(jobapi_server, token_method=method.value)).token()
    assert token.count(".") == 2


def test_what_each_method_sends() -> None:
    basic = "Basic " + base64.b64encode(b"client:tiny-secret").decode()
    with token_server(reply({"access_token": "t", "expires_in": 60})) as tiny:
        for method in TokenMethod:
            assert TokenSource(connection(tiny, token_method=method.value, scope="jobs")).token() == "t"
        post_basic, post_form, get_basic = tiny.asked
    assert post_basic.headers["Authorization"] == get_basic.headers["Authorization"] == basic
    assert "Authorization" not in post_form.headers
    assert parse_qs(post_basic.body.decode()) == {"grant_type": ["client_credentials"], "scope": ["jobs"]}
    form = parse_qs(post_form.body.decode())
    assert (form["client_id"], form["client_secret"]) == (["client"], ["tiny-secret"])
    assert parse_qs(get_basic.target.partition("?")[2]) == {"grant_type": ["client_credentials"], "scope": ["jobs"]}
    assert (get_basic.method, get_basic.body) == ("GET", b"")


def test_a_token_is_kept_until_shortly_before_its_end(tmp_path: Path) -> None:
    with running(tmp_path / "jobapi", "--token-lifetime", "2s") as server:
        source = TokenSource(connection(server))
        first = source.token()
        assert source.token() == first == source.cached()
        poll(lambda: source.cached() is None, 5, "the token to be given up")
        second = source.token()
        assert second != first


def test_a_refused_token_is_replaced_once_for_all() -> None:
    numbers = iter(range(100))
    with token_server(lambda _: reply({"access_token": f"token-{next(numbers)}", "expires_in": 60})) as tiny:
        source = TokenSource(connection(tiny))
        refused = source.token()
        with ThreadPoolExecutor(16) as pool:
            renewed = set(pool.map(lambda _: source.token(refused=refused), range(64)))
        assert renewed == {"token-1"}
        assert tiny.count("token") == 2


def test_one_source_for_equal_connections(jobapi_server: Server) -> None:
    assert tokens_of(connection(jobapi_server)) is tokens_of(connection(jobapi_server))
    assert tokens_of(connection(jobapi_server)) is not tokens_of(connection(jobapi_server, timeout=5))
    for number in range(1, 80):
        tokens_of(connection(jobapi_server, timeout=number))
    assert tokens_of(connection(jobapi_server)).token()


def test_a_signal_handler_may_ask_while_its_thread_asks() -> None:
    """``on_kill`` runs in the main thread, in the middle of anything."""
    inner: list[str] = []

    def slow(_: Asked) -> Reply:
        if not inner:
            inner.append("asked")
            signal.pthread_kill(main, signal.SIGUSR1)
            poll(lambda: len(inner) > 1, 10, "the handler to run while the lock is held")
        return reply({"access_token": "t", "expires_in": 60})

    main = threading.main_thread().ident or 0
    with token_server(slow) as tiny:
        source = TokenSource(connection(tiny))
        before = signal.signal(signal.SIGUSR1, lambda *_: inner.append(source.token()))
        try:
            assert source.token() == "t"
        finally:
            signal.signal(signal.SIGUSR1, before)
    assert inner == ["asked", "t"]


def test_a_wrong_secret_is_one_clear_sentence(jobapi_server: Server) -> None:
    wrong = replace(connection(jobapi_server), client_secret="a-wrong-secret")
    with pytest.raises(
        ConnectionProblem, match=r"refuses the client 'airflow' \(invalid_client.*check the connection's login"
    ) as caught:
        TokenSource(wrong).token()
    assert "a-wrong-secret" not in str(caught.value)
    assert "a-wrong-secret" not in repr(TokenSource(wrong))


def test_a_wrong_address(jobapi_server: Server) -> None:
    with pytest.raises(ConnectionProblem, match=r"no token server at .*/nowhere"):
        TokenSource(connection(jobapi_server, token_url=f"{jobapi_server.url}/nowhere")).token()
    with pytest.raises(ServiceUnavailable, match="cannot be reached: connection refused"):
        TokenSource(connection(jobapi_server, token_url="http://127.0.0.1:1/oauth/token")).token()
    with pytest.raises(ServiceUnavailable, match="its name is not known here"):
        TokenSource(connection(jobapi_server, token_url="http://nowhere.invalid/oauth/token")).token()


def test_the_secret_follows_no_redirect() -> None:
    with Tiny() as other, token_server(Reply(307, {"Location": f"{other.url}/oauth/token"})) as tiny:
        with pytest.raises(ConnectionProblem, match="redirects"):
            TokenSource(connection(tiny)).token()
        assert other.asked == []


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (reply({}), BrokenContract),
        (reply([1]), BrokenContract),
        (Reply(200, {}, b"hello"), BrokenContract),
        (Reply(200, {}, b"x" * 100_000), BrokenContract),
        (Reply(200, {"Content-Encoding": "gzip"}, b"\x1f\x8b"), BrokenContract),
        (reply({"access_token": 5}), BrokenContract),
        (reply({"access_token": ""}), BrokenContract),
        (reply({"access_token": "a\r\nX-Evil: b", "expires_in": 60}), BrokenContract),
        (reply({"access_token": "a b", "expires_in": 60}), BrokenContract),
        (reply({"access_token": "t", "expires_in": "soon"}), BrokenContract),
        (reply({"access_token": "t", "expires_in": -1}), BrokenContract),
        (reply({"access_token": "t", "expires_in": [1]}), BrokenContract),
        (reply({"access_token": "t", "expires_in": 10**400}), BrokenContract),
        (reply({"access_token": "t", "token_type": "mac"}), BrokenContract),
        (reply({"error": "invalid_scope", "error_description": "the secret is tiny-secret"}, 400), ConnectionProblem),
        (Reply(401, {}, b"who are you"), ConnectionProblem),
        (Reply(404), ConnectionProblem),
        (Reply(405), ConnectionProblem),
        (Reply(429, {"Retry-After": "3"}), ServiceUnavailable),
        (Reply(503, {"Retry-After": "3"}), ServiceUnavailable),
    ],
)
def test_token_servers_that_are_wrong(answer: Reply, kind: type[TrainingError]) -> None:
    with token_server(answer) as tiny, pytest.raises(kind) as caught:
        TokenSource(connection(tiny)).token()
    assert "tiny-secret" not in str(caught.value)
    assert str(caught.value).endswith(".")
    if isinstance(caught.value, ServiceUnavailable):
        assert caught.value.retry_after == 3


def test_a_token_without_an_end_is_used_for_a_while() -> None:
    with token_server(reply({"access_token": "t"})) as tiny:
        source = TokenSource(connection(tiny))
        assert source.token() == "t"
        assert source.cached() == "t"


def test_a_silent_token_server_is_given_up() -> None:
    released = threading.Event()

    def silent(_: Asked) -> Reply:
        released.wait(20)
        return Reply()

    with token_server(silent) as tiny:
        began = time.monotonic()
        with pytest.raises(ServiceUnavailable, match="did not answer in time"):
            TokenSource(connection(tiny, timeout=0.3)).token()
        assert time.monotonic() - began < 5
        released.set()


def credentials(asked: Asked) -> str:
    """Login and password of HTTP Basic, as they came."""
    return base64.b64decode(asked.headers["Authorization"].removeprefix("Basic ")).decode()


SECRETS = ["Zm9v/YmFy+w==", "se+kr et", "pass:word", "10 €", "über", "100%", "a&b=c"]


def only(right: str, status: int = 401) -> Any:
    """A token server that takes these credentials and no others."""

    def answer(asked: Asked) -> Reply:
        if credentials(asked) == right:
            return reply({"access_token": "t", "expires_in": 60})
        return reply({"error": "invalid_client"}, status)

    return answer


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("method", ["post_basic", "get_basic"])
@pytest.mark.parametrize("encoded", [True, False])
def test_credentials_are_form_encoded_or_else_raw(
    secret: str, method: str, encoded: bool, caplog: pytest.LogCaptureFixture
) -> None:
    login = "client:1"
    right = f"{quote_plus(login)}:{quote_plus(secret)}" if encoded else f"{login}:{secret}"
    with token_server(only(right)) as tiny, caplog.at_level("INFO"):
        source = TokenSource(replace(connection(tiny, token_method=method), client_id=login, client_secret=secret))
        assert source.token() == "t"
        asked = len(tiny.asked)
        assert asked == (1 if encoded else 2)
        source.token(refused="t")
        assert len(tiny.asked) == asked + 1  # it remembers which was taken
    told = "takes login and password without the form-encoding of RFC 6749" in caplog.text
    assert told is not encoded
    assert secret not in caplog.text


@pytest.mark.parametrize("status", [400, 401])
def test_a_wrong_secret_is_tried_in_both_forms_once(status: int) -> None:
    with token_server(reply({"error": "invalid_client"}, status)) as tiny:
        with pytest.raises(ConnectionProblem, match="check the connection's login, password and token_method"):
            TokenSource(replace(connection(tiny), client_secret="a+b")).token()
        assert [credentials(each) for each in tiny.asked] == ["client:a%2Bb", "client:a+b"]
        with pytest.raises(ConnectionProblem):
            TokenSource(replace(connection(tiny), client_secret="plain")).token()
        assert len(tiny.asked) == 3


@pytest.mark.parametrize("secret", SECRETS)
def test_a_form_holds_any_secret(secret: str) -> None:
    with token_server(reply({"access_token": "t"})) as tiny:
        source = TokenSource(replace(connection(tiny, token_method="post_form"), client_secret=secret))
        assert source.token() == "t"
        assert parse_qs(tiny.asked[0].body.decode())["client_secret"] == [secret]


@pytest.mark.parametrize("secret", ["secret\n", " secret", "secret\r\n", "secret\t"])
def test_white_space_around_a_refused_secret_is_named(secret: str) -> None:
    refused = reply({"error": "invalid_client"}, 401)
    ends = "The password begins or ends with white space"
    with token_server(refused) as tiny, pytest.raises(ConnectionProblem, match=ends) as caught:
        TokenSource(replace(connection(tiny), client_secret=secret)).token()
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("kind", ["Bearer", "bearer", "BearerToken", "bearer_token", "Bearer Token", None])
def test_token_types_that_are_bearer_tokens(kind: str | None) -> None:
    with token_server(reply({"access_token": "t", "token_type": kind})) as tiny:
        assert TokenSource(connection(tiny)).token() == "t"


@pytest.mark.parametrize("method", list(TokenMethod))
def test_audience_and_resource_are_sent(method: TokenMethod) -> None:
    with token_server(reply({"access_token": "t"})) as tiny:
        extra = {"audience": "https://jobs.example.com/", "resource": "urn:jobs"}
        TokenSource(connection(tiny, token_method=method.value, **extra)).token()
        (asked,) = tiny.asked
    sent = parse_qs(asked.body.decode() or asked.target.partition("?")[2])
    assert (sent["audience"], sent["resource"]) == (["https://jobs.example.com/"], ["urn:jobs"])


def test_a_hanging_token_server_is_waited_for_once() -> None:
    released = threading.Event()

    def silent(_: Asked) -> Reply:
        released.wait(60)
        return Reply()

    with token_server(silent) as tiny:
        source = TokenSource(connection(tiny, timeout=2))
        barrier = threading.Barrier(8, timeout=30)

        def ask(_: int) -> str:
            barrier.wait()
            with pytest.raises(ServiceUnavailable) as caught:
                source.token()
            return str(caught.value)

        with ThreadPoolExecutor(8) as pool:
            said = list(pool.map(ask, range(8)))
        released.set()
        assert len(set(said)) == 1
        # A thread that began to ask only after the failure asks once more; eight did, one after another.
        assert tiny.count("token") <= 3


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        ("invalid_scope", "check the connection's scope."),
        ("invalid_target", "check the connection's audience and resource."),
        ("invalid_client", "check the connection's login, password and token_method."),
        ("unsupported_grant_type", "does not offer client_credentials; check the connection's oauth_url."),
    ],
)
def test_each_error_has_its_advice(error: str, advice: str) -> None:
    refused = reply({"error": error, "error_description": "No."}, 400)
    with token_server(refused) as tiny, pytest.raises(ConnectionProblem) as caught:
        TokenSource(connection(tiny)).token()
    assert f"({error}: No); " in str(caught.value)
    assert str(caught.value).endswith(advice)


@pytest.mark.parametrize("status", [400, 401, 403, 422, 500, 503])
@pytest.mark.parametrize(
    "answer",
    [Reply(0, {"Content-Type": "text/plain"}, b"The realm is closed."), reply({"detail": "The realm is closed."})],
)
def test_the_text_of_an_answer_is_shown(status: int, answer: Reply) -> None:
    with token_server(replace(answer, status=status)) as tiny, pytest.raises(TrainingError) as caught:
        TokenSource(connection(tiny)).token()
    assert f"(HTTP {status}: The realm is closed)" in str(caught.value)
    assert isinstance(caught.value, ServiceUnavailable if status >= 500 else ConnectionProblem)


@pytest.mark.parametrize("secret", ["tiny-secret/+ä", "tiny secret", "tiny-secret"])
@pytest.mark.parametrize("method", ["post_basic", "post_form"])
def test_an_answer_that_repeats_what_it_was_sent_shows_no_secret(secret: str, method: str) -> None:
    def echo(asked: Asked) -> Reply:
        sent = [asked.headers.get("Authorization", ""), asked.body.decode(), repr(asked.body), secret]
        return replace(reply({"message": "no: " + " ".join(sent)}), status=400)

    with token_server(echo) as tiny, pytest.raises(ConnectionProblem) as caught:
        TokenSource(replace(connection(tiny, token_method=method), client_secret=secret)).token()
    text = str(caught.value)
    assert "(HTTP 400: no: " in text
    encoded = [base64.b64encode(f"client:{each}".encode()).decode() for each in (secret, quote_plus(secret))]
    assert not any(form in text for form in (secret, quote_plus(secret), *(each[12:-4] for each in encoded)))
