# SPDX-License-Identifier: Apache-2.0
"""Many objects by one request, on a real server: all of them or none, whatever breaks."""

from __future__ import annotations

import hashlib
import json
import socket
import uuid
from pathlib import Path

import pytest
import requests

from tests.harness.server import Server, poll, running

UPLOAD, DOWNLOAD = "/api/v2/storage/upload", "/api/v2/storage/download"
BOUND = 1_000_000


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("streams") / "root", "--storage-bound", str(BOUND)) as started:
        yield started


@pytest.fixture
def prefix() -> str:
    return f"tests/{uuid.uuid4()}"


def entry(key: str, content: bytes, **changes: object) -> bytes:
    line = {"key": key, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()} | changes
    return json.dumps(line).encode() + b"\n" + content


def upload(server: Server, body: bytes) -> requests.Response:
    return server.request("POST", UPLOAD, data=body, headers={"Content-Type": "application/vnd.jobapi.objects"})


def keys(server: Server, prefix: str) -> list[str]:
    page = server.request("GET", f"/api/v2/storage/objects?prefix={prefix}/").json()
    return [each["key"].rpartition("/")[2] for each in page["objects"]]


def used(server: Server) -> str:
    return server.request("GET", "/api/v2/storage").json()["message"]


def unfinished(server: Server) -> list[Path]:
    return list(server.root.rglob("*.part"))


def test_all_objects_are_written_and_can_be_read_together(server: Server, prefix: str):
    content = {f"{prefix}/{n:03}": bytes([n % 256]) * (n * 7) for n in range(40)}  # the first has no bytes
    body = b"".join(entry(key, each) for key, each in content.items())
    for _ in range(2):  # the same request again changes nothing
        answer = upload(server, body)
        assert (answer.status_code, answer.json()["objects"]) == (200, 40)
    missing = f"{prefix}/none"
    got = server.request("POST", DOWNLOAD, json={"keys": [missing, *content]}).content
    line, _, rest = got.partition(b"\n")
    assert (json.loads(line)["key"], json.loads(line)["problem"]["status"]) == (missing, 404)
    assert rest == body
    for key in content:
        server.request("DELETE", f"/api/v2/storage/objects/{key}")


@pytest.mark.parametrize(
    ("wrong", "status", "said"),
    [
        (entry("../x", b"x"), 422, "cannot have the key"),
        (entry("tests/x", b"x", sha256="0" * 64), 422, "were received have SHA-256"),
        (entry("tests/x", b"x", size=2), 422, "The body ends within the bytes of 'tests/x'"),
        (entry("tests/x", b"x", size=-1), 422, "size: Input should be greater than or equal to 0"),
        (entry("tests/x", b"x") * 2, 422, "has 'tests/x' twice"),
        (b"{" * 10_000, 422, "is longer than"),
        (b'{"key"', 422, "The body ends within the line"),
        (entry("tests/x", b"x" * BOUND), 507, "has no room"),
    ],
    ids=["key", "digest", "end", "size", "twice", "long", "line", "full"],
)
def test_one_wrong_object_leaves_none(server: Server, prefix: str, wrong: bytes, status: int, said: str):
    before = used(server)
    answer = upload(server, b"".join(entry(f"{prefix}/{n}", b"good" * 100) for n in range(20)) + wrong)
    assert (answer.status_code, keys(server, prefix), unfinished(server)) == (status, [], [])
    assert said in answer.json()["detail"]
    assert used(server) == before
    whole = entry(f"{prefix}/whole", b"x" * (BOUND // 2))  # the room of what was refused is free
    assert upload(server, whole).status_code == 200
    server.request("DELETE", f"/api/v2/storage/objects/{prefix}/whole")


def test_too_many_objects_are_refused(server: Server, prefix: str):
    answer = upload(server, b"".join(entry(f"{prefix}/{n}", b"") for n in range(501)))
    assert (answer.status_code, keys(server, prefix)) == (422, [])


def begun(server: Server, prefix: str) -> socket.socket:
    """Send the first half of an upload, and return its connection when the server has written of it."""
    body = b"".join(entry(f"{prefix}/{n}", b"x" * 10_000) for n in range(60))
    head = f"POST {UPLOAD} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.token()}\r\n"
    way = socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])))
    way.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[: len(body) - 5])
    poll(lambda: unfinished(server), 20, "the first objects to be written")
    return way


def test_a_client_that_goes_in_mid_stream_leaves_nothing(server: Server, prefix: str):
    begun(server, prefix).close()
    poll(lambda: not unfinished(server), 20, "the unfinished objects to be removed")
    assert keys(server, prefix) == []
    assert upload(server, entry(f"{prefix}/a", b"x" * (BOUND - 50_000))).status_code == 200
    server.request("DELETE", f"/api/v2/storage/objects/{prefix}/a")


def test_a_server_that_is_killed_in_mid_stream_leaves_nothing(jobapi: Server, prefix: str):
    kept = entry(f"{prefix}/kept", b"kept")
    assert upload(jobapi, kept).status_code == 200
    with begun(jobapi, prefix):
        jobapi.kill()
    jobapi.restart()
    assert (keys(jobapi, prefix), unfinished(jobapi)) == (["kept"], [])
    assert upload(jobapi, kept).status_code == 200


def test_the_files_of_a_job_that_has_not_ended_stay(jobapi: Server):
    job_id = jobapi.submit("import time\nwhile True: time.sleep(0.1)\n")
    jobapi.wait_for(job_id, "RUNNING")
    listed = jobapi.request("GET", "/api/v2/storage/objects?prefix=jobs/").json()["objects"]
    key = next(each["key"] for each in listed if job_id in each["key"])
    answer = upload(jobapi, entry("tests/other", b"") + entry(key, b"changed"))
    assert (answer.status_code, keys(jobapi, "tests")) == (409, [])
