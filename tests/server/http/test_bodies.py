# SPDX-License-Identifier: Apache-2.0
"""What the bodies of requests may cost: bytes, memory and time, of a real server."""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import select
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests

from airflow_provider_jobapi.server.http.bodies import JOB_FILE_LIMIT, BodyBound, BoundedBody
from airflow_provider_jobapi.server.http.problems import Problem
from tests.harness.server import Server, poll, running

MIB = 2**20
CONNECTIONS = 100


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with running(tmp_path / "root") as started:
        yield started


def memory(server: Server) -> int:
    """The bytes of memory that the server holds, of its own."""
    return int(re.search(r"RssAnon:\s+(\d+) kB", Path(f"/proc/{server.process.pid}/status").read_text())[1]) * 1024


def settled(server: Server) -> int:
    """The memory of the server when it has not grown for a second."""
    seen = [0]

    def steady() -> bool:
        seen.append(memory(server))
        time.sleep(0.5)
        return seen[-1] <= seen[-2] * 1.01

    poll(steady, 120, "the memory to settle")
    return seen[-1]


def hold_back(stack: ExitStack, server: Server, head: str, body: bytes, seconds: float = 5) -> socket.socket:
    """Announce one byte more than is sent, and wait for the rest of it.

    :param seconds: After which a body that the server does not read is left as it is.
    """
    connection = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=60))
    connection.setblocking(True)
    connection.settimeout(seconds)
    head = f"{head} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body) + 1}\r\n"
    connection.sendall(f"{head}Authorization: Bearer {server.token()}\r\n\r\n".encode())
    try:
        connection.sendall(body)
    except (ConnectionError, TimeoutError):  # refused, or not read any more
        pass
    return connection


HELD_BACK = {
    "token": ("POST /oauth/token", 8 * MIB - 1),
    "job file": (f"POST /api/v2/jobs/{uuid.uuid4()}", JOB_FILE_LIMIT - 1),
    "no body": (f"POST /api/v2/jobs/{uuid.uuid4()}/stop", 8 * MIB - 1),
    "upload": ("PUT /api/v2/storage/objects/x", MIB - 2**16),
}


@pytest.mark.parametrize("kind", HELD_BACK)
def test_bodies_that_are_held_back_do_not_fill_the_memory(server: Server, kind):
    head, size = HELD_BACK[kind]
    before = settled(server)
    with ExitStack() as stack:
        for number in range(CONNECTIONS):
            hold_back(stack, server, re.sub("objects/x", f"objects/{number}", head), b"x" * size)
        grown = settled(server) - before
        assert server.request("GET", "/healthz").status_code == 200
    # 100 bodies of 8 MiB are 800 MiB; all bodies of a client may hold 16 MiB
    assert grown < 60 * MIB, f"{grown / MIB:.0f} MiB for {CONNECTIONS} connections"
    assert server.request("GET", "/api/v2/jobs").status_code == 200


def test_one_client_gets_503_when_its_bodies_fill_its_memory_and_later_goes_on(server: Server):
    path = f"/api/v2/jobs/{uuid.uuid4()}"

    def room() -> bool:
        return server.request("POST", path, data=b" " * MIB).status_code == 413  # too large for YAML

    with ExitStack() as stack:
        # Of three such bodies two have room. Which one is refused depends on the order in which their pieces arrive.
        held = [hold_back(stack, server, f"POST {path}", b" " * (JOB_FILE_LIMIT - 2), seconds=60) for _ in range(3)]
        (refused,) = poll(lambda: select.select(held, [], [], 1)[0], 60, "a refusal")
        answer = http.client.HTTPResponse(refused, method="POST")
        answer.begin()
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert "fewer large ones" in json.load(answer)["detail"]
        assert requests.post(f"{server.url}/oauth/token", timeout=30).status_code == 400
    poll(room, 60, "room again")


