# SPDX-License-Identifier: Apache-2.0
"""Scripted log followers, for what no real service can be made to send."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from airflow_provider_jobapi.services.follow import Limits
from airflow_provider_jobapi.training.logs import LogChunk, LogLine
from airflow_provider_jobapi.training.status import JobState, JobStatus
from airflow_provider_jobapi.triggers.training import TrainingTrigger

START = datetime(2026, 1, 5, 12, tzinfo=UTC)


class ScriptedFollower:
    """Replies to each read with the next step: a chunk, an error to raise, or ``None`` to wait for ever.

    :param steps: The steps.
    :param after_stop: The steps after the stop.
    :ivar statuses: The answers to questions for the status; the last one is repeated.
    """

    replayable = True

    def __init__(self, steps: Iterable[LogChunk | Exception | None], after_stop: Iterable[LogChunk] = ()) -> None:
        self.statuses: list[JobStatus | Exception | None] = [JobStatus(job_id="j", status=JobState.RUNNING)]
        self.questions = 0
        self.steps = list(steps)
        self.after_stop = list(after_stop)
        self.cursors: list[Any] = []
        self.stops = 0
        self.open = 0

    async def __aenter__(self) -> Self:
        self.open += 1
        return self

    async def __aexit__(self, *_: object) -> None:
        self.open -= 1

    async def read(self, cursor: Any) -> LogChunk:
        self.cursors.append(cursor)
        step = self.steps.pop(0) if self.steps else None
        if isinstance(step, Exception):
            raise step
        if step is None:
            await asyncio.Event().wait()
        assert step is not None
        return step

    async def status(self) -> JobStatus:
        self.questions += 1
        answer = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        if isinstance(answer, Exception):
            raise answer
        if answer is None:
            await asyncio.Event().wait()
        assert answer is not None
        return answer

    async def stop(self) -> None:
        self.stops += 1
        self.steps = list(self.after_stop)


class Rotated:
    """The log of a job at a service that keeps only the newest lines of it."""

    def __init__(self, lines: Iterable[LogLine]) -> None:
        self.lines = list(lines)
        self.first = 0


class RotatingFollower(ScriptedFollower):
    """Follows a log that cannot be read from its start again.

    :param log: The log.
    :param size: The lines of one read.
    """

    replayable = False

    def __init__(self, log: Rotated, size: int) -> None:
        super().__init__([])
        self._log = log
        self._size = size

    async def read(self, cursor: Any) -> LogChunk:
        await asyncio.sleep(0.001)
        begin = max(self._log.first, cursor or 0)
        end = min(len(self._log.lines), begin + self._size)
        over = begin == end
        return LogChunk(
            tuple(self._log.lines[begin:end]), end, JobState.SUCCESSFUL if over else JobState.RUNNING, complete=over
        )


class Recorder:
    """A logger that keeps the records that Airflow's would write."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []

    def _log(self, level: str, event: str, **fields: Any) -> None:
        self.records.append({"level": level, "event": event} | fields)

    def info(self, event: str, **fields: Any) -> None:
        self._log("info", event, **fields)

    def warning(self, event: str, **fields: Any) -> None:
        self._log("warning", event, **fields)

    def error(self, event: str, **fields: Any) -> None:
        self._log("error", event, **fields)

    def lines(self, level: str = "info") -> list[str]:
        """Return the texts of one level."""
        return [record["event"] for record in self.records if record["level"] == level]


class ScriptedTrigger(TrainingTrigger):
    """The trigger, with its service replaced by a script and its log by a recorder.

    :param limits: How long it waits for what may never come; short in the tests of it.
    """

    shortest = 0.0

    def __init__(self, follower: Any, *, limits: Limits | None = None, **changes: Any) -> None:
        given = {
            "conn_id": "c",
            "job_id": "j",
            "handle": {"job_id": "j"},
            "not_before": START.isoformat(),
            "patience": 60.0,
        }
        super().__init__(**given | changes)
        self.follower = follower
        self._log = Recorder()
        if limits is not None:
            self.limits = limits  # type: ignore[misc]

    async def _open(self) -> Any:
        return self.follower

    @property
    def recorder(self) -> Recorder:
        assert isinstance(self._log, Recorder)
        return self._log

    def events(self) -> list[dict[str, Any]]:
        """Run to the end; returns the events."""

        async def run() -> list[dict[str, Any]]:
            async with asyncio.timeout(600):
                return [event.payload async for event in self.run()]

        return asyncio.run(run())


def chunk(
    *texts: str, cursor: Any = None, state: JobState | None = JobState.RUNNING, complete: bool = False
) -> LogChunk:
    """A chunk of lines, all written at the same instant."""
    return LogChunk(tuple(LogLine(START + timedelta(seconds=1), text) for text in texts), cursor, state, complete)


def end(*texts: str, state: JobState = JobState.SUCCESSFUL) -> LogChunk:
    """The last chunk."""
    return chunk(*texts, state=state, complete=True)
