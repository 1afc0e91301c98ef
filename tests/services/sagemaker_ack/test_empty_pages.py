# SPDX-License-Identifier: Apache-2.0
"""Pages of a stream without events, behind which there are more; moto has none."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from airflow_provider_jobapi.services.clients import Aws
from airflow_provider_jobapi.services.polling import RequestPace
from airflow_provider_jobapi.services.sagemaker_ack import log_reader
from airflow_provider_jobapi.services.sagemaker_ack.handles import JobHandle
from airflow_provider_jobapi.services.sagemaker_ack.job_logs import JobLogs
from airflow_provider_jobapi.services.sagemaker_ack.log_reader import LogReader

HANDLE = JobHandle("0f3f7c1e-52a5-5a8e-9d0f-6a1f2f6f0c1a", "ns", "digits", "eu-west-1", "s3://b/o")


class Pages:
    """A stream as CloudWatch gives it: a page for each token, and the last token again at the end."""

    def __init__(self, *pages: list[int]) -> None:
        self.pages = pages

    @asynccontextmanager
    async def async_client(self, _: str) -> AsyncIterator[Pages]:
        yield self

    async def describe_log_streams(self, **_: Any) -> dict[str, Any]:
        return {"logStreams": [{"logStreamName": "digits/algo-1-1"}]}

    async def get_log_events(self, nextToken: str = "0", startTime: int = 0, **_: Any) -> dict[str, Any]:  # noqa: N803
        at = int(nextToken)
        times = self.pages[at] if at < len(self.pages) else []
        events = [{"timestamp": time, "message": str(time)} for time in times if time >= startTime]
        return {"events": events, "nextForwardToken": str(min(at + 1, len(self.pages)))}


def read(pages: Pages, cursor: dict[str, Any], *, follow: bool) -> tuple[list[str], dict[str, Any]]:
    logs = JobLogs(HANDLE, cursor, pace=RequestPace(10_000))
    asyncio.run(logs.read(pages, find=True, follow=follow))
    assert logs.trouble is None
    assert logs.whole
    return [line.text for line in logs.lines], logs.cursor()


@pytest.mark.parametrize("follow", [False, True])
@pytest.mark.parametrize("pages", [([], [5]), ([4], [], [], [5]), ([], [], [4], [], [], [5])])
def test_events_behind_an_empty_page(pages: tuple[list[int], ...], follow: bool) -> None:
    texts, cursor = read(Pages(*pages), {}, follow=follow)
    assert texts == [str(time) for page in pages for time in page]
    assert read(Pages(*pages), cursor, follow=follow)[0] == []


def test_events_behind_a_page_of_known_ones() -> None:
    """A job that has ended is followed to the end of its pages."""
    _, cursor = read(Pages([4]), {}, follow=False)
    assert read(Pages([4], [], [5]), cursor, follow=True)[0] == ["5"]


@pytest.mark.parametrize(("ended", "expected"), [(True, ["5"]), (False, [])])
def test_the_reads_of_a_job_that_has_ended_go_to_the_end(
    ended: bool, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of a job that runs do so only where it has few streams."""
    monkeypatch.setattr(log_reader, "FEW_STREAMS", 0)
    _, cursor = read(Pages([4]), {}, follow=False)
    aws = cast("Aws", Pages([4], [], [5]))
    reader = LogReader(aws, HANDLE, logging.getLogger(), pace=RequestPace(10_000))

    async def once() -> list[str]:
        await reader.begin(cursor, step="", ended=ended, pause=0.0)
        assert reader.task is not None
        await reader.task
        logs = reader.take()
        await reader.close()
        assert logs is not None
        return [line.text for line in logs.lines]

    assert asyncio.run(once()) == expected


def test_an_endless_row_of_empty_pages_ends() -> None:
    assert read(Pages(*[[]] * 50), {}, follow=True)[0] == []
