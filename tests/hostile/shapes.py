# SPDX-License-Identifier: Apache-2.0
"""Answers of the wrong shape, and the routes of a jobAPI on which they are given."""

from __future__ import annotations

from tests.harness.hostile_server import Answer, Endless, HostileServer, Raw, Reply, Silence, as_json
from tests.hostile.lies import JOB_ID

ROUTES = {
    "token": "/oauth/token",
    "storage": "/api/v2/storage",
    "submit": f"POST /api/v2/jobs/{JOB_ID}",
    "find": f"GET /api/v2/jobs/{JOB_ID}",
    "status": f"GET /api/v2/jobs/{JOB_ID}",
    "stop": f"POST /api/v2/jobs/{JOB_ID}/stop",
    "fetch": f"GET /api/v2/jobs/{JOB_ID}/model",
}
"""The route on which the lie stands, by what is asked of the service."""


SHAPES: dict[str, Reply] = {
    "nothing": Answer(200, {"Content-Type": "application/json"}),
    "HTML": Answer(200, {"Content-Type": "text/html"}, b"<html><body>Welcome to the captive portal</body></html>"),
    "a-list": as_json([1, 2, 3]),
    "a-text": as_json("hello"),
    "a-number": as_json(1),
    "null": as_json(None),
    "half-an-object": Answer(200, {"Content-Type": "application/json"}, b'{"job_id": "'),
    "deep": Answer(200, {"Content-Type": "application/json"}, b"[" * 60_000),
    "deep-objects": Answer(200, {"Content-Type": "application/json"}, b'{"a":' * 12_000),
    "a-huge-number": Answer(200, {"Content-Type": "application/json"}, b'{"expires_in": 1' + b"0" * 5_000 + b"}"),
    "no-encoding": Answer(200, {"Content-Type": "application/json"}, b"\xff\xfe{\x00}"),
    "NULs": Answer(200, {"Content-Type": "application/json"}, b"\0" * 1_000),
    "cut-off": Answer(200, {"Content-Length": "1000"}, b'{"job_id": "x"'),
    "a-bomb": Answer(200, {"Content-Encoding": "gzip"}, b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03" + b"\xff" * 100),
    "a-status-of-999": Answer(999),
    "a-status-of-299": Answer(299, {}, b"warning"),
    "a-teapot": Answer(418),
    "nothing-at-all": Raw(b""),
    "no-HTTP": Raw(b"SSH-2.0-OpenSSH_9.2\r\n"),
    "binary": Raw(bytes(range(256)) * 4),
    "a-status-line-only": Raw(b"HTTP/1.1 200 OK\r\n"),
    "no-status": Raw(b"HTTP/1.1 OK\r\n\r\n"),
    "negative-length": Raw(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n[]"),
    "two-lengths": Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}"),
    "bad-chunks": Raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n{}"),
    "half-a-chunk": Raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nFF\r\n{}"),
    "a-huge-header": Raw(b"HTTP/1.1 200 OK\r\nX: " + b"a" * 200_000 + b"\r\n\r\n"),
    "thousands-of-headers": Raw(b"HTTP/1.1 200 OK\r\n" + b"X: a\r\n" * 20_000 + b"\r\n"),
    "100-for-ever": Endless(b"HTTP/1.1 100 Continue\r\n\r\n" * 100, b""),
    "headers-for-ever": Endless(b"X: " + b"a" * 1_000 + b"\r\n", b"HTTP/1.1 200 OK\r\n"),
    "a-line-for-ever": Endless(b"a" * 65_536, b"HTTP/1.1 200 "),
    "a-body-for-ever": Endless(b" " * 65_536),
    "chunks-for-ever": Endless(
        b"10000\r\n" + b" " * 65_536 + b"\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    ),
    "an-error-for-ever": Endless(b" " * 65_536, b"HTTP/1.1 422 No\r\nContent-Type: application/problem+json\r\n\r\n"),
    "busy-for-ever": Endless(b" " * 65_536, b"HTTP/1.1 503 No\r\nRetry-After: 0\r\n\r\n"),
    "silence": Silence(),
}


def unknown_job(server: HostileServer) -> None:
    """Let a submit have something to do."""
    server.says(f"GET /api/v2/jobs/{JOB_ID} ".rstrip(), as_json({"detail": "None."}, 404))
