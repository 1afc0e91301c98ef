# SPDX-License-Identifier: Apache-2.0
"""How much memory and time a service that never stops sending can take: each measured in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.harness.hostile_server import (
    Answer,
    Computed,
    Endless,
    HostileServer,
    Reply,
    Seen,
    as_json,
    log_page,
    records,
)
from tests.hostile.lies import HANDLE

MEGABYTE = 2**20
BOUND = 100 * MEGABYTE
"""What a process may hold more than before. The server is willing to send without end."""

_SCRIPT = """
import asyncio, json, pathlib, sys, tempfile, time
from airflow_provider_jobapi.services import retry
from tests.hostile.lies import HANDLE, OPERATIONS, service
import aiohttp, authlib.integrations.requests_client, obstore, pydantic  # what anybody needs who asks anything

class There:
    def __init__(self, url):
        self.url = url

def resident(name):
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))

asked, url = sys.argv[1:]
target = service(There(url))

def lines():
    return target.last_lines(HANDLE, 20)

def read():
    async def run():
        async with target.follower(HANDLE) as follower:
            cursor = None
            for _ in range(20):
                cursor = (await follower.read(cursor)).cursor
    return asyncio.run(run())

def other():
    with tempfile.TemporaryDirectory() as folder:
        return OPERATIONS[asked](target, pathlib.Path(folder))

pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
before, started, error = resident("VmRSS:"), time.monotonic(), None
with retry.testing():
    try:
        {"lines": lines, "read": read}.get(asked, other)()
    except Exception as raised:
        error = type(raised).__name__
print(json.dumps({"more": resident("VmHWM:") - before, "seconds": time.monotonic() - started, "error": error}))
"""

_JSON = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n"
_LOG = b"HTTP/1.1 200 OK\r\nJob-Log-Next-Offset: 1000\r\nJob-Log-Size: 1000\r\nJob-Status: RUNNING\r\n\r\n"
_PAGE = records(*["x" * 1_000] * 1_000)


def _log(seen: Seen) -> Answer:
    offset = int(seen.path.partition("offset=")[2].partition("&")[0] or 0)
    return log_page(_PAGE, offset, Job_Log_Size="99999999999")


def _huge_listing() -> Answer:
    files = [{"path": f"a{number}", "key": f"a{number}", "size": 0, "sha256": "0" * 64} for number in range(30_000)]
    return as_json({"job_id": "", "model": {"path": "model", "prefix": "m", "files": files}})


_DEEP = Answer(200, {"Content-Type": "application/json"}, b"[" * 4_000_000)

CASES: dict[str, tuple[str, str, Reply, bool]] = {
    "token-text": ("token", "/oauth/token", Endless(b" " * 65_536, _JSON), True),
    "token-list": ("token", "/oauth/token", Endless(b"[" * 65_536, _JSON), True),
    "token-error": ("token", "/oauth/token", Endless(b"{" * 65_536, b"HTTP/1.1 401 No\r\n\r\n"), True),
    "token-headers": ("token", "/oauth/token", Endless(b"X: " + b"a" * 60_000 + b"\r\n", b"HTTP/1.1 200 OK\r\n"), True),
    "status": ("status", "/api/v2/jobs/", Endless(b'"' + b"a" * 65_535, _JSON), True),
    "status-deep": ("status", "/api/v2/jobs/", _DEEP, True),
    "status-error": ("status", "/api/v2/jobs/", Endless(b"a" * 65_536, b"HTTP/1.1 422 No\r\nContent-Type: application/json\r\n\r\n"), True),
    "storage": ("storage", "/api/v2/storage", Endless(b"a" * 65_536, _JSON), True),
    "lines": ("lines", "/logs", Endless(b"a" * 65_536, _LOG), False),
    "lines-of-a-gigantic-log": ("lines", "/logs", Computed(_log), False),
    "read": ("read", "/logs", Endless(b"a" * 65_536, _LOG), True),
    "read-headers": ("read", "/logs", Endless(b"X: " + b"a" * 60_000 + b"\r\n", b"HTTP/1.1 200 OK\r\n"), True),
    "read-one-header": ("read", "/logs", Endless(b"a" * 65_536, b"HTTP/1.1 200 OK\r\nX: "), True),
    "read-a-long-log": ("read", "/logs", Computed(_log), False),
    "model": ("fetch", "/model", Endless(b"[" * 65_536, _JSON), True),
    "model-of-many-files": ("fetch", "/model", _huge_listing(), True),
    "object": ("fetch", "/objects/m/saved_model.pb", Endless(b"a" * 65_536, b"HTTP/1.1 200 OK\r\n\r\n"), True),
    "objects": ("submit", "/storage/objects?", Endless(b"[" * 65_536, _JSON), True),
}  # fmt: skip
pytestmark = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="memory is measured by Linux's /proc"
)

_FAST = {"token-text", "status", "read", "object", "read-one-header", "lines"}


@pytest.mark.parametrize(
    "case", [pytest.param(name, marks=[] if name in _FAST else [pytest.mark.slow]) for name in CASES]
)
def test_what_never_ends_takes_little_memory_and_time(case: str, hostile: HostileServer, tally: Counter[str]) -> None:
    asked, route, reply, fails = CASES[case]
    if asked == "submit":
        hostile.says(f"GET /api/v2/jobs/{HANDLE['job_id']}", as_json({"detail": "None."}, 404))
    hostile.says(route, reply)
    command = [sys.executable, "-c", _SCRIPT, asked, hostile.url]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=180)
    assert ran.returncode == 0, ran.stderr
    result = json.loads(ran.stdout.splitlines()[-1])
    assert result["more"] < BOUND, result
    assert result["seconds"] < 60, result
    assert (result["error"] in {"BrokenContract", "ServiceUnavailable", "ConnectionProblem", "InvalidJob"}) == fails, (
        result
    )
    tally["processes measured before endless answers"] += 1
    tally["most MB that an endless answer took"] = max(
        tally["most MB that an endless answer took"], result["more"] // MEGABYTE
    )
