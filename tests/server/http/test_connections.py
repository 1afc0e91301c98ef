# SPDX-License-Identifier: Apache-2.0
"""Connections that are slow, idle or too many, to a real server."""

from __future__ import annotations

import json
import re
import resource
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.harness.server import AS_ROOT, Server, poll, running

SHORT = """
from airflow_provider_jobapi.server.http import bodies, connections
connections.HEADER_TIMEOUT = connections.STALL_SECONDS = 1.0
bodies.BoundedBody.__init__.__defaults__ = (1.0,)
import sys
from airflow_provider_jobapi.cli import main
sys.exit(main())
"""
"""The real server, whose patience is a second."""


class ShortServer(Server):
    """A server with little patience."""

    def restart(self, *_options: str) -> None:
        command = [sys.executable, "-c", SHORT, "serve", "--root", str(self.root), "--port", "0", *AS_ROOT]
        self.output.parent.mkdir(parents=True, exist_ok=True)
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        poll(lambda: self._ready(0), 60, "the server to start")


@pytest.fixture(scope="module")
def impatient(tmp_path_factory) -> Iterator[Server]:
    with ShortServer.start(tmp_path_factory.mktemp("impatient") / "root") as server:
        yield server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with running(tmp_path / "root") as started:
        yield started


def connect(stack: ExitStack, server: Server, begin: str, **more: str) -> socket.socket:
    token = server.token()
    connection = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=60))
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    headers = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in more.items())
    connection.sendall(f"{begin} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n{headers}\r\n".encode())
    return connection


def ended(connection: socket.socket) -> bytes:
    """What came until the server closed the connection."""
    parts = []
    try:
        while part := connection.recv(65536):
            parts.append(part)
    except ConnectionError:
        pass
    return b"".join(parts)


SLOW = {
    "token": ("POST /oauth/token", 1_000),
    "job file": ("POST /api/v2/jobs/1b4e28ba-2fa1-11d2-883f-0016d3cca427", 1_000_000),
    "upload": ("PUT /api/v2/storage/objects/x", 1_000_000),
}


@pytest.mark.parametrize("kind", SLOW)
@pytest.mark.parametrize("sent", [b"", b"x" * 10])
def test_a_body_that_is_held_back_is_given_up(impatient: Server, kind, sent):
    begin, size = SLOW[kind]
    with ExitStack() as stack:
        connection = connect(stack, impatient, begin, Content_Length=str(size))
        connection.sendall(sent)
        answer = ended(connection).decode()
    assert answer.startswith("HTTP/1.1 408 ")
    assert "did not arrive" in answer
    assert impatient.request("GET", "/api/v2/storage/objects").json()["objects"] == []
    parts = [*(impatient.root / "clients").rglob("*.part")]
    assert parts == []


@contextmanager
def trickling(connection: socket.socket) -> Iterator[None]:
    """Send a byte every 50 ms."""
    over = threading.Event()

    def trickle() -> None:
        while not over.wait(0.05):
            try:
                connection.send(b"x")
            except OSError:
                return

    thread = threading.Thread(target=trickle)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_a_body_that_trickles_is_given_up(impatient: Server):
    with ExitStack() as stack:
        connection = connect(stack, impatient, "PUT /api/v2/storage/objects/x", Content_Length="1000000")
        with trickling(connection):
            assert ended(connection).startswith(b"HTTP/1.1 408 ")


def test_a_body_that_nobody_reads_may_not_trickle_for_ever(impatient: Server):
    with ExitStack() as stack:
        connection = connect(stack, impatient, "PUT /healthz", Content_Length="1000000")
        assert connection.recv(65536).startswith(b"HTTP/1.1 413 ")
        with trickling(connection):
            ended(connection)


def test_an_answer_that_nobody_reads_is_given_up(impatient: Server):
    impatient.put("large", b"x" * 20_000_000)
    with ExitStack() as stack:
        connections = [connect(stack, impatient, "GET /api/v2/storage/objects/large") for _ in range(3)]
        poll(lambda: not _established(impatient, connections), 60, "the server to close them")
    impatient.request("DELETE", "/api/v2/storage/objects/large")


def _established(server: Server, connections: list[socket.socket]) -> list[int]:
    """The ports of the connections that the server still holds."""
    held = {
        int(fields[2].split(":")[1], 16)
        for fields in (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
        if int(fields[1].split(":")[1], 16) == server.port and fields[3] in {"01", "04", "05", "08", "09", "0B"}
    }
    return [port for port in (each.getsockname()[1] for each in connections) if port in held]


def test_too_many_idle_connections_do_not_keep_others_out(server: Server):
    token = server.token()
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (200, 200))
    with ExitStack() as stack:
        idle = [
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=60)) for _ in range(300)
        ]
        slow = b"POST /oauth/token HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n"
        for each in idle[150:]:
            try:
                each.sendall(slow)
            except ConnectionError:  # closed for a later one
                pass
        for _ in range(5):
            answer = server.request("GET", "/api/v2/jobs", headers={"Authorization": f"Bearer {token}"})
            assert answer.status_code == 200
        assert server.request("PUT", "/api/v2/storage/objects/x", data=b"x").status_code == 201
    assert "Too many open files" not in server.log()


def test_a_connection_beyond_the_limit_is_told_so(server: Server):
    job_id = server.submit("import time; time.sleep(60)")
    server.wait_for(job_id, "RUNNING")
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (80, 80))
    with ExitStack() as stack:
        waiting = [
            connect(stack, server, f"GET /api/v2/jobs/{job_id}/logs?offset=0&known=RUNNING", Prefer="wait=25")
            for _ in range(40)
        ]
        poll(lambda: len(_established(server, waiting)) == 40, 30, "the connections")
        late = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=60))
        head, _, body = ended(late).decode().partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 503 ")
    assert "Retry-After: 1" in head
    assert re.search("repeat the request", json.loads(body)["detail"])
    assert server.request("GET", "/healthz").status_code == 200
