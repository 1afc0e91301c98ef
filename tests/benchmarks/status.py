# SPDX-License-Identifier: Apache-2.0
"""How many statuses a second a server answers, beside a bare FastAPI application with the same bytes."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from tests.benchmarks.table import Row
from tests.harness.server import running
from tests.harness.waiting import wait_for

CONNECTIONS = 8
SPAN = 5.0
"""Seconds for which requests are sent."""

_BARE = """
import sys, uvicorn
from fastapi import FastAPI, Response
app = FastAPI()
@app.get("/api/v2/jobs/{job_id}")
async def get(job_id: str) -> Response:
    return Response(BODY, media_type="application/json")
BODY = sys.stdin.buffer.read()
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), http="h11", log_level="warning", access_log=False)
"""


def measure() -> list[Row]:
    """Measure requests for each second of CPU time of the server, so that what loads it takes no part in it."""
    sleeps = "import time\ntime.sleep(3600)\n"
    with tempfile.TemporaryDirectory(prefix="jobapi-status-") as home, running(Path(home, "root"), "--cpus", "1") as it:
        first = it.submit(sleeps, name="runs")
        it.wait_for(first, "RUNNING")
        job_id = it.submit(sleeps, name="waits")
        path = f"/api/v2/jobs/{job_id}"
        body = it.request("GET", path).content
        port = int(it.url.rsplit(":", 1)[1])
        token = it.token()
        ours = _rate(it.process.pid, port, path, token)
        for each in (job_id, first):
            it.request("POST", f"/api/v2/jobs/{each}/stop")
        it.wait_for(first, "STOPPED")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-c", _BARE, str(port)]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as bare:
        try:
            bare.stdin.write(body)
            bare.stdin.close()
            wait_for("the bare application", lambda: _listens(port), 30)
            anchor = _rate(bare.pid, port, path, token)
        finally:
            bare.kill()
    return [Row("status of a job, GET", ours, anchor, "1/s of CPU time", 0.38, higher=True, anchor_is="bare FastAPI")]


def _rate(process: int, port: int, path: str, token: str) -> float:
    """Return how many requests a process answers for each second of its CPU time."""
    server = psutil.Process(process)

    async def all_of_them() -> float:
        request = f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
        before, until = sum(server.cpu_times()[:2]), time.monotonic() + SPAN
        counts = await asyncio.gather(*(_ask(port, request, until) for _ in range(CONNECTIONS)))
        return sum(counts) / (sum(server.cpu_times()[:2]) - before)

    return asyncio.run(all_of_them())


async def _ask(port: int, request: bytes, until: float) -> int:
    """Send a request again and again, and return how often."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    count = 0
    while time.monotonic() < until:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"The server answered {head!r}.")
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        count += 1
    writer.close()
    await writer.wait_closed()
    return count


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
