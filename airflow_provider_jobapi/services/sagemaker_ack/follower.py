# SPDX-License-Identifier: Apache-2.0
"""Follow one job from the triggerer: watch its object in the cluster, and read its logs in CloudWatch."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from airflow_provider_jobapi.exceptions import JobGone
from airflow_provider_jobapi.services.base import Handle
from airflow_provider_jobapi.services.polling import (
    DEFAULT_LIMITS,
    QUIET_SECONDS,
    QuietEnd,
    ReadLimits,
    RequestPace,
    jittered,
)
from airflow_provider_jobapi.services.sagemaker_ack import names
from airflow_provider_jobapi.services.sagemaker_ack.adoption import Adoption
from airflow_provider_jobapi.services.sagemaker_ack.clients import Clients
from airflow_provider_jobapi.services.sagemaker_ack.connection import SageMakerConnection
from airflow_provider_jobapi.services.sagemaker_ack.errors import ObjectMissing
from airflow_provider_jobapi.services.sagemaker_ack.handles import JobHandle
from airflow_provider_jobapi.services.sagemaker_ack.job_logs import JobLogs
from airflow_provider_jobapi.services.sagemaker_ack.log_reader import FIND_EVERY, LogReader
from airflow_provider_jobapi.services.sagemaker_ack.objects import Seen
from airflow_provider_jobapi.services.sagemaker_ack.records import RECORD_SECONDS, Records, stopped
from airflow_provider_jobapi.services.sagemaker_ack.status import Reading, read_job
from airflow_provider_jobapi.services.sagemaker_ack.watch import ObjectWatch
from airflow_provider_jobapi.training.logs import LogChunk, LogLine
from airflow_provider_jobapi.training.status import JobState, JobStatus

log = logging.getLogger(__name__)

LONGEST_READ = 25.0
"""Seconds after which a read without news returns."""

Result = TypeVar("Result")


class Worker(Protocol):
    """What a follower has the worker's side do, see :class:`~.service.SageMakerAckService`."""

    records: Records
    adoption: Adoption

    def last_status(self, handle: JobHandle) -> JobStatus: ...


