# SPDX-License-Identifier: Apache-2.0
"""Read a job's logs in CloudWatch beside the watch of its object, so that a state never waits for a log."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import AsyncExitStack, suppress
from typing import Any

from airflow_provider_jobapi.exceptions import ConnectionProblem
from airflow_provider_jobapi.services import retry
from airflow_provider_jobapi.services.clients import Aws
from airflow_provider_jobapi.services.polling import DEFAULT_LIMITS, Complaints, ReadLimits, RequestPace
from airflow_provider_jobapi.services.sagemaker_ack.handles import JobHandle
from airflow_provider_jobapi.services.sagemaker_ack.job_logs import JobLogs

FIND_EVERY = 30.0
"""Seconds after which new streams are looked for, where all instances have one. Where not, every read looks. Also the
seconds between two reads while a job waits for its machines, since a thousand jobs may."""

FEW_STREAMS = 50
"""Streams of which each is followed to its very end wherever new ones are looked for; more of them are at the end."""

REFUSED_PAUSE = 60.0
"""Seconds until logs are requested again that AWS has refused, as without credentials or rights."""


class LogReader:
    """Reads the logs of one job, one read at a time, each in a task of its own.

    A read that was begun goes on while its caller does something else, and is taken when it is done.

    :param log: Gets one line for each kind of error.
    :param limits: Limits of one read.
    :param pace: Of the requests; by default one that all jobs of the process in a region share.
    :ivar begun: How many reads were begun.
    :ivar refused: Whether AWS has refused the last read.
    :ivar task: The read that goes on, or was not taken yet; None where there is none.
    """

    def __init__(
        self,
        aws: Aws,
        handle: JobHandle,
        log: logging.Logger,
        *,
        limits: ReadLimits = DEFAULT_LIMITS,
        pace: RequestPace | None = None,
    ) -> None:
        self._aws, self._handle = aws, handle
        self._limits, self._pace = limits, pace
        self._stack = AsyncExitStack()
        self._client: Any = None
        self._complaints = Complaints(handle.job_id, log)
        self._due = time.monotonic()
        self._interval = 0.0
        self._found_at, self._found_in, self._step = float("-inf"), "", ""
        self._failures = 0
        self._logs: JobLogs | None = None
        self._from: Any = None
        self.begun = 0
        self.refused = False
        self.task: asyncio.Task[None] | None = None

    @property
    def due_in(self) -> float:
        """Seconds until the next read may begin; infinite while one goes on."""
        return float("inf") if self.task is not None else self._due - time.monotonic()

    async def begin(self, cursor: dict[str, Any], *, step: str, ended: bool, pause: float) -> None:
        """Begin a read where one is due and none goes on. One that began at another cursor is given up.

        :param step: The secondary status of the job; each may come with new streams, so a new one makes a read due.
        :param ended: Whether the job has ended, so that every read looks for streams that are late.
        :param pause: Seconds from this read to the next one.
        """
        at = cursor.get("streams"), cursor.get("begin")
        if self.task is not None and self._from != at:
            await self.close_task()
            self._due = time.monotonic()
        due = self.due_in <= 0 or step != self._step or retry.is_testing()
        if self.task is not None or not due:
            return
        self._from, self._interval, self._step = at, pause, step
        self.begun += 1
        logs = self._logs = JobLogs(self._handle, cursor, limits=self._limits, pace=self._pace)
        find = ended or logs.streams < self._handle.instances or step != self._found_in
        find = find or time.monotonic() - self._found_at >= FIND_EVERY
        follow = ended or (find and logs.streams <= FEW_STREAMS)
        self.task = asyncio.create_task(self._read(logs, step, find=find and not logs.in_round, follow=follow))

    def make_due(self) -> int:
        """Let the next read begin soon, after one that goes on; returns its number."""
        self._due = float("-inf")
        return self.begun + 1

    def take(self) -> JobLogs | None:
        """Return the read that is done; None where none is."""
        if self.task is None or not self.task.done():
            return None
        done, self.task = self.task, None
        done.result()
        return self._logs

    async def close_task(self) -> None:
        """Give up the read that goes on."""
        if self.task is not None:
            self.task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await self.task
            self.task = None

    async def close(self) -> None:
        """Give up the read that goes on, and close the client."""
        await self.close_task()
        await self._stack.aclose()

    async def _read(self, logs: JobLogs, step: str, *, find: bool, follow: bool) -> None:
        began = time.monotonic()
        try:
            if self._client is None:
                self._client = await self._stack.enter_async_context(self._aws.async_client("logs"))
        except Exception as error:  # noqa: BLE001 -- the job's state does not depend on its logs
            logs.fail(error)
        else:
            await logs.read(self._client, find=find, follow=follow)
        if find and logs.trouble is None:
            self._found_at, self._found_in = began, step
        self._complaints.note(logs.trouble)
        self.refused = isinstance(logs.trouble, ConnectionProblem)
        self._failures = 0 if logs.trouble is None else self._failures + 1
        self._due = (time.monotonic() if logs.behind else began) + self._wait(logs)

    def _wait(self, logs: JobLogs) -> float:
        if self.refused:
            return REFUSED_PAUSE
        if logs.trouble is not None:
            return max(self._interval, retry.backoff(self._failures))
        return 0.0 if logs.behind else self._interval
