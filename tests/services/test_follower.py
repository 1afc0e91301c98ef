# SPDX-License-Identifier: Apache-2.0
"""The triggerer's side against the real server, over a network that breaks."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_jobapi.exceptions import (
    BrokenContract,
    ConnectionProblem,
    JobGone,
    JobNotFound,
    ServiceUnavailable,
)
from airflow_provider_jobapi.services.jobapi import async_client
from airflow_provider_jobapi.training.logs import LogLine
from airflow_provider_jobapi.training.status import JobState, JobStatus
from tests.harness.client import connection, job, service
from tests.harness.follow import follow, following, read_once
from tests.harness.proxy import BlackHole, Broken, Canned, FaultProxy
from tests.harness.server import Server, running

COUNTS = "import time\nfor number in range(12):\n    print('line', number, flush=True)\n    time.sleep(0.1)\n"
WAITS = "import time\nprint('begun', flush=True)\ntime.sleep(600)\n"


@pytest.fixture
def network(jobapi_server: Server) -> Iterator[FaultProxy]:
    with FaultProxy(jobapi_server.port) as proxy:
        yield proxy


@pytest.fixture(params=[2, 1], ids=["alone", "together"], autouse=True)
def together(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Read logs by each job's own route, as for the only follower of a connection, or by the request for many."""
    monkeypatch.setattr(async_client, "FEWEST_TOGETHER", request.param)
    return bool(request.param == 1)


def submitted(server: Server, script: str) -> str:
    job_id = str(uuid.uuid4())
    service(server).submit(job(script), job_id)
    return job_id


def test_a_job_is_followed_to_its_end(jobapi_server: Server) -> None:
    job_id = submitted(jobapi_server, COUNTS)
    lines = asyncio.run(follow(service(jobapi_server).follower({"job_id": job_id})))
    assert [line.text for line in lines] == [f"line {number}" for number in range(12)]
    assert [line.time for line in lines] == sorted(line.time for line in lines)


def test_the_status_is_told_while_a_read_waits(jobapi_server: Server) -> None:
    job_id = submitted(jobapi_server, WAITS)
    jobapi_server.wait_for(job_id, "RUNNING")

    async def ask() -> tuple[JobStatus, bool]:
        async with service(jobapi_server).follower({"job_id": job_id}) as follower:
            cursor = None
            while not (chunk := await follower.read(cursor)).lines:
                cursor = chunk.cursor
            reading = asyncio.create_task(follower.read(chunk.cursor))
            await asyncio.sleep(0.3)
            status = await follower.status()
            waited = not reading.done()
            await follower.stop()
            await reading
            return status, waited

    status, waited = asyncio.run(ask())
    assert (status.job_id, status.status, status.storing_time, waited) == (job_id, JobState.RUNNING, None, True)


def test_no_line_is_lost_or_repeated_over_a_bad_network(
    jobapi_server: Server, network: FaultProxy, together: bool
) -> None:
    job_id = submitted(jobapi_server, COUNTS)
    faults = Canned(503), Broken(0), Broken(300), Canned(429), Canned(502), Broken(150), Broken(0)
    network.next(*faults, when="/follow" if together else "/logs")
    lines = asyncio.run(follow(following(connection(jobapi_server, network.url), job_id)))
    assert [line.text for line in lines] == [f"line {number}" for number in range(12)]


def test_a_log_goes_on_after_a_cursor(jobapi_server: Server) -> None:
    job_id = submitted(jobapi_server, "print('one')\nprint('two')\n")
    jobapi_server.wait_for(job_id)
    first = jobapi_server.job_log(job_id).index("\n") + 1
    lines = asyncio.run(follow(service(jobapi_server).follower({"job_id": job_id}), {"offset": first}))
    assert [line.text for line in lines] == ["two"]


def test_news_come_at_once(jobapi_server: Server) -> None:
    """A read waits on the service, not on a clock."""
    job_id = submitted(jobapi_server, WAITS)

    async def run() -> tuple[float, JobState | None]:
        async with asyncio.timeout(60), following(connection(jobapi_server), job_id) as watching:
            chunk = await watching.read(None)
            while not chunk.lines:
                chunk = await watching.read(chunk.cursor)
            while True:  # news of the job's state may still be on its way
                waiting = asyncio.create_task(watching.read(chunk.cursor))
                done, _ = await asyncio.wait([waiting], timeout=2)
                if not done:
                    break
                chunk = await waiting
                assert not chunk.lines
            began = time.monotonic()
            await watching.stop()
            cursor = chunk.cursor
            while not (chunk := await waiting).complete:
                cursor = chunk.cursor
                waiting = asyncio.create_task(watching.read(cursor))
            return time.monotonic() - began, chunk.state

    seconds, state = asyncio.run(run())
    assert state is JobState.STOPPED
    assert seconds < 15