class SageMakerAckFollower:
    """Follows one job; see :class:`~airflow_provider_jobapi.services.base.LogFollower`.

    The streams of CloudWatch can be read from their start again. The object has only its present secondary status: that
    one is shown again by a trigger that is restarted, under the same time, which the status names.

    :param worker: The worker's side, whose methods are called in a thread: it records how a job ended, knows how one
        ended whose object is gone, and takes up one whose object is not its own.
    :param quiet: Seconds without a new line after which the log of an ended job is complete.
    :param limits: Limits of one read of the logs.
    :param pace: Of the requests for logs; by default one that all jobs of the process in a region share.
    """

    replayable = True

    def __init__(
        self,
        connection: SageMakerConnection,
        clients: Clients,
        handle: Handle,
        worker: Worker,
        *,
        quiet: float = QUIET_SECONDS,
        limits: ReadLimits = DEFAULT_LIMITS,
        pace: RequestPace | None = None,
    ) -> None:
        self._connection = connection
        self._raw_handle, self._handle = handle, JobHandle.of(handle)
        self._worker = worker
        self.watch = ObjectWatch(clients.kubernetes, self._handle.namespace, names.object_name(self._handle.job_id))
        self._logs = LogReader(clients.aws, self._handle, log, limits=limits, pace=pace)
        self._end = QuietEnd(quiet)
        self._said = set[str]()
        self._last: JobStatus | None = None
        self._unknown: JobGone | None = None
        self._last_read: int | None = None
        self._recorded = False
        self._refused: JobStatus | None = None

    async def __aenter__(self) -> Self:
        """Return the follower; it connects when it reads."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the watch and the read that goes on, and close the clients."""
        await self._logs.close()
        await self.watch.close()

    async def read(self, cursor: Any) -> LogChunk:
        """Wait until the object has changed or a read of the logs is done, and return what is new.

        A read that was cancelled can be repeated with the same cursor. If a log cannot be read, a warning is logged;
        the state of the job does not depend on it.

        :raises ServiceUnavailable: if a later attempt may succeed.
        :raises ConnectionProblem: if the cluster refuses the connection.
        :raises JobGone: if the object was deleted by somebody, and how the job ended is not known.
        """
        known: dict[str, Any] = dict(cursor or {})
        await self.watch.wait(await self._begin_logs(known), self._logs.task)
        seen = self.watch.seen
        if seen is None and not self.watch.gone:
            return LogChunk((), cursor)
        reading = self._current()
        if reading is not None and reading.unmanaged:
            await self._take_up()
            return LogChunk((), cursor)
        lines = [] if reading is None else list(self._told(reading, known))
        logs = self._logs.take()
        if logs is not None:
            lines += logs.lines
            known |= logs.cursor()
        try:
            state = (await self._status_of(reading)).status
        except JobGone:
            if not lines and self._has_last_lines(logs, reading):
                raise
            state = None
        behind = logs is not None and logs.behind
        return LogChunk(tuple(lines), known, state, self._is_complete(state, logs, reading), behind=behind)

    async def status(self) -> JobStatus:
        """Return the job's status as the watch has it, or request it.

        :raises ServiceUnavailable: also without a request, until the time that the API server has named has come.
        :raises JobGone: if the object was deleted by somebody, and how the job ended is not known.
        """
        reading = self._current()
        if not self.watch.gone and not self.watch.running:
            self.watch.check_busy()
            try:
                reading = self._reading(await self.watch.fetch())
            except ObjectMissing:
                self.watch.gone = True
        if reading is not None and reading.unmanaged and self._refused is None:
            await self._take_up()
            return await self.status()
        return await self._status_of(reading)

    async def stop(self) -> None:
        """Delete the object, by which ACK stops the job; no error if it has ended or is gone.

        Its status is recorded before, since SageMaker's last word goes with the object.
        """
        try:
            reading = self._reading(await self.watch.fetch())
            if reading.unmanaged:
                raise ObjectMissing("The object is not the job's own.")
            if reading.may_go_on:
                await self._record(stopped(reading.status))
                await self.watch.delete()
        except ObjectMissing:
            await _in_thread(lambda: self._worker.adoption.stop(self._handle))

    def _current(self) -> Reading | None:
        """Return what the object says that was seen last; None where there is none, or it is not the job's own."""
        seen = self.watch.seen
        return None if seen is None or self._refused is not None else self._reading(seen)

    def _reading(self, seen: Seen) -> Reading:
        return read_job(self._handle, seen.object, now=seen.now, accept_timeout=self._connection.accept_timeout)

    async def _status_of(self, reading: Reading | None) -> JobStatus:
        """Return the status, which is recorded where the job has ended.

        :raises JobGone: if the object is gone, and nobody knows how the job ended.
        """
        if self._refused is not None:
            return self._refused
        if reading is not None and (reading.status.status.ended or not self.watch.gone):
            if reading.status.status.ended and not self._recorded:
                self._recorded = True
                await self._record(reading.status)
            return reading.status
        if self._unknown is not None:
            raise self._unknown
        if self._last is None:
            try:
                self._last = await _in_thread(lambda: self._worker.last_status(self._handle))
            except JobGone as error:
                self._unknown = error
                raise
        return self._last

    async def _take_up(self) -> None:
        """Have the job taken up, and follow its own object from then on; one that is not ours ends as refused."""
        self._refused = await _in_thread(lambda: self._worker.adoption.take_up(self._handle))
        if self._refused is None:
            await self.watch.restart()

    async def _record(self, status: JobStatus) -> None:
        """Record a status where Kubernetes forgets the job; a failure is logged, and nothing waits for it for long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(RECORD_SECONDS):
                await _in_thread(lambda: self._worker.records.ended(self._raw_handle, status))

    def _told(self, reading: Reading, known: dict[str, Any]) -> Iterator[LogLine]:
        """Return the line of a secondary status that is new, under the time that the object names; log other news."""
        for notice in reading.notices:
            if not notice.is_step:
                if notice.key not in self._said:
                    self._said.add(notice.key)
                    log.log(logging.WARNING if notice.warning else logging.INFO, notice.text)
            elif known.get("step") != reading.secondary:
                known["step"] = reading.secondary
                at = reading.changed or reading.status.submission_time or datetime.now(UTC)
                # A stream of its own, so that its time depends on no other line.
                stream = f"{notice.key} {at.isoformat()}"
                yield LogLine(at, notice.text, stream, self._handle.instances)

    async def _begin_logs(self, known: dict[str, Any]) -> float:
        """Begin a read of the logs where one is due; returns the seconds until the next one is, at the most."""
        reading = self._current()
        if not self._has_logs(reading):
            return LONGEST_READ
        ended = self.watch.gone or reading is None or reading.status.status.ended
        waits = reading is not None and reading.status.status is JobState.PENDING
        interval = FIND_EVERY if waits else self._connection.poll_interval
        pause = jittered(self._end.interval(interval, ended=ended))
        await self._logs.begin(known, step="" if reading is None else reading.secondary, ended=ended, pause=pause)
        return min(LONGEST_READ, self._logs.due_in)

    def _has_last_lines(self, logs: JobLogs | None, reading: Reading | None) -> bool:
        """Whether the logs of a job that is gone were read since, for the lines that it has left."""
        if self._logs.refused or not self._has_logs(reading):
            return True
        if self._last_read is None:
            self._last_read = self._logs.make_due()
        return logs is not None and not logs.behind and self._logs.begun >= self._last_read

    def _has_logs(self, reading: Reading | None) -> bool:
        """Whether SageMaker has, or had, the job, as far as is known."""
        if self._refused is not None:
            return False
        return self.watch.gone if reading is None else reading.accepted

    def _is_complete(self, state: JobState | None, logs: JobLogs | None, reading: Reading | None) -> bool:
        ended = state is not None and state.ended
        if ended and (self._logs.refused or not self._has_logs(reading)):
            return True
        if logs is None or (logs.behind and not logs.lines):
            return False
        return self._end.reached(ended=ended, news=bool(logs.lines), whole=logs.whole)


async def _in_thread(work: Callable[[], Result]) -> Result:
    from asgiref.sync import sync_to_async

    # Not run_in_executor: Airflow's masker receives credentials in the thread, and reaches its supervisor only through
    # this event loop.
    return await sync_to_async(work, thread_sensitive=False)()
