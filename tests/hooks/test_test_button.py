# SPDX-License-Identifier: Apache-2.0
"""Airflow's *Test* button: its own API, asked as its page asks for a connection that is stored."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.harness.inline import Inline
from tests.harness.server import Server, running


class Page:
    """The page of Airflow's connections."""

    def __init__(self) -> None:
        from airflow.api_fastapi.app import create_app

        self._client = TestClient(create_app(apps="core"))
        token = self._client.get("/auth/token").json()["access_token"]
        self._client.headers["Authorization"] = f"Bearer {token}"

    def add(self, conn_id: str, **fields: Any) -> None:
        """Store a connection, as a person does."""
        extra = json.dumps(fields.pop("extra", {}))
        answer = self._client.post("/api/v2/connections", json={"connection_id": conn_id, **fields, "extra": extra})
        assert answer.status_code == 201, answer.text

    def test(self, conn_id: str) -> tuple[bool, str]:
        """Press the button, with what the page makes of the stored connection: texts for nothing, and port 0."""
        form = self._client.get(f"/api/v2/connections/{conn_id}").json()
        texts = ("conn_type", "connection_id", "description", "host", "login", "password", "schema")
        body = {name: form[name] or "" for name in texts} | {"extra": form["extra"] or "{}", "port": form["port"] or 0}
        answer = self._client.post("/api/v2/connections/test", json=body)
        if answer.status_code != 200:
            return False, answer.text
        return answer.json()["status"], answer.json()["message"]

    def close(self) -> None:
        for conn in self._client.get("/api/v2/connections").json()["connections"]:
            self._client.delete(f"/api/v2/connections/{conn['connection_id']}")


@pytest.fixture
def page(inline: Inline, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("AIRFLOW__CORE__TEST_CONNECTION", "Enabled")
    made = Page()
    yield made
    made.close()


def test_the_button_works_for_the_printed_connection(page: Page, jobapi_server: Server) -> None:
    page.add("printed", **jobapi_server.connection)
    ok, message = page.test("printed")
    assert ok, message
    assert [line.partition(",")[0] for line in message.splitlines()] == ["Token: ok", "API: ok", "Storage: ok"]


def test_the_button_works_for_every_way_to_write_an_address(page: Page, jobapi_server: Server) -> None:
    known = {name: jobapi_server.connection[name] for name in ("conn_type", "login", "password")}
    port, url = jobapi_server.port, jobapi_server.url
    places = {
        "parts": {"host": "127.0.0.1", "port": port, "schema": "http"},
        "twice": {"host": url, "port": port},
        "zero": {"host": url, "port": 0},
        "zero_parts": {"host": f"127.0.0.1:{port}", "port": 0, "schema": "http"},
        "both_schemes": {"host": "http://127.0.0.1", "port": port, "schema": "https"},
        "older_extra": {"host": "http://127.0.0.1", "port": port, "extra": {"token_url": f"{url}/oauth/token"}},
    }
    for conn_id, place in places.items():
        page.add(conn_id, **known | place)
        ok, message = page.test(conn_id)
        assert ok, (conn_id, message)


def test_the_button_works_with_ipv6(page: Page, tmp_path: Any) -> None:
    with running(tmp_path / "six", "--host", "::1") as server:
        assert (server.connection["host"], server.connection["port"]) == ("http://[::1]", server.port)
        page.add("six", **server.connection)
        page.add("bare_six", **server.connection | {"host": "::1", "schema": "http"})
        for conn_id in ("six", "bare_six"):
            ok, message = page.test(conn_id)
            assert ok, message


def test_the_button_works_for_a_service_without_a_port(page: Page) -> None:
    """Which asks for 0 in the form, as Airflow refuses the test of a connection whose port is empty."""
    own = {"region": "eu-central-1", "bucket": "my-trainings", "aws_conn_id": "nowhere"}
    page.add("portless", conn_type="sagemaker_ack", port=0, extra=own)
    _, message = page.test("portless")
    assert message.startswith("Connection "), message
    assert "names 'nowhere' as its connection for aws, which is not defined" in message