MANY = {
    "invalid objects": '{"job":{"name":"x","execution":{"command":"y"},"inputs":[' + ",".join(["{}"] * 250_000) + "]}}",
    "numbers": '{"job":[' + ",".join(["0"] * 599_000) + "]}",
    "unknown fields": '{"job":{' + ",".join(f'"{number:x}":0' for number in range(500_000)) + "}}",
    "more than all": '{"job":[' + ",".join(["{}"] * 2_000_000) + "]}",
    "lists": '{"job":' + "[" * 590_000,
    "YAML": "job: [" + ",".join(["[]"] * 80_000) + "]",
}


def test_parsing_a_job_file_takes_little_memory(server: Server):
    server.token()
    before = settled(server)
    for kind, text in MANY.items():
        answer = server.request("POST", f"/api/v2/jobs/{uuid.uuid4()}", data=text)
        assert (answer.status_code, answer.json()["type"]) == (422, "/problems/invalid-job"), kind
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    peak, shared = (int(re.search(rf"{name}:\s+(\d+) kB", status)[1]) * 1024 for name in ("VmHWM", "RssFile"))
    assert peak - shared - before < 250 * MIB  # invalid objects took 3.6 GB


def test_uploads_that_send_byte_by_byte_hold_little_memory_and_do_not_hinder_others(server: Server):
    before = settled(server)
    with ExitStack() as stack:
        for number in range(20):
            head = f"PUT /api/v2/storage/objects/slow-{number} HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\n"
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=60))
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.sendall(f"{head}Authorization: Bearer {server.token()}\r\n\r\n".encode())
            for _ in range(200):
                connection.sendall(b"x")
        assert server.request("PUT", "/api/v2/storage/objects/quick", data=b"x" * MIB).status_code == 201
        assert settled(server) - before < 30 * MIB
    objects = server.request("GET", "/api/v2/storage/objects").json()["objects"]
    assert [each["key"] for each in objects] == ["quick"]


class Trickle:
    """An ASGI ``receive`` whose pieces arrive with pauses."""

    def __init__(self, *pieces: tuple[float, int]) -> None:
        self._pieces = list(pieces)

    async def __call__(self):
        pause, size = self._pieces.pop(0)
        await asyncio.sleep(pause)
        return {"type": "http.request", "body": b"x" * size, "more_body": bool(self._pieces)}


async def read(receive: BoundedBody, pieces: int) -> None:
    for _ in range(pieces):
        await receive()


@pytest.mark.parametrize("pieces", [[(60.0, 1)], [(0.0, 5), (60.0, 1)], [(0.05, 1)] * 100])
def test_a_body_that_arrives_too_slowly_is_refused(pieces):
    receive = BoundedBody(Trickle(*pieces), BodyBound(1_000_000, 1024), patience=0.5)
    with pytest.raises(Problem, match="did not arrive") as caught:
        asyncio.run(read(receive, len(pieces)))
    assert (caught.value.status, caught.value.headers["Connection"]) == (408, "close")


def test_a_large_body_earns_no_time_to_pause(server: Server):
    receive = BoundedBody(Trickle((0.0, 900_000), (60.0, 1)), BodyBound(1_000_000, 1024), patience=0.5)
    with pytest.raises(Problem, match="did not arrive"):
        asyncio.run(read(receive, 2))


def test_a_body_at_its_pace_may_take_long_and_the_time_of_the_server_does_not_count():
    async def slow_server() -> None:
        receive = BoundedBody(Trickle(*[(0.0, 1000)] * 8, (0.0, 0)), BodyBound(1_000_000, 100_000), patience=0.3)
        for _ in range(9):
            await receive()
            await asyncio.sleep(0.1)

    asyncio.run(slow_server())


def test_after_the_body_the_end_of_the_connection_may_take_as_long_as_the_answer():
    async def disconnected() -> str:
        pieces = iter([{"type": "http.request", "body": b"x", "more_body": False}])

        async def receive():
            if message := next(pieces, None):
                return message
            await asyncio.sleep(0.5)
            return {"type": "http.disconnect"}

        bounded = BoundedBody(receive, BodyBound(10, 1), patience=0.1)
        await bounded()
        return str((await bounded())["type"])

    assert asyncio.run(disconnected()) == "http.disconnect"
