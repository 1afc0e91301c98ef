# SPDX-License-Identifier: Apache-2.0
"""What a client gets that was removed, from the moment on in which it was."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
import requests

from tests.harness.server import Server, poll, renew

DOCUMENT = json.loads((Path(__file__).parents[3] / "docs" / "openapi.json").read_text())
JOB = {"job": {"name": "x", "execution": {"command": "y"}}}


@pytest.fixture
def server(tmp_path: Path):
    with Server.start(tmp_path / "root") as started:
        yield started


def remove(server: Server) -> None:
    command = [sys.executable, "-m", "airflow_provider_jobapi.cli", "client", "remove", server.client_id]
    subprocess.run([*command, "--root", str(server.root)], check=True, capture_output=True)


def test_every_route_says_that_the_client_was_removed(server: Server):
    server.put("some/key", b"x")
    headers = {"Authorization": f"Bearer {server.token()}"}
    assert requests.get(f"{server.url}/api/v2/jobs", headers=headers, timeout=30).status_code == 200
    remove(server)
    count = 0
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            if "security" not in operation:
                continue
            there = server.url + path.replace("{key}", "some/key").replace("{job_id}", str(uuid.uuid4()))
            answer = requests.request(method, there, headers=headers, data=json.dumps(JOB), timeout=30)
            assert answer.status_code == 401, (method, path, answer.text)
            assert "invalid_token" in answer.headers["www-authenticate"]
            assert method == "head" or "was removed" in answer.json()["detail"]
            count += 1
    assert count > 10
    grant = {"grant_type": "client_credentials"}
    answer = requests.post(f"{server.url}/oauth/token", data=grant, auth=(server.client_id, server.secret), timeout=30)
    assert answer.status_code == 401
    assert "Traceback" not in server.log()


def test_a_new_secret_revokes_the_old_tokens_at_once(server: Server):
    headers = {"Authorization": f"Bearer {server.token()}"}
    assert requests.get(f"{server.url}/api/v2/jobs", headers=headers, timeout=30).status_code == 200
    renew(server)
    answer = requests.get(f"{server.url}/api/v2/jobs", headers=headers, timeout=30)
    assert (answer.status_code, answer.json()["type"]) == (401, "/problems/token")


@pytest.mark.parametrize(
    "begin", ["PUT /api/v2/storage/objects/x", "POST /api/v2/jobs/2f1c9a52-7d0e-4c57-9f0e-6a1f4f1f6a11"]
)
def test_a_request_that_was_being_sent_is_answered_so_too(server: Server, begin):
    body = json.dumps(JOB).encode()
    head = f"{begin} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(f"{head}Authorization: Bearer {server.token()}\r\n\r\n".encode() + body[:-1])
        if begin.startswith("PUT"):
            poll(lambda: [*(server.root / "clients").rglob("*.part")], 30, "the upload to begin")
        else:
            poll(lambda: _is_authenticated(server), 30, "the request to be accepted")
        remove(server)
        connection.sendall(body[-1:])
        answer = b"".join(iter(lambda: connection.recv(65536), b"")).decode()
    assert answer.startswith("HTTP/1.1 401 "), answer
    assert "was removed" in answer
    assert "Traceback" not in server.log()
    assert not [*(server.root / "clients").rglob("*")]


def _is_authenticated(server: Server) -> bool:
    """After another request whose answer came, the earlier one was read as well."""
    return server.request("GET", "/api/v2/jobs").status_code == 200
