# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import base64
import hashlib
import socket
import threading
import uuid
from email.utils import parsedate_to_datetime

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.harness.server import Server, poll, running

OBJECTS = "/api/v2/storage/objects"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("storage") / "root", "--storage-bound", "40MB") as started:
        yield started


@pytest.fixture
def folder(server: Server):
    name = uuid.uuid4().hex
    yield name
    for each in server.request("GET", OBJECTS, params={"prefix": f"{name}/"}).json()["objects"]:
        server.request("DELETE", f"{OBJECTS}/{each['key']}")


def digest_header(content: bytes) -> str:
    return f"sha-256=:{base64.b64encode(hashlib.sha256(content).digest()).decode()}:"


def test_the_storage_is_ready_and_has_an_address(server: Server):
    answer = server.request("GET", "/api/v2/storage").json()
    message = answer.pop("message")
    assert answer == {
        "endpoint": f"{server.url}/api/v2/storage",
        "accessKey": "",
        "secretKey": "",
        "bucket": "data",
        "protocol": "http",
        "region": "",
        "status": "READY",
    }
    assert message.startswith("The storage works; ")
    assert message.endswith(" of 40.0 MB are used.")


def test_the_endpoint_is_the_address_of_the_proxy_where_one_is_configured(tmp_path):
    with running(tmp_path / "root", "--url", "https://jobs.example.com/x/") as server:
        endpoint = server.request("GET", "/api/v2/storage").json()["endpoint"]
    assert endpoint == "https://jobs.example.com/x/api/v2/storage"
    assert (server.connection["host"], server.connection["port"]) == ("https://jobs.example.com/x", 443)
    assert server.token_url == "https://jobs.example.com/x/oauth/token"


def test_an_object_is_written_and_read(server: Server, folder):
    content = bytes(range(256)) * 9_000
    first = server.request("PUT", f"{OBJECTS}/{folder}/a b/ü.bin", data=content)
    sha256 = hashlib.sha256(content).hexdigest()
    assert first.status_code == 201
    assert first.json() == {"key": f"{folder}/a b/ü.bin", "size": len(content), "sha256": sha256}
    assert server.request("PUT", f"{OBJECTS}/{folder}/a b/ü.bin", data=content).status_code == 200
    for method in ("GET", "HEAD"):
        answer = server.request(method, f"{OBJECTS}/{folder}/a b/ü.bin")
        assert answer.status_code == 200
        assert answer.headers["content-length"] == str(len(content))
        assert answer.headers["etag"] == f'"{sha256}"'
        assert answer.headers["repr-digest"] == digest_header(content)
        assert answer.headers["accept-ranges"] == "bytes"
        assert parsedate_to_datetime(answer.headers["last-modified"])
        assert answer.content == (content if method == "GET" else b"")
    assert server.request("DELETE", f"{OBJECTS}/{folder}/a b/ü.bin").status_code == 204
    for method in ("GET", "HEAD", "DELETE"):
        assert server.request(method, f"{OBJECTS}/{folder}/a b/ü.bin").status_code == 404


@pytest.mark.parametrize("header", ["Content-Digest", "Repr-Digest"])
def test_bytes_are_checked_against_the_digest_header(server: Server, folder, header):
    key = f"{OBJECTS}/{folder}/x"
    good = server.request("PUT", key, data=b"right", headers={header: f"md5=:x:, {digest_header(b'right')}"})
    assert good.status_code == 201
    bad = server.request("PUT", key, data=b"wrong", headers={header: digest_header(b"right")})
    assert bad.status_code == 422
    assert bad.json()["type"] == "/problems/wrong-digest"
    assert "send them again" in bad.json()["detail"]
    assert server.request("PUT", key, data=b"x", headers={header: "md5=:x:"}).status_code == 422
    assert server.request("GET", key).content == b"right"


def test_encoded_bytes_are_refused(server: Server, folder):
    answer = server.request("PUT", f"{OBJECTS}/{folder}/x", data=b"x", headers={"Content-Encoding": "gzip"})
    assert answer.status_code == 415


CONTENT = bytes(range(200)) * 5


@pytest.fixture(scope="module")
def ranged(server: Server):
    server.put("ranged", CONTENT)
    return server


@settings(max_examples=60)
@given(st.one_of(st.none(), st.integers(0, 1200)), st.one_of(st.none(), st.integers(0, 1200)))
def test_a_range_returns_that_part(ranged: Server, first, last):
    asked = f"bytes={'' if first is None else first}-{'' if last is None else last}"
    answer = ranged.request("GET", f"{OBJECTS}/ranged", headers={"Range": asked})
    if first is None:
        part, whole = (CONTENT[-last:] if last else b"", last is None)
    else:
        part, whole = CONTENT[first : None if last is None else last + 1], last is not None and last < first
    if whole:
        assert (answer.status_code, answer.content) == (200, CONTENT)
    elif not part:
        assert (answer.status_code, answer.headers["content-range"]) == (416, "bytes */1000")
    else:
        start = CONTENT.index(part) if first is None else first
        start = len(CONTENT) - len(part) if first is None else start
        assert (answer.status_code, answer.content) == (206, part)
        assert answer.headers["content-range"] == f"bytes {start}-{start + len(part) - 1}/1000"


