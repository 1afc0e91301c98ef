# SPDX-License-Identifier: Apache-2.0
"""The follower's second stream: from a real server, and from servers that have none or lie about it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from airflow_provider_jobapi.exceptions import BrokenContract, TrainingError
from airflow_provider_jobapi.services.base import ScalarChunk, ScalarFollower
from airflow_provider_jobapi.services.follow import End, Followed, Limits, follow
from airflow_provider_jobapi.services.jobapi import follower as followers
from airflow_provider_jobapi.services.jobapi.connection import JobApiConnection
from airflow_provider_jobapi.training.logs import LogChunk
from tests.harness.client import service
from tests.harness.event_writer import SOURCE
from tests.harness.follow import following, log_page
from tests.harness.server import Server
from tests.harness.tiny import Asked, Reply, Tiny, reply

POINT = b'2026-01-05T12:00:01.000000Z {"jobapi_metrics": 1, "step": 1, "metrics": {"loss": 0.5}}\n'
SILENT = """
import event_writer
writer = event_writer.Writer("logs")
for step in range(9):
    writer.scalar("loss", step, step)
"""
REFUSED = {"Job-Scalars-Size": "99", "Content-Type": "application/json"}
JOB = "0a0a0a0a-1111-4222-8333-444444444444"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(followers, "SCALARS_INTERVAL", 0.05)
    monkeypatch.setattr(followers, "LEAST_INTERVAL", 0.01)


def scalars_page(text: bytes, offset: int = 0, *, complete: bool = True, size: int | None = None) -> Reply:
    page = log_page(text, offset, status="SUCCESSFUL" if complete else "RUNNING", complete=complete)
    headers = {name.replace("-Log-", "-Scalars-"): value for name, value in page.headers.items()}
    return Reply(200, headers | ({} if size is None else {"Job-Scalars-Size": str(size)}), page.body)


def end_of_log(scalars: int | None) -> Reply:
    page = log_page(b"", status="SUCCESSFUL", complete=True)
    return Reply(200, dict(page.headers) | ({} if scalars is None else {"Job-Scalars-Size": str(scalars)}), b"")


def followed(make: Any, *, wait: float = 30.0) -> tuple[Followed, list[ScalarChunk], list[str]]:
    """Follow a job to its end; returns the end, what was read of the scalars, and the warnings."""
    chunks: list[ScalarChunk] = []
    warned: list[str] = []

    async def open_follower() -> Any:
        return make()

    async def start(_: Any) -> None:
        return None

    async def take(_chunk: LogChunk, _follower: Any) -> None:
        pass

    async def take_scalars(chunk: ScalarChunk) -> None:
        chunks.append(chunk)

    async def run() -> Followed:
        async with asyncio.timeout(60):
            return await follow(
                open_follower,
                start=start,
                take=take,
                take_scalars=take_scalars,
                patience=60.0,
                warn=warned.append,
                limits=Limits(scalars=wait),
            )

    return asyncio.run(run()), chunks, warned


def of_tiny(tiny: Tiny) -> Any:
    connection = JobApiConnection.of(host=tiny.url, login="c", password="s")
    return lambda: following(connection, JOB)


def test_the_points_of_a_silent_job(jobapi_server: Server) -> None:
    job_id = jobapi_server.submit(SILENT, files={"event_writer.py": SOURCE.read_text()})
    make = lambda: service(jobapi_server).follower({"job_id": job_id})  # noqa: E731
    assert isinstance(make(), ScalarFollower)
    end, chunks, warned = followed(make)
    assert (end, warned) == (Followed(End.OVER), [])
    lines = [json.loads(line.text) for chunk in chunks for line in chunk.lines]
    assert [line["metrics"]["loss"] for line in lines] == list(range(9))
    assert chunks[-1].complete
    assert chunks[-1].at_end
    again = followed(make)[1]
    assert [line for chunk in again for line in chunk.lines] == [line for chunk in chunks for line in chunk.lines]


@pytest.mark.parametrize("size", [None, 0])
def test_a_server_without_scalars_is_not_asked_for_any(size) -> None:
    with Tiny({f"GET /api/v2/jobs/{JOB}/logs": end_of_log(size)}) as tiny:
        end, chunks, warned = followed(of_tiny(tiny))
        assert tiny.count("/scalars") == 0
    assert (end, warned) == (Followed(End.OVER), [])
    assert [chunk.lines for chunk in chunks] in ([], [()])


NOTHING = reply({"detail": "There is nothing at this path."}, 404)
LIES = {
    "nothing is there": NOTHING,
    "a page of a proxy": Reply(404, {"Content-Type": "text/html"}, b"<h1>Not found</h1>"),
    "another offset": scalars_page(POINT, 10),
    "a size that is none": scalars_page(POINT, size=-1),
    "half a record": scalars_page(POINT[:-5]),
    "no record": scalars_page(b"no record\n"),
    "an offset that it has": Reply(416, {"Job-Scalars-Size": "99", "Content-Type": "application/json"}, b"{}"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_server_that_does_not_keep_its_word_ends_nothing(lie) -> None:
    routes = {f"GET /api/v2/jobs/{JOB}/logs": end_of_log(90), f"GET /api/v2/jobs/{JOB}/scalars": LIES[lie]}
    with Tiny(routes) as tiny:
        end, chunks, warned = followed(of_tiny(tiny), wait=20.0)
        assert 1 <= tiny.count("/scalars") < 5
    assert (end, warned) == (Followed(End.OVER), [])
    assert [line for chunk in chunks for line in chunk.lines] == []


def test_a_server_that_cannot_answer_now_is_asked_again_within_a_bound() -> None:
    answers = [reply({"detail": "Busy."}, 503), scalars_page(POINT)]

    def answer(_: Asked) -> Reply:
        return answers.pop(0)

    routes = {f"GET /api/v2/jobs/{JOB}/logs": end_of_log(90), f"GET /api/v2/jobs/{JOB}/scalars": answer}
    with Tiny(routes) as tiny:
        assert [line.text for chunk in followed(of_tiny(tiny))[1] for line in chunk.lines] == [POINT[28:-1].decode()]
    routes[f"GET /api/v2/jobs/{JOB}/scalars"] = reply({"detail": "Busy."}, 503)
    with Tiny(routes) as tiny:
        end, _, warned = followed(of_tiny(tiny), wait=0.5)
    assert (end, warned) == (Followed(End.OVER), [])


def test_a_server_that_lost_the_end_goes_on_from_there() -> None:
    def answer(asked: Asked) -> Reply:
        if "offset=0" in asked.target:
            return scalars_page(POINT * 2, complete=False)
        if f"offset={2 * len(POINT)}" in asked.target:
            return Reply(416, {"Job-Scalars-Size": str(len(POINT))}, b"")
        return scalars_page(b"", len(POINT))

    routes = {f"GET /api/v2/jobs/{JOB}/logs": end_of_log(90), f"GET /api/v2/jobs/{JOB}/scalars": answer}
    with Tiny(routes) as tiny:
        _, chunks, _ = followed(of_tiny(tiny))
    assert [len(chunk.lines) for chunk in chunks] == [2, 0, 0]
    assert chunks[-1].cursor == {"offset": len(POINT)}


def test_an_answer_that_cannot_be_true_is_an_error_of_the_read() -> None:
    routes = {
        f"GET /api/v2/jobs/{JOB}/logs": end_of_log(90),
        f"GET /api/v2/jobs/{JOB}/scalars": scalars_page(POINT, 10),
    }

    async def read(make: Any) -> None:
        async with asyncio.timeout(60), make() as follower:
            await follower.read(None)
            with pytest.raises(TrainingError):
                await follower.read_scalars({"offset": -1})
            await follower.read_scalars(None)

    with Tiny(routes) as tiny, pytest.raises(BrokenContract, match="bytes of scalars from offset 0"):
        asyncio.run(read(of_tiny(tiny)))
