# SPDX-License-Identifier: Apache-2.0
"""Errors of logs do not end the following of a job, and temporary errors lose no line."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from airflow_provider_jobapi.services.polling import ReadLimits
from airflow_provider_jobapi.training.logs import LogChunk, LogLine
from airflow_provider_jobapi.training.status import JobState
from tests.harness.modelarts.caller import Caller
from tests.harness.modelarts.double import ModelArts
from tests.harness.modelarts.samples import Samples
from tests.services.modelarts.follow import DIALECTS, chunks, follow, following, own

COUNTS = "import time\nfor number in range(12):\n    print('line', number, flush=True)\n    time.sleep(0.1)\n"
LINES = [f"line {number}" for number in range(12)]
LOGS = r"GET .*(log/|logs/|aom-log)"
ENDED = (10, 11, 12, "Completed", "Failed", "Terminated")
REFUSALS = [(403, "0112"), (500, "2801"), (400, "9999")]

pytestmark = pytest.mark.parametrize("dialect", DIALECTS)


def start(samples: Samples, dialect: str, code: str, nodes: int = 1) -> str:
    if dialect == "v1":
        return samples.start_v1(code, **({} if nodes == 1 else {"spec_id": 29, "worker_server_num": nodes}))
    return samples.start_v2(code, **({} if nodes == 1 else {"resource": {"node_count": nodes}}))


@pytest.mark.parametrize(("status", "code"), REFUSALS)
def test_a_log_that_cannot_be_read(
    samples: Samples, modelarts: ModelArts, dialect: str, status: int, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = start(samples, dialect, "print('line')")
    modelarts.inject_fault("refusal", status=status, code=code, message="no", path=LOGS, times=None)
    states = list[JobState | None]()
    assert asyncio.run(chunks(following(modelarts, path), watch=lambda chunk: states.append(chunk.state))) == []
    assert states[-1] is JobState.SUCCESSFUL
    assert caplog.text.count("cannot be read") == 1
    assert f"ModelArts.{code}: no" in caplog.text


@pytest.mark.parametrize(("status", "code"), [*REFUSALS, (404, "9404")])
def test_a_temporary_error_loses_no_line(
    samples: Samples, modelarts: ModelArts, dialect: str, status: int, code: str
) -> None:
    path = start(samples, dialect, COUNTS)
    struck = list[int]()

    def watch(chunk: LogChunk) -> None:
        if any(line.text.endswith("line 3") for line in chunk.lines):
            modelarts.inject_fault("refusal", status=status, code=code, message="no", path=LOGS, times=2)
            struck.append(1)

    assert own(asyncio.run(chunks(following(modelarts, path), watch=watch))) == LINES
    assert struck


def test_a_node_whose_log_cannot_be_read_hides_no_other(samples: Samples, modelarts: ModelArts, dialect: str) -> None:
    path = start(samples, dialect, "print('line')", nodes=3)
    modelarts.inject_fault(
        "refusal", status=400, code="9999", path=r"GET .*(log_file=\S*\.0|/logs/worker-0)", times=None
    )
    assert sorted(own(follow(modelarts, path))) == ["[node 1] line", "[node 2] line"]


def test_more_nodes_than_pages_of_a_read(samples: Samples, modelarts: ModelArts, dialect: str) -> None:
    path = start(samples, dialect, "for number in range(40): print('line', number)", nodes=3)
    behind = list[bool]()
    follower = following(modelarts, path, limits=ReadLimits(pages=1))
    lines = asyncio.run(chunks(follower, watch=lambda chunk: behind.append(chunk.cursor["behind"])))
    for node in range(3):
        found = [line.text for line in lines if line.text.startswith(f"[node {node}] line")]
        assert found == [f"[node {node}] line {number}" for number in range(40)]
    assert not any(behind[-2:])


def test_the_state_is_polled_while_a_long_log_is_read(
    caller: Caller, samples: Samples, modelarts: ModelArts, dialect: str
) -> None:
    path = start(samples, dialect, "for number in range(10_000): print('line', number)")
    caller.wait(path, *ENDED)
    seen = len(modelarts.requests())
    modelarts.inject_fault("slow", seconds=0.05)

    async def read() -> None:
        follower, chunk = following(modelarts, path, limits=ReadLimits(pages=1)), LogChunk((), None)
        async with asyncio.timeout(60):
            while not any(line.text == "line 9999" for line in chunk.lines):
                chunk = await follower.read(chunk.cursor)

    asyncio.run(read())
    assert sum(1 for each in modelarts.requests()[seen:] if each["path"].endswith(path.rpartition("/")[2])) >= 3


def test_lines_of_slow_pages_are_shown_early(
    caller: Caller, samples: Samples, modelarts: ModelArts, dialect: str
) -> None:
    path = start(samples, dialect, "for number in range(3000): print('line', number)")
    caller.wait(path, *ENDED)
    seen = len(modelarts.requests())
    pages: list[int] = []

    async def read() -> list[LogLine]:
        """Follow with pages of which each takes longer than a read may."""
        follower, cursor, lines = following(modelarts, path, limits=ReadLimits(pages=99, seconds=0.0)), None, []
        async with asyncio.timeout(120):
            while True:
                chunk = await follower.read(cursor)
                asked = modelarts.requests()[seen + sum(pages) :]
                pages.append(len(asked))
                cursor, lines = chunk.cursor, lines + list(chunk.lines)
                if chunk.complete:
                    return lines

    assert own(asyncio.run(read())) == [f"line {number}" for number in range(3000)]
    assert max(pages) < sum(pages) / 2, "a read took as long as all of its pages"


def test_the_first_line_is_found_however_slow_the_pages_are(
    caller: Caller, samples: Samples, modelarts: ModelArts, dialect: str
) -> None:
    """A read that ended before the first line is found would begin the search again, and so would the next one."""
    path = start(samples, dialect, "for number in range(600): print('line', number)")
    caller.wait(path, *ENDED)
    chunk = asyncio.run(following(modelarts, path, limits=ReadLimits(seconds=0.0)).read(None))
    assert own(list(chunk.lines))[:3] == ["line 0", "line 1", "line 2"]


def test_no_log_request_before_the_time_of_retry_after(samples: Samples, modelarts: ModelArts, dialect: str) -> None:
    path = start(samples, dialect, COUNTS)
    modelarts.inject_fault("too_many_requests", every=1, times=1, retry_after=30, path=LOGS)

    async def read() -> list[Any]:
        follower, cursor, lines = following(modelarts, path), None, list[Any]()
        for _ in range(5):
            chunk = await follower.read(cursor)
            cursor, lines = chunk.cursor, [*lines, chunk.state, *chunk.lines]
        return lines

    before = len(modelarts.requests())
    assert all(isinstance(each, JobState) for each in asyncio.run(read()))
    asked = [each for each in modelarts.requests()[before:] if "log" in each["path"]]
    assert len(asked) == 1
