# SPDX-License-Identifier: Apache-2.0
"""What followers of many jobs, each with a line a second, cost the server.

Here they ask by one request for all jobs, at most five times a second, as a triggerer does. The anchor is the least
that one would write with FastAPI: each follower asks for its own job, a request for each line.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from datetime import UTC, datetime

from tests.benchmarks.log_server import LogServer, log_server
from tests.benchmarks.long_polls import Connection, follow_alone
from tests.benchmarks.table import Row

COUNTS = {1_000: 0.4, 2_000: 0.4, 4_000: 0.4}
"""How many jobs, and the bound of the ratio."""

WARM_SECONDS, SECONDS = 4.0, 10.0
PAUSE_SECONDS = 0.2


def measure() -> list[Row]:
    """Follow jobs here and on the anchor, in turn."""
    rows = []
    for count, bound in COUNTS.items():
        ours, anchor = (asyncio.run(_share(kind, count)) for kind in ("here", "bare"))
        what = f"{count:,} followers at a line a second, on the server"
        rows.append(Row(what, ours, anchor, "% of a core", bound, anchor_is="bare FastAPI, a request a line"))
    return rows


async def _share(kind: str, count: int) -> float:
    """Return how much of a core a server uses.

    :raises RuntimeError: when it does not keep up with the lines.
    """
    with log_server(kind, count) as server:
        lines, ended = [0], threading.Event()
        writing = asyncio.create_task(asyncio.to_thread(write_lines, server, ended))
        if kind == "here":
            tasks = [asyncio.create_task(_follow_together(server, lines))]
        else:
            tasks = [asyncio.create_task(follow_alone(server, job_id, lines, 0.0)) for job_id in server.logs]
        try:
            await asyncio.sleep(WARM_SECONDS)
            before = lines[0]
            share = await server.share(SECONDS)
            seen = (lines[0] - before) / (count * SECONDS)
        finally:
            ended.set()
            for task in tasks:
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
            await writing
        for end in ends:
            if isinstance(end, Exception):
                raise end
        if seen < 0.8 and kind == "here":
            raise RuntimeError(f"Only {seen:.0%} of the lines were seen.")
        return share


def write_lines(server: LogServer, ended: threading.Event) -> None:
    """Write a line to each log each second, spread over the second."""
    paths, begin = list(server.logs.values()), time.monotonic()
    turn = 0
    while not ended.is_set():
        for part in range(20):
            stamp = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
            for path in paths[part::20]:
                with path.open("ab", buffering=0) as file:
                    file.write(f"{stamp} step {turn} of a training that goes on: loss 0.25\n".encode())
            if ended.wait(max(0.0, begin + turn + (part + 1) / 20 - time.monotonic())):
                return
        turn += 1


async def _follow_together(server: LogServer, lines: list[int]) -> None:
    jobs = {job_id: {"job": job_id, "offset": 0, "state": "RUNNING"} for job_id in server.logs}
    connection, loop = Connection(server), asyncio.get_running_loop()
    try:
        while True:
            begin = loop.time()
            asked = json.dumps({"jobs": list(jobs.values())}).encode()
            _, body = await connection.send("POST", "/api/v2/follow", asked)
            place = 0
            while place < len(body):
                end = body.index(b"\n", place)
                entry = json.loads(body[place:end])
                place = end + 1 + entry["length"]
                lines[0] += body.count(b"\n", end + 1, place)
                jobs[entry["job"]]["offset"] = entry["next_offset"]
            await asyncio.sleep(max(0.0, begin + PAUSE_SECONDS - loop.time()))
    finally:
        connection.close()
