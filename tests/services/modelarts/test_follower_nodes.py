# SPDX-License-Identifier: Apache-2.0
"""Jobs on several nodes: each node has a log, and each line the same time whenever the log is read."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_provider_jobapi.services.polling import ReadLimits
from airflow_provider_jobapi.training.logs import LogLine, Thinning, Timeline
from tests.harness.modelarts.double import ModelArts
from tests.harness.modelarts.samples import Samples
from tests.services.modelarts.follow import DIALECTS, chunks, follow, following, own

UNEVEN = """
import os, time
node = int(os.environ.get("DLS_TASK_INDEX") or os.environ["VC_TASK_INDEX"])
for number in range(20 * (3 - node)):
    print("line", number, flush=True)
    time.sleep(0.03 * (node + 1))
"""

pytestmark = pytest.mark.parametrize("dialect", DIALECTS)


def start(samples: Samples, dialect: str) -> str:
    if dialect == "v1":
        return samples.start_v1(UNEVEN, spec_id=29, worker_server_num=3)
    return samples.start_v2(UNEVEN, resource={"node_count": 3})


def shown(lines: list[LogLine]) -> list[tuple[datetime, str]]:
    """Return times and texts as the trigger shows them, sorted like Airflow's reader."""
    timeline, thinning = Timeline(timedelta(), datetime(2026, 1, 1, tzinfo=UTC)), Thinning()
    return sorted((timeline.place(line.time, line.stream, line.streams), line.text) for line in thinning.feed(lines))


def texts(lines: list[LogLine], node: int) -> list[str]:
    return [text.removeprefix(f"[node {node}] ") for text in own(lines) if text.startswith(f"[node {node}] ")]


def test_a_second_read_shows_the_same_lines_and_times(samples: Samples, modelarts: ModelArts, dialect: str) -> None:
    path = start(samples, dialect)
    live = follow(modelarts, path)
    anew = follow(modelarts, path)
    assert [line.text for line in live] != [line.text for line in anew], "they were read in another order"
    assert shown(live) == shown(anew)
    assert len({time for time, _ in shown(live)}) == len(live)
    for node in range(3):
        assert texts(live, node) == [f"line {number}" for number in range(20 * (3 - node))]


def test_a_read_that_fails_in_the_middle_loses_no_line(samples: Samples, modelarts: ModelArts, dialect: str) -> None:
    path = start(samples, dialect)
    before = len(modelarts.requests())
    modelarts.inject_fault("too_many_requests", every=4, times=20, retry_after="soon", path=r"GET .*logs?/|aom-log")
    lines = follow(modelarts, path, limits=ReadLimits(pages=5))
    assert sum(1 for each in modelarts.requests()[before:] if each["status"] == 429) > 5
    for node in range(3):
        assert texts(lines, node) == [f"line {number}" for number in range(20 * (3 - node))]


def test_every_node_has_a_stream(samples: Samples, modelarts: ModelArts, dialect: str) -> None:
    path = start(samples, dialect)
    seen = list[Any]()
    lines = asyncio.run(chunks(following(modelarts, path), watch=lambda chunk: seen.append(chunk.cursor["nodes"])))
    assert len(seen[-1]) == 3
    assert {(line.stream, line.streams, line.text[:8]) for line in lines} == {
        (node, 3, f"[node {node}]") for node in range(3)
    }
