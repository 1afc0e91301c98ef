# SPDX-License-Identifier: Apache-2.0
"""The hook before connections that cannot be and services that lie: a line for the person, never a traceback."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_jobapi.exceptions import ConnectionProblem, TrainingError
from airflow_provider_jobapi.hooks.jobapi import JobApiHook
from airflow_provider_jobapi.services import retry
from airflow_provider_jobapi.services.jobapi.connection import JobApiConnection
from tests.harness.hostile_server import SECRET, Answer, HostileServer, secrets_in
from tests.hostile.lies import BRIEF, HANDLE, TIMEOUT, check_error, one_clear_error
from tests.hostile.shapes import SHAPES


@pytest.fixture
def hook(request: pytest.FixtureRequest, hostile: HostileServer, monkeypatch: pytest.MonkeyPatch) -> JobApiHook:
    """The hook of a connection to the hostile server, as Airflow finds it; it waits briefly."""
    extra = {"timeout": getattr(request, "param", BRIEF), "token_url": f"{hostile.url}/oauth/token"}
    fields = {"conn_type": "jobapi", "host": hostile.url, "login": "client", "password": SECRET, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_HOSTILE", json.dumps(fields))
    return JobApiHook("hostile")


@pytest.mark.parametrize("hook", [TIMEOUT], indirect=True)
def test_an_honest_service_is_believed(hook: JobApiHook, destination: Path) -> None:
    good, text = hook.test_connection()
    assert good, text
    assert hook.status(HANDLE).status.ended
    assert hook.logs(HANDLE) == ("hello", "world")
    assert (destination / "1767225600" / "saved_model.pb").exists() or hook.fetch(HANDLE, str(destination))


@pytest.mark.parametrize("route", ["/oauth/token", "/api/v2/"])
@pytest.mark.parametrize("shape", [name for name in SHAPES if name not in {"silence", "100-for-ever"}])
def test_the_connections_test_tells_what_is_wrong(
    shape: str, route: str, hook: JobApiHook, hostile: HostileServer, tally: Counter[str]
) -> None:
    hostile.says(route, SHAPES[shape])
    with retry.testing():
        good, text = hook.test_connection()
    assert not good
    assert 10 < len(text) < 4_000
    assert "Traceback" not in text
    assert not secrets_in([text])
    tally["lies told to the hook"] += 1


@pytest.mark.parametrize("ask", ["token", "storage", "status", "stop", "fetch"])
def test_every_method_ends_in_one_error_of_ours(
    ask: str, hook: JobApiHook, hostile: HostileServer, destination: Path
) -> None:
    hostile.says("/", Answer(200, {"Content-Type": "text/html"}, b"<html>Log in to the hotel's network</html>"))
    arguments = {"status": [HANDLE], "stop": [HANDLE], "fetch": [HANDLE, str(destination)]}.get(ask, [])
    with one_clear_error():
        getattr(hook, ask)(*arguments)


WILD_FIELDS = st.none() | st.text(max_size=40) | st.sampled_from([
    "http://", "https://[", "http://a:99999", "ftp://a", "file:///etc/passwd", "http://user:pass@a", "http://a\r\nX: y", "http://a b", "//a", "a:b:c",
    "http://a?x=1", "http://a#f", "http://\u200b", "http://xn--", "javascript:alert(1)", "http://" + "a" * 300, "\\\\a\\b",
])  # fmt: skip


@settings(max_examples=300, derandomize=True, suppress_health_check=list(HealthCheck), database=None)
@given(
    host=WILD_FIELDS,
    port=st.none() | st.integers(-1, 70_000),
    schema=st.none() | st.sampled_from(["http", "https", "HTTPS", "gopher", "", " http"]),
    login=st.none() | st.text(max_size=20),
    password=st.none() | st.text(max_size=20),
    extra=st.none()
    | st.dictionaries(
        st.sampled_from(["token_url", "token_method", "scope", "version", "verify", "ca_bundle", "client_cert", "proxy", "timeout", "x"]),
        WILD_FIELDS | st.integers() | st.booleans() | st.floats() | st.lists(st.text(max_size=3), max_size=2),
        max_size=3,
    ),
)  # fmt: skip
def test_no_connection_brings_an_error_of_somebody_else(tally: Counter[str], **fields: Any) -> None:
    tally["connections that cannot be"] += 1
    shown = shown_of(fields)
    # A password may stand in the host by chance; what is shown may still not change with it.
    if len((fields["password"] or "").strip()) >= 8:
        assert shown_of(fields | {"password": "another " + fields["password"]}) == shown


def shown_of(fields: dict[str, Any]) -> str:
    """What a user sees of a connection with these fields: what was made of it, or the one error."""
    try:
        made = JobApiConnection.of(**fields)
    except TrainingError as error:
        check_error(error, ConnectionProblem)
        return str(error)
    assert made.base_url.startswith(("http://", "https://"))
    return repr(made)


@settings(max_examples=60, derandomize=True, suppress_health_check=list(HealthCheck), database=None)
@given(
    login=st.text(min_size=1, max_size=30),
    password=st.text(min_size=1, max_size=30),
    method=st.sampled_from(["post_basic", "post_form", "get_basic"]),
)
def test_whatever_stands_in_login_and_password_no_header_is_made_of_it(
    hostile: HostileServer, tally: Counter[str], login: str, password: str, method: str
) -> None:
    from airflow_provider_jobapi.services.jobapi.service import JobApiService

    extra = {"token_url": f"{hostile.url}/oauth/token", "timeout": 5, "token_method": method}
    made = JobApiConnection.of(host=hostile.url, login=login, password=password, extra=extra)
    before = len(hostile.seen)
    with retry.testing():
        try:
            JobApiService(made).token()
        except TrainingError as error:
            check_error(error)
    for seen in hostile.seen[before:]:
        assert seen.path.partition("?")[0] == "/oauth/token"
        assert set(seen.headers) <= {
            "host", "user-agent", "accept", "accept-encoding", "connection", "content-type", "content-length", "authorization",
        }  # fmt: skip
        assert "client_secret" not in seen.path
    tally["connections that cannot be"] += 1
