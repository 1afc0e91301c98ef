# SPDX-License-Identifier: Apache-2.0
"""What long polls of jobs that write nothing cost the server, each a request and a connection of its own."""

from __future__ import annotations

import asyncio
import resource
from pathlib import Path

from tests.benchmarks.log_server import log_server
from tests.benchmarks.long_polls import follow_alone
from tests.benchmarks.table import Row

MOST = 8_000
CONNECT_AT_ONCE = 50
SECONDS = 25.0
"""As long as a poll waits, so that each is sent again once."""


def measure() -> list[Row]:
    """Wait for quiet jobs here and on the anchor, in turn."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    count = min(MOST, hard // 2 - 200)
    ours, anchor = (asyncio.run(_share(kind, count)) for kind in ("here", "bare"))
    what = f"{count:,} quiet long polls"
    return [Row(what, ours, anchor, "% of a core", 0.3, anchor_is="bare FastAPI, four looks a second")]


def _open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


async def _share(kind: str, count: int) -> float:
    with log_server(kind, count) as server:
        tasks = []
        try:
            for number, job_id in enumerate(server.logs):
                tasks.append(asyncio.create_task(follow_alone(server, job_id, [0], 0.2)))
                if number % CONNECT_AT_ONCE == 0:
                    await asyncio.sleep(0.05)
            while _open_files(server.pid) < count:  # noqa: ASYNC110 -- another process opens them
                await asyncio.sleep(0.5)
            await asyncio.sleep(2)
            share = await server.share(SECONDS)
            failed = [task.exception() for task in tasks if task.done()]
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if failed:
            raise RuntimeError("A connection was closed.") from failed[0]
        return share
