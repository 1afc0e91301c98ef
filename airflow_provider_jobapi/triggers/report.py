# SPDX-License-Identifier: Apache-2.0
"""What is told of a job while its task is deferred, beside its log: the XComs of its status and of its metrics.

Nothing here can fail a job, and no line of its log waits for it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_jobapi.training.logs import LogChunk, LogLine
from airflow_provider_jobapi.training.metrics import MetricDefinition, Metrics, read_definitions
from airflow_provider_jobapi.triggers.xcom_writer import Sink, Slot, XComWriter, writer

if TYPE_CHECKING:
    from airflow_provider_jobapi.services.base import LogFollower
    from airflow_provider_jobapi.training.status import JobState

STATUS_KEY = "trainingStatus"
"""The XCom of the status object, as SAP's ``trainingClient`` calls it."""

METRICS_KEY = "training_metrics"
"""The XCom of the metrics."""

STATUS_EVERY = (5.0, 60.0)
"""Seconds from one question for the status to the next: for a few jobs, and at the most."""

LAST_WAIT = 10.0
"""Seconds that the end of a trigger waits for its last status, and for its last XComs to be written."""

_BATCH = 100


class Report:
    """Tells of one job.

    :param skew: Our clock minus the service's.
    :param definitions: The metric definitions of the task.
    :param tell: Writes one line into the task's log.
    """

    def __init__(
        self,
        job_id: str,
        *,
        skew: timedelta,
        definitions: list[dict[str, Any]] | None,
        tell: Callable[[str], object],
    ) -> None:
        self._job_id = job_id
        self._skew = skew
        self._metrics = Metrics(_known(definitions, tell), time.thread_time, tell)
        self._writer: XComWriter | None = None
        self._slots: dict[str, Slot] = {}
        self._began = time.time()
        self._caught_up = False
        self._state: JobState | None = None
        self._asked_at = float("-inf")
        self._question: asyncio.Task[None] | None = None
        self._status: dict[str, Any] | None = None

    def open(self, sink: Sink | None) -> None:
        """Begin to write.

        :param sink: Writes the XComs of the task; None where there is no task to write for.
        """
        if sink is not None:
            self._writer = writer()
            self._slots = {key: self._writer.open(sink, key) for key in (STATUS_KEY, METRICS_KEY)}

    def close(self) -> None:
        """Write and ask nothing more."""
        if self._question is not None:
            self._question.cancel()
        for slot in self._slots.values():
            if self._writer is not None:
                self._writer.close(slot)

    async def take(self, chunk: LogChunk, follower: LogFollower) -> None:
        """Take what a read of the follower brought."""
        self._ask_now_and_then(follower, chunk.state)
        await self._read(chunk.lines)
        # A triggerer that takes over reads the log from its start; until it is where it was, the XCom knows more.
        self._caught_up = self._caught_up or not chunk.lines or self._time(chunk.lines[-1]) >= self._began
        if chunk.lines and self._caught_up:
            self._offer_metrics()

    async def end(self, follower: LogFollower | None) -> dict[str, float | str]:
        """Tell the last status and all metrics; answers the last values of these."""
        if self._writer is not None:
            self._offer_metrics(urgent=True)
            if self._question is not None:
                self._question.cancel()
            if follower is not None:
                await self._ask(follower)
            try:
                async with asyncio.timeout(LAST_WAIT):
                    await asyncio.gather(*(slot.idle.wait() for slot in self._slots.values()))
            except TimeoutError:
                pass
        return self._metrics.last()

    async def _read(self, lines: Iterable[LogLine]) -> None:
        for number, line in enumerate(lines, 1):
            self._metrics.read(line, self._time(line))
            if number % _BATCH == 0:
                await asyncio.sleep(0)

    def _time(self, line: LogLine) -> float:
        try:
            return line.time.timestamp() + self._skew.total_seconds()
        except OverflowError:  # a service may tell any year
            return self._began

    def _offer_metrics(self, *, urgent: bool = False) -> None:
        if self._writer is not None and self._metrics.count:
            make = lambda: self._metrics.content(self._job_id)  # noqa: E731
            self._writer.offer(self._slots[METRICS_KEY], make, urgent=urgent)

    def _ask_now_and_then(self, follower: LogFollower, state: JobState | None) -> None:
        """Ask for the status beside the reading of the log: when the state changed, and now and then."""
        if self._writer is None or (self._question is not None and not self._question.done()):
            return
        least, most = STATUS_EVERY
        every = min(most, max(least, self._writer.pause()))
        if state != self._state or time.monotonic() - self._asked_at > every:
            self._state = state
            self._question = asyncio.create_task(self._ask(follower))

    async def _ask(self, follower: LogFollower) -> None:
        self._asked_at = time.monotonic()
        try:
            async with asyncio.timeout(LAST_WAIT):
                status = (await follower.status()).to_wire()
        except Exception:  # noqa: BLE001 -- lost contact is told by whoever reads the log
            return
        changed = self._status is None or status["status"] != self._status["status"]
        if status != self._status and self._writer is not None:
            self._status = status
            self._writer.offer(self._slots[STATUS_KEY], lambda: status, urgent=changed)


def _known(definitions: Any, tell: Callable[[str], object]) -> tuple[MetricDefinition, ...] | None:
    try:
        return read_definitions(definitions)
    except Exception as error:  # noqa: BLE001 -- the worker has checked them, maybe with other versions than ours
        tell(f"The task's metrics cannot be read here: {error}")
        return ()
