# SPDX-License-Identifier: Apache-2.0
"""Helpers to follow a job of the double."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from airflow_provider_jobapi.exceptions import ServiceUnavailable
from airflow_provider_jobapi.services.modelarts.connection import ModelArtsConnection
from airflow_provider_jobapi.services.modelarts.follower import ModelArtsFollower
from airflow_provider_jobapi.services.polling import DEFAULT_LIMITS, ReadLimits
from airflow_provider_jobapi.training.logs import LogChunk, LogLine
from tests.harness.modelarts.double import ModelArts

DIALECTS = ("v1", "v2")
JOB_ID = "11111111-2222-4333-8444-555555555555"


class Gates:
    """A script of twelve lines that prints most of them in pairs, each when lines before it have been shown.

    In pairs, since the last line of a preview is not ended and so not shown before another one follows.

    :param folder: A directory of this test's.
    """

    def __init__(self, folder: Path) -> None:
        self._place = f"{folder}/gate-"
        self._opened = 0
        self.script = (
            "import os, time\nfor number in range(12):\n"
            f"    gate = {self._place!r} + str(number // 2 - 1)\n"
            "    while 2 <= number < 10 and not os.path.exists(gate): time.sleep(0.02)\n"
            "    print('line', number, flush=True)\n"
        )

    def open(self, chunk: LogChunk) -> None:
        """Open a gate where a chunk has lines."""
        if chunk.lines:
            Path(f"{self._place}{self._opened}").touch()
            self._opened += 1


def settings(double: ModelArts, dialect: str, **extra: Any) -> ModelArtsConnection:
    given = double.connection_for(dialect, **extra)
    return ModelArtsConnection.of(
        host=given["host"], login=given["login"], password=given["password"], extra=given["extra"]
    )


def handle(path: str) -> dict[str, Any]:
    """The handle of the job at a path of the API."""
    parts = path.split("/")
    found = {"job_id": JOB_ID, "name": "sample", "dialect": parts[1], "modelarts_id": parts[4], "output": ""}
    return found | ({"version_id": parts[6]} if parts[1] == "v1" else {})


def following(
    double: ModelArts, path: str, *, quiet: float = 0.3, limits: ReadLimits = DEFAULT_LIMITS, **extra: Any
) -> ModelArtsFollower:
    """A follower of the job at a path of the API; ``extra`` is the connection's."""
    return ModelArtsFollower(settings(double, path.split("/")[1], **extra), handle(path), quiet=quiet, limits=limits)


async def chunks(
    follower: ModelArtsFollower, cursor: Any = None, watch: Callable[[LogChunk], None] = lambda _chunk: None
) -> list[LogLine]:
    """Read to the end, repeating reads that fail for the moment."""
    lines: list[LogLine] = []
    async with asyncio.timeout(60), follower:
        while True:
            try:
                chunk = await follower.read(cursor)
            except ServiceUnavailable as error:
                await asyncio.sleep(error.retry_after or 0.05)
                continue
            lines += chunk.lines
            cursor = json.loads(json.dumps(chunk.cursor))
            watch(chunk)
            if chunk.complete:
                assert chunk.state is not None
                assert chunk.state.ended
                return lines


def follow(double: ModelArts, path: str, **extra: Any) -> list[LogLine]:
    return asyncio.run(chunks(following(double, path, **extra)))


def own(lines: list[LogLine]) -> list[str]:
    """The texts of the boot files' lines, without those of the platform."""
    return [line.text for line in lines if "Service Log]" not in line.text]
