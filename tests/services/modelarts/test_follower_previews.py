# SPDX-License-Identifier: Apache-2.0
"""Following v2 jobs in a region without log pages: previews and links."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from airflow_provider_jobapi.services.polling import ReadLimits
from airflow_provider_jobapi.training.logs import LogChunk
from tests.harness.modelarts.caller import Caller
from tests.harness.modelarts.double import ModelArts
from tests.harness.modelarts.samples import Samples
from tests.services.modelarts.follow import Gates, chunks, follow, following, own

LONG = "for number in range(3000): print('line', number)"


@pytest.fixture(autouse=True)
def no_pages(modelarts: ModelArts) -> None:
    modelarts.inject_fault("no_log_pages")


def asked(double: ModelArts, path: str, word: str) -> int:
    job = path.rpartition("/")[2]
    return sum(1 for request in double.requests() if job in request["path"] and word in request["path"])


def test_previews_are_followed(samples: Samples, modelarts: ModelArts, tmp_path: Path) -> None:
    gates = Gates(tmp_path)
    path = samples.start_v2(gates.script)
    seen = list[int]()

    def watch(chunk: LogChunk) -> None:
        seen.append(len(chunk.lines))
        gates.open(chunk)

    lines = asyncio.run(chunks(following(modelarts, path), watch=watch))
    assert own(lines) == [f"line {number}" for number in range(12)]
    assert sum(map(bool, seen)) > 2
    assert "[sidecar] exit with 0" in lines[-1].text
    created = asyncio.run(following(modelarts, path).status()).submission_time
    assert created is not None
    assert [line.time for line in lines] == [created + timedelta(milliseconds=number) for number in range(len(lines))]
    assert follow(modelarts, path) == lines
    assert asked(modelarts, path, "/url") == 0
    assert asked(modelarts, path, "/logs/worker-0") == 2, "that there are no pages is asked once a follower"


def test_a_log_longer_than_a_preview(caller: Caller, samples: Samples, modelarts: ModelArts) -> None:
    modelarts.inject_fault("preview_limit", bytes=2000)
    path = samples.start_v2(LONG)
    caller.wait(path, "Completed")
    lines = follow(modelarts, path, limits=ReadLimits(link_bytes=10_000))
    assert own(lines) == [f"line {number}" for number in range(3000)]
    assert asked(modelarts, path, "/url") in {3, 4}


def test_a_line_longer_than_one_read(caller: Caller, samples: Samples, modelarts: ModelArts) -> None:
    modelarts.inject_fault("preview_limit", bytes=500)
    path = samples.start_v2("print('x' * 5000)")
    caller.wait(path, "Completed")
    assert "".join(own(follow(modelarts, path, limits=ReadLimits(link_bytes=1000)))) == "x" * 5000
