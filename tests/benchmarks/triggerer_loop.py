# SPDX-License-Identifier: Apache-2.0
"""Follow jobs in the event loop of a process of its own: ``python -m tests.benchmarks.triggerer_loop here|bare``.

``here`` are this package's triggers, whose lines go to a counter instead of Airflow's log. ``bare`` is the least that
one would write with aiohttp: a loop of long polls for each job. The standard input has one line of JSON: the ``port``
and the ``token`` of a server of logs, the ids of its ``jobs``, the seconds to ``warm`` up and to ``measure``. It prints
``"ready"`` when it begins, and at the end one line of JSON: the ``share`` of a core in percent, the ``p99`` and ``max``
seconds by which lines came late, the ``lines`` a second and the ``memory`` of a job in KiB.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


class Lateness:
    """The seconds by which lines came late, while it counts."""

    def __init__(self) -> None:
        self.counts = False
        self.seconds: list[float] = []

    def note(self, written: datetime) -> None:
        """Note a line."""
        if self.counts:
            self.seconds.append((datetime.now(UTC) - written).total_seconds())

    def quantile(self, part: float) -> float:
        """The seconds that this part of the lines was not later than; 0 without lines."""
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else 0.0


def triggers(given: dict[str, Any], late: Lateness) -> list[Coroutine[Any, Any, object]]:
    """The triggers of the jobs; a triggerer runs each in a task."""
    from airflow_provider_jobapi.services.base import LogFollower
    from airflow_provider_jobapi.services.jobapi.connection import JobApiConnection
    from airflow_provider_jobapi.services.jobapi.follower import JobApiFollower
    from airflow_provider_jobapi.services.jobapi.tokens import TokenSource
    from airflow_provider_jobapi.triggers.collector import leave_out_modules
    from airflow_provider_jobapi.triggers.training import TrainingTrigger

    url = f"http://127.0.0.1:{given['port']}"
    connection = JobApiConnection.of(host=url, login="benchmark", password="benchmark", extra={})

    class Known(TokenSource):
        def cached(self) -> str | None:
            return str(given["token"])

    class Counter:
        def info(self, _: str, timestamp: str | None = None, **__: Any) -> None:
            if timestamp is not None:
                late.note(datetime.fromisoformat(timestamp))

        warning = error = info

    tokens, counter = Known(connection), Counter()

    class Trigger(TrainingTrigger):
        async def _open(self) -> LogFollower:
            return JobApiFollower(connection, tokens, self.job_id, lambda _: None)

    async def run(job_id: str) -> object:
        trigger = Trigger(conn_id="benchmark", job_id=job_id, handle={"job_id": job_id})
        trigger._log = counter
        return await anext(trigger.run())

    leave_out_modules()  # as in a triggerer
    return [run(job_id) for job_id in given["jobs"]]


def long_polls(given: dict[str, Any], late: Lateness) -> list[Coroutine[Any, Any, object]]:
    """Long polls of aiohttp, one after another for each job."""
    import aiohttp

    url, session = f"http://127.0.0.1:{given['port']}", None
    headers = {"Authorization": f"Bearer {given['token']}", "Prefer": "wait=25"}

    async def run(job_id: str) -> None:
        nonlocal session
        if session is None:
            session = aiohttp.ClientSession(headers=headers, connector=aiohttp.TCPConnector(limit=0))
        offset = 0
        while True:
            address = f"{url}/api/v2/jobs/{job_id}/logs?offset={offset}"
            async with session.get(address) as answer:
                body = await answer.read()
            offset += len(body)
            for line in body.splitlines():
                late.note(datetime.fromisoformat(line[:27].decode()))

    return [run(job_id) for job_id in given["jobs"]]


async def main(make: Callable[[dict[str, Any], Lateness], list[Coroutine[Any, Any, object]]]) -> None:
    """Follow the jobs for some time, and print what it took."""
    given, late = json.loads(sys.stdin.readline()), Lateness()
    coroutines = make(given, late)
    gc.collect()
    before = _memory()
    print(json.dumps("ready"), flush=True)
    tasks = [asyncio.create_task(each) for each in coroutines]
    await asyncio.wait(tasks, timeout=given["warm"], return_when=asyncio.FIRST_EXCEPTION)
    late.counts, begin, used = True, time.monotonic(), time.process_time()
    await asyncio.wait(tasks, timeout=given["measure"], return_when=asyncio.FIRST_EXCEPTION)
    seconds = time.monotonic() - begin
    for task in tasks:
        if task.done():
            task.result()
            raise RuntimeError("A job was not followed to the end of the measurement.")
    found = {
        "share": (time.process_time() - used) / seconds * 100,
        "p99": late.quantile(0.99),
        "max": late.quantile(1),
        "lines": len(late.seconds) / seconds,
        "memory": (_memory() - before) / len(tasks),
    }
    print(json.dumps(found), flush=True)
    os._exit(0)  # nothing is to be ended in order


def _memory() -> float:
    """The memory of this process in KiB."""
    text = Path("/proc/self/status").read_text()
    return float(next(line for line in text.splitlines() if line.startswith("VmRSS")).split()[1])


if __name__ == "__main__":
    asyncio.run(main({"here": triggers, "bare": long_polls}[sys.argv[1]]))
