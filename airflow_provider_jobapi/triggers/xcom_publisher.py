# SPDX-License-Identifier: Apache-2.0
"""Publish the status and the metrics of a job as XComs while its task is deferred.

No error here fails a job, and no line of its log waits for it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_jobapi.exceptions import ServiceUnavailable
from airflow_provider_jobapi.training.logs import LogChunk, LogLine
from airflow_provider_jobapi.training.masking import Masker
from airflow_provider_jobapi.training.metrics.definitions import MetricDefinition, read_definitions
from airflow_provider_jobapi.training.metrics.job_metrics import JobMetrics
from airflow_provider_jobapi.training.metrics.progress import Progress, with_progress
from airflow_provider_jobapi.triggers import xcoms
from airflow_provider_jobapi.triggers.xcom_writer import Sink, Slot, XComWriter, writer

if TYPE_CHECKING:
    from airflow_provider_jobapi.services.base import LogFollower, ScalarChunk
    from airflow_provider_jobapi.training.status import JobState, JobStatus

STATUS_KEY = "trainingStatus"
"""The XCom of the status object, whose name is SAP's ``trainingClient``'s."""

METRICS_KEY = "training_metrics"
"""The XCom of the metrics."""

_MOVING = frozenset({"progress", "remaining"})

SLICE = 0.01
"""Seconds of work with metrics after which the event loop is given back."""


class XComPublisher:
    """Publishes the status and the metrics of one job.

    :param skew: Airflow's clock minus the service's.
    :param definitions: The metric definitions of the task.
    :param warn: Writes one warning into the task's log.
    :ivar masker: Hides secrets in the status. In the lines they are hidden already.
    """

    ask_every: ClassVar[tuple[float, float]] = 5.0, 60.0
    """Seconds from one question for the status to the next: where jobs are few, and at most."""
    write_every: ClassVar[float] = 60.0
    """Seconds after which the status is written again though it has not changed: its time says that it is current."""
    progress_every: ClassVar[float] = 10.0
    """Seconds after which a status is written of which only the progress has changed, at least."""
    scalars_wait: ClassVar[float] = 30.0
    """Seconds from its start for which a trigger publishes no metrics before it has read those of event files, too."""
    last_wait: ClassVar[float] = 10.0
    """Seconds that the end of a trigger waits for its last status, and for its last XComs to be written."""

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
        self._metrics = JobMetrics((), time.thread_time, warn)
        self._writer: XComWriter | None = None
        self._slots: dict[str, Slot] = {}
        self._began = time.time()
        self._caught_up = False
        self._opened_at = time.monotonic()
        self._has_scalars = False
        self._resumed_at = float("-inf")
        self._warn = warn
        self._broken = False
        self._follower: LogFollower | None = None
        self._state: JobState | None = None
        self._changed = asyncio.Event()
        self._asking: asyncio.Task[None] | None = None
        self._status: dict[str, Any] | None = None
        self._progress: Progress | None = Progress()
        """How far the job is by its lines; None where the service says it."""
        self._offered_at = float("-inf")
        self.masker = Masker()

    async def open(self, sink: Sink | None) -> None:
        """Open the XComs.

        :param sink: Writes the XComs of the task; None where there is no task.
        """
        self._metrics = JobMetrics(await self._read_definitions(), time.thread_time, self._warn)
        if sink is not None:
            self._writer = writer()
            self._slots = {
                STATUS_KEY: self._writer.open(sink, STATUS_KEY),
                # The sink is called in a thread, where the content is made, too.
                METRICS_KEY: self._writer.open(lambda key, now: sink(key, now.content(self._job_id)), METRICS_KEY),
            }

    def close(self) -> None:
        """Publish nothing more."""
        self._stop_asking()
        for slot in self._slots.values():
            if self._writer is not None:
                self._writer.close(slot)

    async def resume(self, ti: Any) -> None:
        """Continue the metrics that an earlier trigger of this job published, whose lines are not read again."""
        from asgiref.sync import sync_to_async

        self._progress = Progress(whole=False)
        try:
            content = await sync_to_async(xcoms.read)(ti, METRICS_KEY)
            if content is not None and content["job_id"] == self._job_id:
                self._resumed_at = self._metrics.restore(content)
        except Exception as error:  # noqa: BLE001 -- a job that trains is worth more than its curves
            self._warn(f"The metrics until here could not be read: {error!r}")

    def begin(self, follower: LogFollower) -> None:
        """Begin to publish the status. The first read may wait for the job's first line."""
        self._follower = follower
        if self._asking is None and self._writer is not None:
            self._asking = asyncio.create_task(self._keep_asking())

    def on_state(self, chunk: LogChunk, follower: LogFollower) -> None:
        """Take the job's state from what one read brought, before its lines are shown."""
        self.begin(follower)
        self._caught_up = self._caught_up or not follower.replayable  # such a log is not read from its start
        if chunk.state != self._state:
            self._state = chunk.state
            self._changed.set()

    async def on_lines(self, chunk: LogChunk) -> None:
        """Read the metrics of lines that were shown."""
        await self._read(chunk.lines, partial(self._read_line, came=chunk.came))
        # A restarted trigger reads the log from its start; until it has caught up, the XCom has more than it knows.
        behind = not self._caught_up
        self._caught_up = not behind or not chunk.lines or self._time(chunk.lines[-1]) >= self._began
        # Published as soon as it has caught up: the next line may be an hour away.
        if self._caught_up and (chunk.lines or behind):
            self._offer_metrics()

    async def on_scalars(self, chunk: ScalarChunk) -> None:
        """Read the metrics of the job's event files, beside those of its log."""
        await self._read(chunk.lines, self._metrics.read_scalars)
        behind = not self._has_scalars
        self._has_scalars = self._has_scalars or chunk.at_end
        if self._caught_up and (chunk.lines or behind):
            self._offer_metrics()

    async def finish(self) -> dict[str, float | str]:
        """Publish the last status and all metrics; returns the last value of each metric."""
        if self._writer is not None:
            self._offer_metrics(urgent=True)
            self._stop_asking()
            await self._ask()
            try:
                async with asyncio.timeout(self.last_wait):
                    await asyncio.gather(*(slot.idle.wait() for slot in self._slots.values()))
            except TimeoutError:
                pass
        return self._metrics.last()

    async def _read_definitions(self) -> tuple[MetricDefinition, ...] | None:
        try:
            # In a thread: the import and the compilation take time, and would block the event loop of all triggers.
            return await asyncio.to_thread(read_definitions, self._definitions)
        except Exception as error:  # noqa: BLE001 -- the worker has checked them, maybe with other versions
            self._warn(f"No metrics are read, since the metric definitions are not valid on this triggerer: {error}")
            return ()

    def _read_line(self, line: LogLine, written: float, *, came: float | None) -> None:
        if self._progress is not None:
            self._progress.read(line.text, written if came is None else came)
        if written > self._resumed_at:
            self._metrics.read(line, written)

    async def _read(self, lines: Iterable[LogLine], read: Callable[[LogLine, float], None]) -> None:
        if self._broken:
            return
        try:
            begin = time.monotonic()
            for line in lines:
                read(line, self._time(line))
                if time.monotonic() - begin > SLICE:
                    await asyncio.sleep(0)
                    begin = time.monotonic()
        except Exception as error:  # noqa: BLE001 -- a job that trains is worth more than its curves
            self._broken = True
            self._warn(f"No more metrics of this job are read because of an error: {error!r}")

    def _time(self, line: LogLine) -> float:
        try:
            return line.time.timestamp() + self._skew.total_seconds()
        except OverflowError:  # a service may send any year
            return self._began

    def _offer_metrics(self, *, urgent: bool = False) -> None:
        """Publish the metrics, those of the log and of event files together."""
        waits = self._misses_scalars() and time.monotonic() < self._opened_at + self.scalars_wait
        if self._writer is not None and self._metrics.count and (urgent or not waits):
            self._writer.offer(self._slots[METRICS_KEY], self._metrics.snapshot, urgent=urgent)

    def _misses_scalars(self) -> bool:
        return bool(getattr(self._follower, "has_scalars", False)) and not self._has_scalars

    async def _keep_asking(self) -> None:
        """Ask for the status while the log is read: when the state has changed, and regularly."""
        least, most = self.ask_every
        while self._writer is not None:
            self._changed.clear()
            asked = await self._ask()
            try:
                async with asyncio.timeout(max(asked, min(most, max(least, self._writer.pause())))):
                    await self._changed.wait()
            except TimeoutError:
                pass

    def _stop_asking(self) -> None:
        if self._asking is not None:
            self._asking.cancel()

    async def _ask(self) -> float:
        """Ask for the status, and publish it; returns the seconds in which the service wants no other question."""
        try:
            async with asyncio.timeout(self.last_wait):
                told = None if self._follower is None else await self._follower.status()
                status = None if told is None else self.masker.status(self._with_progress(told)).to_wire()
        except Exception as error:  # noqa: BLE001 -- the reading of the log reports a service that does not answer
            return (error.retry_after or 0.0) if isinstance(error, ServiceUnavailable) else 0.0
        if status is None or self._writer is None or self._is_current(status):
            return 0.0
        changed = self._status is None or status["status"] != self._status["status"]
        self._status, self._offered_at = status, time.monotonic()
        value = status | {"job_id": self._job_id}
        self._writer.offer(self._slots[STATUS_KEY], lambda: value, urgent=changed)
        return 0.0

    def _is_current(self, status: dict[str, Any]) -> bool:
        """Whether what was written last is still good enough: each write takes a place among those of all jobs."""
        waited = time.monotonic() - self._offered_at
        if status == self._status:
            return waited < self.write_every
        kept = self._status or {}
        changed = {name for name in status.keys() | kept.keys() if status.get(name) != kept.get(name)}
        return changed <= _MOVING and waited < self.progress_every

    def _with_progress(self, status: JobStatus) -> JobStatus:
        """Add how far the job is by its lines, where the service does not say it."""
        if status.progress is not None:
            self._progress = None
        if self._progress is None or not self._caught_up:
            return status
        return with_progress(status, self._progress.estimate(time.time()))
