# SPDX-License-Identifier: Apache-2.0
"""Follow a job of the double step by step."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import groupby
from types import TracebackType
from typing import Any, Self

from airflow_provider_jobapi.exceptions import ServiceUnavailable
from airflow_provider_jobapi.services.base import Handle
from airflow_provider_jobapi.services.sagemaker_ack.follower import SageMakerAckFollower
from airflow_provider_jobapi.services.sagemaker_ack.service import SageMakerAckService
from airflow_provider_jobapi.training.logs import LogChunk, LogLine, Thinning, Timeline
from airflow_provider_jobapi.training.status import JobState

TIMEOUT = 60.0
STEP = "SageMaker: "


class Following:
    """A follower, and what it has read.

    :ivar lines: All lines so far.
    :ivar chunks: All that reads brought.
    :ivar failures: The errors of reads that were repeated.
    """

    def __init__(self, service: SageMakerAckService, handle: Handle, follower: SageMakerAckFollower) -> None:
        self.service, self.handle, self.follower = service, handle, follower
        self.lines = list[LogLine]()
        self.chunks = list[LogChunk]()
        self.failures = list[Exception]()
        self.cursor: Any = None

    async def __aenter__(self) -> Self:
        await self.follower.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.follower.__aexit__(kind, error, trace)

    async def read(self) -> LogChunk | None:
        """Read once; None where the service was not there."""
        try:
            chunk = await self.follower.read(self.cursor)
        except ServiceUnavailable as error:
            self.failures.append(error)
            await asyncio.sleep(0.05)
            return None
        self.cursor = json.loads(json.dumps(chunk.cursor))
        self.lines += chunk.lines
        self.chunks.append(chunk)
        return chunk

    async def until(self, reached: Callable[[], bool]) -> None:
        """Read until something is reached."""
        async with asyncio.timeout(TIMEOUT):
            while not reached():
                await self.read()

    async def until_state(self, state: JobState) -> None:
        await self.until(lambda: bool(self.chunks) and self.chunks[-1].state is state)

    async def until_line(self, text: str) -> None:
        await self.until(lambda: any(line.text.endswith(text) for line in self.lines))

    async def until_complete(self) -> None:
        await self.until(lambda: bool(self.chunks) and self.chunks[-1].complete)

    def log(self) -> list[str]:
        """The texts of the job's own lines."""
        return [line.text for line in self.lines if not line.text.startswith(STEP)]

    def steps(self) -> list[str]:
        """The secondary statuses that were shown."""
        return [line.text for line in self.lines if line.text.startswith(STEP)]


Begun = Callable[..., tuple[Following, Any]]
"""Submits a job that the test moves; returns a follower of it, and the job in SageMaker."""


def following(service: SageMakerAckService, handle: Handle, *, quiet: float = 0.3, **more: Any) -> Following:
    """A follower of a job."""
    follower = SageMakerAckFollower(service.connection, service.clients, handle, service, quiet=quiet, **more)
    return Following(service, handle, follower)


def shown(lines: list[LogLine]) -> list[tuple[datetime, str]]:
    """Times and texts as the trigger shows them, sorted like Airflow's reader."""
    timeline, thinning = Timeline(timedelta(), datetime(2026, 1, 1, tzinfo=UTC)), Thinning()
    return sorted((timeline.place(line.time, line.stream, line.streams), line.text) for line in thinning.feed(lines))


def replayed(followed: Following) -> list[tuple[datetime, str]]:
    """What a trigger shows that begins now."""
    again = following(followed.service, followed.handle)

    async def watch() -> None:
        async with again:
            await again.until_complete()

    asyncio.run(watch())
    return shown(again.lines)


def merged(*parts: list[tuple[datetime, str]]) -> list[tuple[datetime, str]]:
    """What Airflow's reader makes of the logs of several triggerers: equal neighbours are one."""
    return [key for key, _ in groupby(sorted(each for part in parts for each in part))]
