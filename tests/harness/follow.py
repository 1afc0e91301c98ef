# SPDX-License-Identifier: Apache-2.0
"""Ways to follow a job in a test."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from airflow_provider_jobapi.exceptions import ServiceUnavailable
from airflow_provider_jobapi.services.jobapi.connection import JobApiConnection
from airflow_provider_jobapi.services.jobapi.follower import JobApiFollower
from airflow_provider_jobapi.services.jobapi.tokens import TokenSource, tokens_of
from airflow_provider_jobapi.training.logs import LogLine
from tests.harness.tiny import Reply


def following(settings: JobApiConnection, job_id: str, tokens: TokenSource | None = None) -> JobApiFollower:
    return JobApiFollower(settings, tokens or tokens_of(settings), job_id, lambda _: None)


async def follow(watching: JobApiFollower, cursor: Any = None) -> list[LogLine]:
    """Every line to the end, through whatever may pass."""
    lines: list[LogLine] = []
    async with asyncio.timeout(60), watching:
        while True:
            try:
                chunk = await watching.read(cursor)
            except ServiceUnavailable:
                continue
            lines += chunk.lines
            cursor = json.loads(json.dumps(chunk.cursor))
            if chunk.complete:
                assert chunk.state is not None
                assert chunk.state.ended
                return lines


def log_page(text: bytes, offset: int = 0, *, status: str = "RUNNING", complete: bool = False) -> Reply:
    end = str(offset + len(text))
    headers = {"Job-Log-Next-Offset": end, "Job-Log-Size": end, "Job-Status": status}
    return Reply(200, {**headers, "Job-Log-Complete": str(complete).lower(), "Content-Type": "text/plain"}, text)


async def read_once(watching: JobApiFollower, cursor: Any = None) -> Any:
    async with asyncio.timeout(60), watching:
        return await watching.read(cursor)
