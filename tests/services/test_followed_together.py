# SPDX-License-Identifier: Apache-2.0
"""Jobs that are followed over one connection share their requests, against the real server."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_jobapi.exceptions import JobNotFound
from airflow_provider_jobapi.services.jobapi import channel
from airflow_provider_jobapi.training.status import JobState
from tests.harness.client import connection, job, service
from tests.harness.follow import follow, following, read_once
from tests.harness.proxy import Broken, Canned, FaultProxy
from tests.harness.server import Server, running
from tests.harness.tiny import Asked, Reply, Tiny, reply

COUNTS = "import time\nfor number in range(40):\n    print(NAME, number, flush=True)\n    time.sleep(0.1)\n"
WAITS = "import time\nprint('begun', flush=True)\ntime.sleep(600)\n"
JOBS = 8


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("together") / "root", "--cpus", "20", "--grace", "1s") as started:
        yield started


def submitted(server: Server, script: str) -> str:
    job_id = str(uuid.uuid4())
    service(server).submit(job(script), job_id)
    return job_id


def counting(server: Server) -> dict[str, list[str]]:
    """Jobs, and the lines of each."""
    jobs = {submitted(server, f"NAME = 'job {number}'\n{COUNTS}"): number for number in range(JOBS)}
    return {job_id: [f"job {number} {line}" for line in range(40)] for job_id, number in jobs.items()}


async def all_lines(settings: Any, jobs: dict[str, list[str]]) -> dict[str, list[str]]:
    lines = await asyncio.gather(*(follow(following(settings, job_id)) for job_id in jobs))
    return {job_id: [line.text for line in each] for job_id, each in zip(jobs, lines, strict=True)}


def test_each_gets_its_own_lines_by_the_requests_of_all(server: Server) -> None:
    jobs = counting(server)
    with FaultProxy(server.port) as network:
        assert asyncio.run(all_lines(connection(server, network.url), jobs)) == jobs
        assert network.count("/follow") > 5
        assert network.count("/logs") <= 2, "only a job that is alone at the beginning or at the end is read alone"


def test_no_line_is_lost_or_repeated_over_a_bad_network(server: Server) -> None:
    jobs = counting(server)
    with FaultProxy(server.port) as network:
        faults = Canned(503), Broken(0), Broken(300), Canned(429), Broken(150), Canned(502), Broken(2_000)
        network.next(*faults, when="/follow")
        assert asyncio.run(all_lines(connection(server, network.url), jobs)) == jobs


def test_a_server_that_is_killed_and_comes_back(tmp_path: Path) -> None:
    with running(tmp_path / "root", "--cpus", "20", "--grace", "2s") as server:
        jobs = counting(server)

        async def run() -> dict[str, list[str]]:
            reading = asyncio.create_task(all_lines(connection(server), jobs))
            for job_id in jobs:
                await asyncio.to_thread(lambda job_id=job_id: server.wait_for(job_id, "RUNNING"))
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.restart)
            return await reading

        assert asyncio.run(run()) == jobs


def test_a_job_that_is_not_there_is_said_of_it_alone(server: Server) -> None:
    there = submitted(server, WAITS)

    async def run() -> tuple[Any, bool]:
        async with following(connection(server), there) as watching, asyncio.timeout(60):
            chunk = await watching.read(None)
            while not chunk.lines:
                chunk = await watching.read(chunk.cursor)
            waiting = asyncio.create_task(watching.read(chunk.cursor))
            with pytest.raises(JobNotFound) as caught:
                await read_once(following(connection(server), str(uuid.uuid4())))
            still = not waiting.done() or (await waiting).lines == ()
            await watching.stop()
            cursor = chunk.cursor
            while (chunk := await waiting).state is not JobState.STOPPED:
                cursor = chunk.cursor
                waiting = asyncio.create_task(watching.read(cursor))
            return caught.value, still

    error, waited = asyncio.run(run())
    assert "it was never submitted with this connection" in str(error)
    assert waited


def test_a_service_of_before_is_read_by_the_route_of_each_job() -> None:
    """The other route is asked for at the beginning, and then not for a while."""
    asked: list[str] = []

    def logs(request: Asked) -> Reply:
        asked.append(request.target.partition("?")[0])
        end = {"Job-Log-Next-Offset": "0", "Job-Log-Size": "0", "Job-Log-Complete": "true", "Job-Status": "FAILED"}
        return Reply(200, end, b"")

    def follows(_: Asked) -> Reply:
        asked.append("follow")
        return reply({"detail": "Not Found"}, 404)

    with Tiny({"POST /api/v2/follow": follows, "GET /api/v2/jobs": logs}) as tiny:
        settings = connection(tiny)

        async def run() -> list[list[Any]]:
            return await asyncio.gather(*(follow(following(settings, str(number))) for number in range(5)))

        assert asyncio.run(run()) == [[]] * 5
    assert asked.count("follow") in {1, 2}, "more than one only for those that ask before the first is answered"
    assert sorted(each for each in asked if each != "follow") == [f"/api/v2/jobs/{number}/logs" for number in range(5)]
    assert channel.ASK_AGAIN > 60
