# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import socket
import uuid
from collections.abc import Iterator
from urllib.parse import unquote

import pytest

from airflow_provider_jobapi.server.http.bodies import JOB_FILE_LIMIT
from airflow_provider_jobapi.server.http.limits import HEADER_LIMIT
from tests.harness.server import Server, running


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("limits") / "root") as started:
        yield started


def exchange(server: Server, *pieces: bytes) -> str:
    """What comes back for bytes that no HTTP library would send."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        for piece in pieces:
            connection.sendall(piece)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b"")).decode()


def test_a_body_whose_content_length_is_too_large_is_not_read(server: Server):
    head = f"POST /api/v2/jobs/{uuid.uuid4()} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.token()}\r\n"
    answer = exchange(server, f"{head}Content-Length: {JOB_FILE_LIMIT + 1}\r\nExpect: 100-continue\r\n\r\n".encode())
    assert answer.startswith("HTTP/1.1 413 ")  # and not 100 Continue
    assert "application/problem+json" in answer


def test_a_body_that_grows_too_large_is_refused(server: Server):
    def pieces() -> Iterator[bytes]:
        for _ in range(JOB_FILE_LIMIT // 2**16 + 2):
            yield b"x" * 2**16

    answer = server.request("POST", f"/api/v2/jobs/{uuid.uuid4()}", data=pieces())
    assert (answer.status_code, answer.headers["content-type"]) == (413, "application/problem+json")
    assert "8.4 MB" in answer.json()["detail"]
    answer = server.request("POST", "/oauth/token", data=pieces())
    assert answer.status_code == 413


def test_a_job_file_with_ten_thousand_inputs_is_read(server: Server):
    inputs = [{"path": f"data/part-{number:06}.csv", "size": 5, "sha256": "0" * 64} for number in range(10_000)]
    document = {"job": {"name": "x", "execution": {"command": "y"}, "inputs": inputs}}
    answer = server.request("POST", f"/api/v2/jobs/{uuid.uuid4()}", data=json.dumps(document))
    assert answer.json()["type"] == "/problems/input-missing"


def test_a_large_job_file_must_be_json_since_yaml_is_slow(server: Server):
    document = "job: {name: x, execution: {command: y}}\n" + "#" * 2**20
    answer = server.request("POST", f"/api/v2/jobs/{uuid.uuid4()}", data=document)
    assert answer.status_code == 413
    assert "write it as JSON" in answer.json()["detail"]


@pytest.mark.parametrize("where", ["headers", "query"])
def test_headers_that_are_too_large_are_refused(server: Server, where):
    long = "x" * HEADER_LIMIT
    more = {"headers": {"X-Long": long}} if where == "headers" else {"params": {"after": long}}
    answer = server.request("GET", "/api/v2/jobs", **more)
    assert (answer.status_code, answer.headers["content-type"]) == (431, "application/problem+json")
    assert server.request("GET", "/api/v2/jobs", headers={"X-Long": "x" * (HEADER_LIMIT // 2)}).status_code == 200


def test_headers_without_an_end_are_cut_off(server: Server):
    def talk_on(connection: socket.socket) -> None:
        connection.sendall(b"GET / HTTP/1.1\r\n")
        for _ in range(1_000):
            connection.sendall(b"X-Long: " + b"x" * 2**14 + b"\r\n")

    with (
        socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection,
        pytest.raises(ConnectionError),
    ):
        talk_on(connection)
    assert server.request("GET", "/healthz").status_code == 200


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\0" * 100,
        b"GET / HTTP/1.1\r\nA B\r\n\r\n",
    ],
)
def test_invalid_http_does_no_harm(server: Server, request_bytes):
    assert "Traceback" not in exchange(server, request_bytes)
    assert server.request("GET", "/healthz").status_code == 200


@pytest.mark.parametrize("path", ["/api/v2/jobs%0A", "/healthz%0A", "/api/v2/storage/objects/a%00", "/%7F"])
def test_a_control_character_in_an_address_is_refused(server: Server, path):
    answer = exchange(server, f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith("HTTP/1.1 422 ")


@pytest.mark.parametrize(
    "address",
    [
        "PUT /api/v2/storage/objects/%FF",
        "PUT /api/v2/storage/objects/a/%C3",
        "GET /api/v2/storage/objects/%C0%AF",
        "PUT /api/v2/storage/objects/%ED%A0%80",
        "GET /api/v2/jobs/%FE",
        "GET /api/v2/storage/objects?prefix=%FF",
        "GET /api/v2/storage/objects?after=%FE",
        "GET /oauth/token?grant_type=%FF",
    ],
)
def test_an_address_that_is_not_utf8_is_refused(server: Server, address):
    head = f"{address} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 1\r\n"
    answer = exchange(server, f"{head}Authorization: Bearer {server.token()}\r\n\r\nx".encode())
    assert answer.startswith("HTTP/1.1 422 ")
    assert "is not UTF-8" in answer
    assert server.request("GET", "/api/v2/storage/objects").json()["objects"] == []


@pytest.mark.parametrize("key", ["%EF%BF%BD", "%F0%9F%98%80", "%C3%BC"])
def test_keys_of_any_letters_are_kept_apart(server: Server, key):
    assert server.request("PUT", f"/api/v2/storage/objects/{key}", data=b"x").status_code == 201
    (listed,) = server.request("GET", "/api/v2/storage/objects").json()["objects"]
    assert listed["key"] == unquote(key)
    assert server.request("DELETE", f"/api/v2/storage/objects/{key}").status_code == 204


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https", "X-Forwarded-Port": "1"},
        {"Forwarded": "host=evil.example;proto=https", "X-Forwarded-For": "203.0.113.5", "X-Forwarded-Prefix": "/evil"},
    ],
)
@pytest.mark.parametrize("path", ["/api/v2/storage", "/openapi.json", "/api/v2/jobs/", "/nothing", "/oauth/token"])
def test_no_answer_repeats_a_host_that_the_request_names(server: Server, headers, path):
    answer = server.request("GET", path, headers=headers)
    assert "evil" not in answer.text + str(answer.headers)
    assert "203.0.113.5" not in answer.text + str(answer.headers)
    if path == "/api/v2/storage":
        assert answer.json()["endpoint"] == f"{server.url}/api/v2/storage"