@pytest.mark.parametrize("asked", ["bytes=0-1,5-6", "lines=1-2", "bytes=a-b", "0-1", "bytes", "bytes=-"])
def test_a_range_that_is_not_understood_is_ignored(ranged: Server, asked):
    answer = ranged.request("GET", f"{OBJECTS}/ranged", headers={"Range": asked})
    assert (answer.status_code, answer.content) == (200, CONTENT)


def test_a_download_is_continued_only_with_the_same_object(ranged: Server):
    tag = ranged.request("HEAD", f"{OBJECTS}/ranged").headers["etag"]
    same = ranged.request("GET", f"{OBJECTS}/ranged", headers={"Range": "bytes=990-", "If-Range": tag})
    other = ranged.request("GET", f"{OBJECTS}/ranged", headers={"Range": "bytes=990-", "If-Range": '"x"'})
    assert (same.status_code, same.content) == (206, CONTENT[990:])
    assert (other.status_code, other.content) == (200, CONTENT)


def test_a_list_has_pages(server: Server, folder):
    keys = [f"{folder}/{number:02}" for number in range(7)]
    for key in reversed(keys):
        server.put(key, key)
    seen, after = [], ""
    while after is not None:
        page = server.request("GET", OBJECTS, params={"prefix": f"{folder}/", "after": after, "limit": 3}).json()
        assert len(page["objects"]) <= 3
        seen += page["objects"]
        after = page["next"]
    assert [each["key"] for each in seen] == keys
    assert seen[0]["sha256"] == hashlib.sha256(keys[0].encode()).hexdigest()
    assert seen[0]["size"] == len(keys[0])
    assert seen[0]["modified"].endswith("Z")


@pytest.mark.parametrize("params", [{"limit": 0}, {"limit": 1001}, {"limit": "x"}, {"prefix": "x" * 1025}])
def test_a_list_with_a_wrong_parameter_is_refused(server: Server, params):
    answer = server.request("GET", OBJECTS, params=params)
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert answer.json()["field"] == next(iter(params))


@pytest.mark.parametrize(
    "key", ["%2e%2e/x", "a/%2e%2e/x", "a//b", "%2fetc/passwd", "a/", "", "a%0Ab", "a%00", "a%5Cb", "x" * 300]
)
@pytest.mark.parametrize("method", ["PUT", "GET", "HEAD", "DELETE"])
def test_a_key_that_is_not_a_safe_path_is_refused(server: Server, method, key):
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        head = f"{method} {OBJECTS}/{key} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.token()}\r\n"
        connection.sendall(f"{head}Content-Length: 0\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b"")).decode()
    assert answer.startswith("HTTP/1.1 422 ")


def test_the_error_of_a_full_storage_has_its_size_and_what_to_do(server: Server, folder):
    server.put(f"{folder}/a", b"x" * 30_000_000)
    announced = server.request("PUT", f"{OBJECTS}/{folder}/b", data=b"x" * 20_000_000)
    streamed = server.request("PUT", f"{OBJECTS}/{folder}/b", data=iter([b"x" * 1_000_000] * 20))
    for answer in (announced, streamed):
        assert answer.status_code == 507
        assert answer.json()["type"] == "/problems/storage-full"
        assert "of 40.0 MB are free" in answer.json()["detail"]
        assert "--storage-bound" in answer.json()["detail"]
    assert server.request("HEAD", f"{OBJECTS}/{folder}/b").status_code == 404
    server.request("DELETE", f"{OBJECTS}/{folder}/a")
    assert server.request("PUT", f"{OBJECTS}/{folder}/b", data=b"x" * 20_000_000).status_code == 201


def parts(server: Server) -> list[str]:
    return [path.name for path in (server.root / "clients" / "airflow" / "data").glob("*.part")]


def test_an_interrupted_upload_keeps_the_old_object(server: Server, folder):
    server.put(f"{folder}/x", b"old")
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        head = f"PUT {OBJECTS}/{folder}/x HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.token()}\r\n"
        connection.sendall(f"{head}Content-Length: 5000000\r\n\r\n".encode() + b"x" * 3_000_000)
        poll(lambda: parts(server), 10, "the upload to begin")
    poll(lambda: not parts(server), 10, "the upload to be given up")
    assert server.request("GET", f"{OBJECTS}/{folder}/x").content == b"old"


def test_readers_get_the_whole_old_object_while_it_is_replaced(server: Server, folder):
    key = f"{OBJECTS}/{folder}/x"
    contents = {bytes([number]) * 400_000 for number in range(6)}
    server.request("PUT", key, data=b"\0" * 400_000)
    seen, over = [], threading.Event()

    def read() -> None:
        while not over.is_set():
            seen.append(requests.get(server.url + key, headers=header, timeout=30).content)

    header = {"Authorization": f"Bearer {server.token()}"}
    reader = threading.Thread(target=read)
    reader.start()
    for content in sorted(contents):
        server.request("PUT", key, data=content)
    over.set()
    reader.join()
    assert seen
    assert set(seen) <= contents


def test_the_error_for_bytes_missing_on_the_disk_names_the_object(server: Server, folder):
    server.put(f"{folder}/x", b"x" * 77)
    data = server.root / "clients" / "airflow" / "data"
    blob = next(path for path in data.rglob("*") if path.is_file() and path.stat().st_size == 77)
    blob.unlink()
    answer = server.request("GET", f"{OBJECTS}/{folder}/x")
    assert answer.status_code == 500
    assert "upload the object again" in answer.json()["detail"]