def test_stop_is_repeated_and_an_ended_job_is_no_error(
    jobapi_server: Server, network: FaultProxy, no_waits: None
) -> None:
    job_id = submitted(jobapi_server, WAITS)
    network.next(Canned(503), Broken(0), when="/stop")

    async def stop() -> None:
        async with following(connection(jobapi_server, network.url), job_id) as watching:
            await watching.stop()
            jobapi_server.wait_for(job_id, "STOPPED")
            await watching.stop()

    asyncio.run(stop())
    assert network.count("/stop") == 4


def test_jobs_that_are_not_there(jobapi_server: Server) -> None:
    with pytest.raises(JobNotFound):
        asyncio.run(read_once(following(connection(jobapi_server), str(uuid.uuid4()))))
    job_id = submitted(jobapi_server, "print('hello')\n")
    jobapi_server.wait_for(job_id)
    jobapi_server.request("DELETE", f"/api/v2/jobs/{job_id}")
    with pytest.raises(JobGone):
        asyncio.run(read_once(following(connection(jobapi_server), job_id)))


def test_errors_say_what_to_do(jobapi_server: Server, network: FaultProxy, together: bool) -> None:
    job_id = str(uuid.uuid4())
    settings = connection(jobapi_server, network.url)
    network.next(Canned(429, {"Retry-After": "7"}), Canned(301, {"Location": "http://other.example.com/"}))
    network.next(*[Canned(200)] * (2 if together else 1))  # what is no answer about many jobs is of no such route
    for kind, words in (
        (ServiceUnavailable, "asks for fewer requests"),
        (ConnectionProblem, "redirects are not followed"),
        (BrokenContract, "job-log-next-offset"),
    ):
        with pytest.raises(kind, match=words) as caught:
            asyncio.run(read_once(following(settings, job_id)))
        assert getattr(caught.value, "retry_after", 7) == 7
    network.refuse()
    with pytest.raises(ServiceUnavailable, match=r"cannot be reached: .*refused"):
        asyncio.run(read_once(following(settings, job_id)))


def test_silence_is_given_up(jobapi_server: Server, network: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_provider_jobapi.services.jobapi.contract.LONGEST_WAIT", 1)
    network.next(BlackHole())
    began = time.monotonic()
    with pytest.raises(ServiceUnavailable, match="did not answer in time"):
        asyncio.run(read_once(following(connection(jobapi_server, network.url, timeout=2), str(uuid.uuid4()))))
    assert 3 <= time.monotonic() - began < 30


def test_all_followers_of_a_connection_share_one_session(jobapi_server: Server) -> None:
    job_id = submitted(jobapi_server, "print('hello')\n")
    jobapi_server.wait_for(job_id)
    settings = connection(jobapi_server)

    async def run() -> Any:
        async with following(settings, job_id) as one, following(settings, job_id) as two:
            await asyncio.gather(one.read(None), two.read(None))
            assert one._joined() is two._joined()
            session = one._joined()._session
        assert session is not None
        assert session.closed
        return session

    first, second = asyncio.run(run()), asyncio.run(run())
    assert first is not second
    assert not any(async_client._clients.values())


def test_a_cancelled_read_does_no_harm(jobapi_server: Server) -> None:
    job_id = submitted(jobapi_server, COUNTS)

    async def run() -> list[str]:
        lines: list[str] = []
        cursor = None
        async with asyncio.timeout(60), following(connection(jobapi_server), job_id) as watching:
            while True:
                try:
                    async with asyncio.timeout(0.15):
                        chunk = await watching.read(cursor)
                except TimeoutError:
                    continue
                lines += [line.text for line in chunk.lines]
                cursor = chunk.cursor
                if chunk.complete:
                    return lines

    assert asyncio.run(run()) == [f"line {number}" for number in range(12)]


def test_a_server_that_is_killed_and_comes_back(tmp_path: Path) -> None:
    with running(tmp_path / "jobapi", "--grace", "2s") as server:
        job_id = submitted(server, COUNTS.replace("range(12)", "range(40)"))

        async def run() -> list[LogLine]:
            reading = asyncio.create_task(follow(service(server).follower({"job_id": job_id})))
            await asyncio.sleep(0)
            await asyncio.to_thread(lambda: server.wait_for(job_id, "RUNNING"))
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.restart)
            return await reading

        lines = asyncio.run(run())
    assert [line.text for line in lines] == [f"line {number}" for number in range(40)]


def test_outside_of_its_context_a_follower_says_so(jobapi_server: Server) -> None:
    with pytest.raises(RuntimeError, match="async with"):
        asyncio.run(following(connection(jobapi_server), "1").read(None))
