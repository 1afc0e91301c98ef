# SPDX-License-Identifier: Apache-2.0
"""Follow one job from the triggerer: watch its object in the cluster, and read its logs in CloudWatch."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self, TypeVar

from airflow_provider_jobapi.exceptions import ConnectionProblem, JobGone
from airflow_provider_jobapi.services import retry
from airflow_provider_jobapi.services.base import Handle
from airflow_provider_jobapi.services.polling import (
    DEFAULT_LIMITS,
    QUIET_SECONDS,
    Complaints,
    QuietEnd,
    ReadLimits,
    jittered,
)
from airflow_provider_jobapi.services.sagemaker_ack import names
from airflow_provider_jobapi.services.sagemaker_ack.clients import Clients
from airflow_provider_jobapi.services.sagemaker_ack.connection import SageMakerConnection
from airflow_provider_jobapi.services.sagemaker_ack.errors import ObjectMissing
from airflow_provider_jobapi.services.sagemaker_ack.handles import JobHandle
from airflow_provider_jobapi.services.sagemaker_ack.job_logs import JobLogs
from airflow_provider_jobapi.services.sagemaker_ack.objects import Seen
from airflow_provider_jobapi.services.sagemaker_ack.records import Records, stopped
from airflow_provider_jobapi.services.sagemaker_ack.status import Reading, read_job
from airflow_provider_jobapi.services.sagemaker_ack.watch import ObjectWatch
from airflow_provider_jobapi.training.logs import LogChunk, LogLine
from airflow_provider_jobapi.training.status import JobState, JobStatus

log = logging.getLogger(__name__)

FIND_EVERY = 30.0
"""Seconds after which new streams are looked for, where all instances have one. Where not, every read looks."""

REFUSED_PAUSE = 60.0
"""Seconds until logs are requested again that AWS has refused, as without credentials or rights."""

LONGEST_READ = 25.0
"""Seconds after which a read without news returns, where there are no logs to read."""

RECORD_SECONDS = 5.0
"""Seconds that a stop waits until the last status is recorded; a stop must not wait for S3 for long."""

Result = TypeVar("Result")


class SageMakerAckFollower:
    """Follows one job; see :class:`~airflow_provider_jobapi.services.base.LogFollower`.

    The streams of CloudWatch can be read from their start again. The object has only its present secondary status: that
    one is shown again by a trigger that is restarted, under the same time, which the status names.

    :param records: Where the status of a job is kept that Kubernetes forgets.
    :param quiet: Seconds without a new line after which the log of an ended job is complete.
    :param limits: Limits of one read of the logs.
    """

    replayable = True

    def __init__(
        self,
        connection: SageMakerConnection,
        clients: Clients,
        handle: Handle,
        records: Records,
        *,
        quiet: float = QUIET_SECONDS,
        limits: ReadLimits = DEFAULT_LIMITS,
    ) -> None:
        self._connection, self._clients, self._records = connection, clients, records
        self._raw_handle, self._handle = handle, JobHandle.of(handle)
        self._limits = limits
        self.watch = ObjectWatch(clients.kubernetes, self._handle.namespace, names.object_name(self._handle.job_id))
        self._stack = AsyncExitStack()
        self._cloudwatch: Any = None
        self._logs_due = time.monotonic()
        self._found_at, self._found_in = float("-inf"), ""
        self._failures, self._refused = 0, False
        self._end = QuietEnd(quiet)
        self._complaints = Complaints(self._handle.job_id, log)
        self._said = set[str]()
        self._last: JobStatus | None = None
        self._recorded = False

    async def __aenter__(self) -> Self:
        """Return the follower; it connects when it reads."""
        await self._stack.enter_async_context(self.watch)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the watch and the clients."""
        await self._stack.aclose()

    async def read(self, cursor: Any) -> LogChunk:
        """Wait until the object has changed or the next read of the logs is due, and return what is new.

        A read that was cancelled can be repeated with the same cursor. If a log cannot be read, a warning is logged;
        the state of the job does not depend on it.

        :raises ServiceUnavailable: if a later attempt may succeed.
        :raises ConnectionProblem: if the cluster refuses the connection.
        :raises JobGone: if the object was deleted by somebody, and how the job ended is not known.
        """
        unknown = self.watch.seen is None and not self.watch.gone
        due = LONGEST_READ if unknown else self._logs_due - time.monotonic()
        await self.watch.wait(min(due, LONGEST_READ))
        seen = self.watch.seen
        if seen is None and not self.watch.gone:
            return LogChunk((), cursor)
        known: dict[str, Any] = dict(cursor or {})
        reading = None if seen is None else self._reading(seen)
        lines = [] if reading is None else list(self._told(reading, known))
        logs = await self._read_logs(known, reading)
        if logs is not None:
            lines += logs.lines
            known |= logs.cursor()
        status = await self._status_of(reading)
        if status is None and not lines:
            raise self._deleted()
        state = None if status is None else status.status
        return LogChunk(tuple(lines), known, state, self._is_complete(state, logs))

    async def status(self) -> JobStatus:
        """Return the job's status as the watch has it, or request it.

        :raises JobGone: if the object was deleted by somebody, and how the job ended is not known.
        """
        seen = self.watch.seen
        if not self.watch.gone and not self.watch.running:
            try:
                seen = await self.watch.fetch()
            except ObjectMissing:
                self.watch.gone = True
        status = await self._status_of(None if seen is None else self._reading(seen))
        if status is None:
            raise self._deleted()
        return status

    async def stop(self) -> None:
        """Delete the object, by which ACK stops the job; no error if it has ended or is gone.

        Its status is recorded before, since SageMaker's last word goes with the object.
        """
        try:
            status = self._reading(await self.watch.fetch()).status
            if not status.status.ended:
                await self._record(stopped(status))
                await self.watch.delete()
        except ObjectMissing:
            pass

    def _reading(self, seen: Seen) -> Reading:
        return read_job(self._handle, seen.object, now=seen.now, accept_timeout=self._connection.accept_timeout)

    async def _status_of(self, reading: Reading | None) -> JobStatus | None:
        """Return the status, which is recorded where the job has ended; None where nobody knows it any more."""
        if reading is not None and (reading.status.status.ended or not self.watch.gone):
            if reading.status.status.ended and not self._recorded:
                self._recorded = True
                await self._record(reading.status)
            return reading.status
        if self._last is None:
            record = await _in_thread(lambda: self._records.read(self._handle.job_id))
            kept = None if record is None else record.status
            self._last = None if kept is None else JobStatus.model_validate(kept)
        return self._last

    async def _record(self, status: JobStatus) -> None:
        """Record a status where Kubernetes forgets the job; a failure is logged, and nothing waits for it for long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(RECORD_SECONDS):
                await _in_thread(lambda: self._records.ended(self._raw_handle, status))

    def _deleted(self) -> JobGone:
        return JobGone(
            f"The TrainingJob of job {self._handle.job_id} was deleted from the namespace {self._handle.namespace} by "
            "somebody, which stops a job that runs."
        )

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

    async def _read_logs(self, known: dict[str, Any], reading: Reading | None) -> JobLogs | None:
        """Read the logs, where that is due."""
        now = time.monotonic()
        if not retry.is_testing() and now < self._logs_due:
            return None
        ended = reading is None or reading.status.status.ended
        pause = jittered(self._end.interval(self._connection.poll_interval, ended=ended))
        self._logs_due = now + pause
        if reading is not None and not reading.accepted:
            return None
        logs = JobLogs(await self._client(), self._handle, known, limits=self._limits)
        step = "" if reading is None else reading.secondary
        find = ended or logs.streams < self._handle.instances or step != self._found_in
        find = find or now - self._found_at >= FIND_EVERY
        await logs.read(find=find)
        if find and logs.trouble is None:
            self._found_at, self._found_in = now, step
        self._note(logs, pause)
        return logs

    def _note(self, logs: JobLogs, pause: float) -> None:
        """Note how a read of the logs went, and when the next one is due."""
        self._complaints.note(logs.trouble)
        self._refused = isinstance(logs.trouble, ConnectionProblem)
        self._failures = 0 if logs.trouble is None else self._failures + 1
        if self._refused:
            pause = REFUSED_PAUSE
        elif logs.trouble is not None:
            pause = max(pause, retry.backoff(self._failures))
        elif logs.behind:
            pause = 0.0
        self._logs_due = time.monotonic() + pause

    def _is_complete(self, state: JobState | None, logs: JobLogs | None) -> bool:
        ended = state is not None and state.ended
        if ended and self._refused:
            return True
        if logs is None:
            return False
        return self._end.reached(ended=ended, news=bool(logs.lines) or logs.behind, whole=logs.whole)

    async def _client(self) -> Any:
        if self._cloudwatch is None:
            self._cloudwatch = await self._stack.enter_async_context(self._clients.aws.async_client("logs"))
        return self._cloudwatch


async def _in_thread(work: Callable[[], Result]) -> Result:
    from asgiref.sync import sync_to_async

    # Not run_in_executor: Airflow's masker receives credentials in the thread, and reaches its supervisor only through
    # this event loop.
    return await sync_to_async(work, thread_sensitive=False)()
