# SPDX-License-Identifier: Apache-2.0
"""Requests that no HTTP library would send: over raw sockets, against the real server."""

from __future__ import annotations

import socket
import threading
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
import requests

from tests.harness.server import poll
from tests.hostile.raw import LAST, exchange, flood, statuses
from tests.hostile.tenants import Held, Tenant

HOST = b"Host: a\r\n"
TOKEN = b"POST /oauth/token HTTP/1.1\r\n" + HOST
MEGABYTE = 2**20


@pytest.fixture
def port(held: Held, tally: Counter[str]) -> int:
    tally["requests sent byte by byte"] += 1
    return held.server.port


def _authorization(tenant: Tenant) -> bytes:
    return f"Authorization: Bearer {tenant.token}\r\n".encode()


def test_valid_requests_over_a_raw_socket_work(port: int) -> None:
    assert statuses(port, b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n" + LAST) == [200, 200]


@pytest.mark.parametrize(
    "framing",
    [
        pytest.param(b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", id="length-and-chunked"),
        pytest.param(b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", id="chunked-and-length"),
        pytest.param(b"Content-Length: 5\r\nContent-Length: 6\r\n", id="two-lengths"),
        pytest.param(b"Content-Length: +5\r\n", id="signed-length"),
        pytest.param(b"Content-Length: -1\r\n", id="negative-length"),
        pytest.param(b"Content-Length: 0x5\r\n", id="hexadecimal-length"),
        pytest.param(b"Content-Length: 5\r\n 0\r\n", id="folded-length"),
        pytest.param(b"Content-Length: \xb2\r\n", id="superscript-length"),
        pytest.param(b"Content-Length: " + b"9" * 5000 + b"\r\n", id="endless-length"),
        pytest.param(b"Transfer-Encoding: identity\r\n", id="identity"),
        pytest.param(b"Transfer-Encoding: chunked, identity\r\n", id="chunked-identity"),
        pytest.param(b"Transfer-Encoding: gzip, chunked\r\n", id="gzip-chunked"),
        pytest.param(b"Transfer-Encoding: xchunked\r\n", id="xchunked"),
        pytest.param(b"Transfer-Encoding: \x0bchunked\r\n", id="vertical-tab"),
        pytest.param(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", id="two-encodings"),
        pytest.param(b"Transfer-Encoding : chunked\r\n", id="space-before-colon"),
    ],
)
def test_a_body_with_an_ambiguous_length_is_refused(framing: bytes, port: int, alice: Tenant) -> None:
    smuggled = b"GET /api/v2/jobs HTTP/1.1\r\n" + HOST + _authorization(alice) + b"\r\n"
    assert statuses(port, TOKEN + framing + b"\r\n0\r\n\r\n" + smuggled + LAST) == [400]


@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(b"GET /healthz HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", id="NUL-in-a-header"),
        pytest.param(b"GET /health\0z HTTP/1.1\r\nHost: a\r\n\r\n", id="NUL-in-the-target"),
        pytest.param(b"GET /healthz HTTP/1.1\r\nHost: a\r\nX: a\rY: b\r\n\r\n", id="bare-CR"),
        pytest.param(b"GET /healthz HTTP/1.1\r\n\r\n", id="no-host"),
        pytest.param(b"GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", id="two-hosts"),
        pytest.param(b"GET /healthz\r\n\r\n", id="HTTP/0.9"),
        pytest.param(b"GET /healthz HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", id="header-without-a-name"),
        pytest.param(b"GET  /healthz HTTP/1.1\r\nHost: a\r\n\r\n", id="two-spaces"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", id="TLS"),
        pytest.param(b"\0" * 1000 + b"\r\n\r\n", id="NULs"),
        pytest.param(TOKEN + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n", id="chunk-without-a-size"),
        pytest.param(TOKEN + b"Transfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n", id="negative-chunk"),
        pytest.param(TOKEN + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhelloXX\r\n0\r\n\r\n", id="chunk-too-long"),
        pytest.param(TOKEN + b"Transfer-Encoding: chunked\r\n\r\n" + b"F" * 21 + b"\r\nx", id="chunk-beyond-64-bits"),
    ],
)
def test_invalid_http_is_refused_and_the_connection_closed(request_bytes: bytes, port: int) -> None:
    assert statuses(port, request_bytes + LAST) == [400]


@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(b"GET /healthz HTTP/1.1\nHost: a\n\n", id="bare-LF"),
        pytest.param(b"GET /healthz HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n", id="obs-fold"),
        pytest.param(TOKEN + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", id="the-same-length-twice"),
    ],
)
def test_a_request_that_may_be_read_leniently_is_read_once_and_in_one_way(request_bytes: bytes, port: int) -> None:
    # RFC 9112, 2.2 (a bare LF), 5.2 (obs-fold) and 6.3 (equal lengths).
    answers = statuses(port, request_bytes + LAST)
    assert len(answers) == 2
    assert answers[0] in {200, 400}
    assert answers[1] == 200


@pytest.mark.parametrize(
    ("request_bytes", "expected"),
    [
        pytest.param(b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 404, id="CONNECT"),
        pytest.param(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 404, id="OPTIONS-*"),
        pytest.param(b"GET http://evil/healthz HTTP/1.1\r\nHost: a\r\n\r\n", 404, id="absolute-target"),
        pytest.param(b"TRACE /healthz HTTP/1.1\r\nHost: a\r\nX: secret\r\n\r\n", 405, id="TRACE"),
        pytest.param(b"GET /healthz HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 40_000 + b"\r\n\r\n", 431, id="40-kB-header"),
        pytest.param(b"GET /healthz?" + b"a" * 40_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 431, id="40-kB-target"),
        pytest.param(
            b"GET /healthz HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n", 200, id="upgrade-to-h2c"
        ),
    ],
)
def test_unsupported_http_is_refused_with_the_right_status(request_bytes: bytes, expected: int, port: int) -> None:
    first, last = exchange(port, request_bytes + LAST)
    assert (first.status, last.status) == (expected, 200)
    assert b"secret" not in first.body
    assert first.status < 400 or first.headers["content-type"] == "application/problem+json"


def test_an_upgrade_to_a_websocket_does_not_avoid_the_limits(port: int) -> None:
    upgrade = b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    data = b"GET /api/v2/jobs HTTP/1.1\r\n" + HOST + upgrade + b"Sec-WebSocket-Version: 13\r\n\r\n"
    assert statuses(port, data + LAST)[0] == 401


def test_headers_without_end_are_cut_off(port: int) -> None:
    begin = b"GET /healthz HTTP/1.1\r\n" + HOST
    answers = statuses(port, begin, flood(20, b"X: " + b"a" * 1000 + b"\r\n"))
    assert set(answers) <= {400, 431}


def test_a_body_with_a_too_large_content_length_is_refused_before_it_is_sent(port: int, alice: Tenant) -> None:
    head = f"POST /api/v2/jobs/{uuid.uuid4()} HTTP/1.1\r\n".encode() + HOST + _authorization(alice)
    first, *_ = exchange(port, head + b"Content-Length: 99999999999\r\nConnection: close\r\n\r\n")
    assert first.status == 413
    assert first.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"POST /oauth/token", 413),
        (b"POST /api/v2/jobs/6c9a1b2e-0000-4000-8000-000000000001", 413),
        (b"GET /healthz", 200),
        (b"GET /nothing", 404),
    ],
)
def test_a_body_without_end_is_cut_off_and_not_kept_in_memory(
    line: bytes, expected: int, held: Held, alice: Tenant, tally: Counter[str]
) -> None:
    process = psutil.Process(held.server.process.pid)
    before = process.memory_info().rss
    head = line + b" HTTP/1.1\r\n" + HOST + _authorization(alice) + b"Transfer-Encoding: chunked\r\n\r\n"
    answers = statuses(held.server.port, head, flood(20, b"10000\r\n" + b"x" * 65_536 + b"\r\n"))
    # A reset may take away an answer that was there.
    assert answers in ([], [expected])
    assert process.memory_info().rss - before < 64 * MEGABYTE
    assert requests.get(f"{held.server.url}/healthz", timeout=10).ok
    tally["bodies without end"] += 1


def test_a_client_that_disconnects_in_mid_body_causes_no_error_in_the_log(held: Held, alice: Tenant) -> None:
    head = f"POST /api/v2/jobs/{uuid.uuid4()} HTTP/1.1\r\n".encode() + HOST + _authorization(alice)
    printed = len(held.server.log())
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", held.server.port)) as connection:
            connection.sendall(head + b"Content-Length: 1000\r\n\r\nhalf")
    upload = b"PUT /api/v2/storage/objects/half HTTP/1.1\r\n" + HOST + _authorization(alice)
    with socket.create_connection(("127.0.0.1", held.server.port)) as connection:
        connection.sendall(upload + b"Content-Length: 1000\r\n\r\nhalf")
    folder = held.server.root / "clients" / alice.client_id / "data"
    poll(lambda: not list(folder.glob("*.part")), 10, "half an object to be thrown away")
    assert alice.request("HEAD", "/api/v2/storage/objects/half").status_code == 404
    assert "Traceback" not in held.server.log()[printed:]


def test_three_hundred_slow_clients_do_not_delay_others(held: Held, alice: Tenant, tally: Counter[str]) -> None:
    begun = [
        b"GET /healthz HTTP/1.1\r\nHost: a\r\nX: ",
        TOKEN + b"Content-Length: 1000\r\n\r\ngrant_type=",
        b"PUT /api/v2/storage/objects/slow HTTP/1.1\r\n" + HOST + _authorization(alice) + b"Content-Length: 9\r\n\r\na",
    ]
    slow = [socket.create_connection(("127.0.0.1", held.server.port)) for _ in range(300)]
    try:
        for number, connection in enumerate(slow):
            connection.sendall(begun[number % len(begun)])
        times = []
        for number in range(10):
            for connection in slow[number::10]:
                connection.send(b"a")
            started = time.monotonic()
            assert alice.request("GET", "/api/v2/jobs").status_code == 200
            times.append(time.monotonic() - started)
        assert max(times) < 5
    finally:
        for connection in slow:
            connection.close()
    tally["slow clients at a time"] += len(slow)


@pytest.mark.slow
def test_a_connection_whose_headers_never_end_is_closed(port: int) -> None:
    stopped = threading.Event()

    def trickle(connection: socket.socket) -> None:
        while not stopped.is_set():
            connection.sendall(b"a")
            stopped.wait(1)

    with ThreadPoolExecutor() as pool, socket.create_connection(("127.0.0.1", port), timeout=90) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\nX: ")
        trickling = pool.submit(trickle, connection)
        try:
            try:
                assert b"200" not in connection.recv(1000)
            except ConnectionResetError:
                pass
        finally:
            stopped.set()
        assert trickling.exception() is None or isinstance(trickling.exception(), OSError)


def test_pipelined_requests_are_answered_in_order(port: int, alice: Tenant) -> None:
    one = b"GET /api/v2/jobs/%s HTTP/1.1\r\n" + HOST + _authorization(alice) + b"\r\n"
    ids = [str(uuid.uuid4()) for _ in range(30)]
    answers = exchange(port, b"".join(one % job_id.encode() for job_id in ids) + LAST)
    assert [answer.status for answer in answers] == [404] * 30 + [200]
    assert all(job_id.encode() in answer.body for job_id, answer in zip(ids, answers, strict=False))
