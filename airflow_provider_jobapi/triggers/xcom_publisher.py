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
from airflow_provider_jobapi.training.metrics.definitions import MetricDefinition, Metrics, read_definitions
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

SLICE = 0.01
"""Seconds of work with metrics after which the event loop is given back."""


class XComPublisher:
    """Tells of one job.

    :param skew: Our clock minus the service's.
    :param definitions: The metric definitions of the task.
    :param warn: Writes one warning into the task's log.
    """

    def __init__(
        self,
        job_id: str,
        *,
        skew: timedelta,
        definitions: list[dict[str, Any]] | None,
        warn: Callable[[str], object],
    ) -> None:
        self._job_id = job_id
        self._skew = skew
        self._definitions = definitions
        self._metrics = Metrics((), time.thread_time, warn)
        self._writer: XComWriter | None = None
        self._slots: dict[str, Slot] = {}
        self._began = time.time()
        self._caught_up = False
        self._warn = warn
        self._broken = False
        self._follower: LogFollower | None = None
        self._state: JobState | None = None
        self._changed = asyncio.Event()
        self._asking: asyncio.Task[None] | None = None
        self._status: dict[str, Any] | None = None

    async def open(self, sink: Sink | None) -> None:
        """Begin to write.

        :param sink: Writes the XComs of the task; None where there is no task to write for.
        """
        self._metrics = Metrics(await self._known(), time.thread_time, self._warn)
        if sink is not None:
            self._writer = writer()
            self._slots = {
                STATUS_KEY: self._writer.open(sink, STATUS_KEY),
                # The sink is called in a thread, and makes the content there.
                METRICS_KEY: self._writer.open(lambda key, now: sink(key, now.content(self._job_id)), METRICS_KEY),
            }

    def close(self) -> None:
        """Write and ask nothing more."""
        self._ask_no_more()
        for slot in self._slots.values():
            if self._writer is not None:
                self._writer.close(slot)

    def on_state(self, chunk: LogChunk, follower: LogFollower) -> None:
        """Hear of the job's state, which a read of the follower brought."""
        self._follower = follower
        if chunk.state != self._state:
            self._state = chunk.state
            self._changed.set()
        if self._asking is None and self._writer is not None:
            self._asking = asyncio.create_task(self._keep_asking())

    async def on_lines(self, chunk: LogChunk) -> None:
        """Take the lines, once they are shown."""
        await self._read(chunk.lines)
        # A triggerer that takes over reads the log from its start; until it is where it was, the XCom knows more.
        behind = not self._caught_up
        self._caught_up = not behind or not chunk.lines or self._time(chunk.lines[-1]) >= self._began
        # What was read behind is told as soon as nothing more is to catch up with, be it an hour before the next line.
        if self._caught_up and (chunk.lines or behind):
            self._offer_metrics()

    async def finish(self) -> dict[str, float | str]:
        """Tell the last status and all metrics; answers the last values of these."""
        if self._writer is not None:
            self._offer_metrics(urgent=True)
            self._ask_no_more()
            await self._ask()
            try:
                async with asyncio.timeout(LAST_WAIT):
                    await asyncio.gather(*(slot.idle.wait() for slot in self._slots.values()))
            except TimeoutError:
                pass
        return self._metrics.last()

    async def _known(self) -> tuple[MetricDefinition, ...] | None:
        try:
            # In a thread: an import and what is to be compiled take time, in which every trigger would stand still.
            return await asyncio.to_thread(read_definitions, self._definitions)
        except Exception as error:  # noqa: BLE001 -- the worker has checked them, maybe with other versions than ours
            self._warn(f"The task's metrics cannot be read here: {error}")
            return ()

    async def _read(self, lines: Iterable[LogLine]) -> None:
        if self._broken:
            return
        try:
            begin = time.thread_time()
            for line in lines:
                self._metrics.read(line, self._time(line))
                if time.thread_time() - begin > SLICE:
                    await asyncio.sleep(0)
                    begin = time.thread_time()
        except Exception as error:  # noqa: BLE001 -- a job that trains is worth more than its curves
            self._broken = True
            self._warn(f"The metrics of this job cannot be read any further: {error!r}")

    def _time(self, line: LogLine) -> float:
        try:
            return line.time.timestamp() + self._skew.total_seconds()
        except OverflowError:  # a service may tell any year
            return self._began

    def _offer_metrics(self, *, urgent: bool = False) -> None:
        if self._writer is not None and self._metrics.count:
            self._writer.offer(self._slots[METRICS_KEY], self._metrics.snapshot, urgent=urgent)

    async def _keep_asking(self) -> None:
        """Ask for the status beside the reading of the log: when the state changed, and now and then."""
        least, most = STATUS_EVERY
        while self._writer is not None:
            self._changed.clear()
            await self._ask()
            try:
                async with asyncio.timeout(min(most, max(least, self._writer.pause()))):
                    await self._changed.wait()
            except TimeoutError:
                pass

    def _ask_no_more(self) -> None:
        if self._asking is not None:
            self._asking.cancel()

    async def _ask(self) -> None:
        try:
            async with asyncio.timeout(LAST_WAIT):
                status = (await self._follower.status()).to_wire() if self._follower is not None else None
        except Exception:  # noqa: BLE001 -- lost contact is told by whoever reads the log
            return
        if status is None or status == self._status or self._writer is None:
            return
        changed = self._status is None or status["status"] != self._status["status"]
        self._status = status
        value = status | {"job_id": self._job_id}
        self._writer.offer(self._slots[STATUS_KEY], lambda: value, urgent=changed)
