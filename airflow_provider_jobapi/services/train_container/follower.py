# SPDX-License-Identifier: Apache-2.0
"""Follow one container from the triggerer: its state and its log, read in threads, since Docker's client blocks."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from airflow_provider_jobapi.services import retry
from airflow_provider_jobapi.services.base import Handle
from airflow_provider_jobapi.services.polling import jittered
from airflow_provider_jobapi.services.train_container import logs
from airflow_provider_jobapi.services.train_container.connection import TrainConnection
from airflow_provider_jobapi.services.train_container.engine import Engine
from airflow_provider_jobapi.services.train_container.errors import Missing
from airflow_provider_jobapi.services.train_container.handles import JobHandle
from airflow_provider_jobapi.services.train_container.outcomes import Outcomes
from airflow_provider_jobapi.services.train_container.retention import Retention
from airflow_provider_jobapi.services.train_container.states import ContainerState, read_container
from airflow_provider_jobapi.training.logs import LogChunk
from airflow_provider_jobapi.training.status import JobStatus

log = logging.getLogger(__name__)

LONGEST_READ = 25.0
"""Seconds after which a read without news returns."""

Result = TypeVar("Result")


class Worker(Protocol):
    """What a follower has the worker's side do, see :class:`~.service.TrainContainerService`."""

    outcomes: Outcomes
    retention: Retention

    def status(self, handle: Handle) -> JobStatus: ...

    def stop(self, handle: Handle) -> None: ...

    def is_overdue(self, container: ContainerState) -> bool: ...

    def stop_overdue(self, handle: JobHandle, container: ContainerState) -> None: ...


class TrainContainerFollower:
    """Follows one job; see :class:`~airflow_provider_jobapi.services.base.LogFollower`.

    The engine keeps the log as long as the container, so it can be read from its start again.

    :param worker: The worker's side, whose methods are called in a thread.
    :param lines: Lines of one read.
    """

    replayable = True

    def __init__(
        self,
        connection: TrainConnection,
        engine: Engine,
        handle: Handle,
        worker: Worker,
        *,
        lines: int = logs.MOST_LINES,
    ) -> None:
        self._connection = connection
        self._engine = engine
        self._raw_handle, self._handle = handle, JobHandle.of(handle)
        self._worker = worker
        self._most = lines
        self._due = 0.0

    async def __aenter__(self) -> Self:
        """Return the follower; it connects when it reads."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the client of the engine, which others use as well."""

    async def read(self, cursor: Any) -> LogChunk:
        """Look at the container and its log until there is something new, and return it.

        :raises ServiceUnavailable: while the engine does not answer.
        :raises JobGone: if the container was removed by somebody, and how the job ended is not known.
        """
        until = time.monotonic() + LONGEST_READ
        while True:
            await retry.sleep_async(min(self._due, until) - time.monotonic())
            self._due = time.monotonic() + jittered(self._connection.poll_interval)
            chunk = await self._in_thread(lambda: self._look(cursor))
            if chunk.behind:
                self._due = 0.0
            if chunk.lines or chunk.complete or chunk.behind or time.monotonic() >= until or retry.is_testing():
                return chunk

    async def status(self) -> JobStatus:
        """Return the job's status."""
        return await self._in_thread(lambda: self._worker.status(self._raw_handle))

    async def stop(self) -> None:
        """Stop the container; no error if it has ended or is gone."""
        await self._in_thread(lambda: self._worker.stop(self._raw_handle))

    def _look(self, cursor: Any) -> LogChunk:
        found = self._engine.inspect(self._handle.container)
        if found is None:
            return self._gone(cursor)
        container = read_container(found)
        if not container.ended and self._worker.is_overdue(container):
            self._worker.stop_overdue(self._handle, container)
        state = self._worker.outcomes.status(container).status
        if not container.was_started:
            return LogChunk((), cursor, state, complete=state.ended)
        try:
            new = logs.read_new(self._engine, container.id, cursor, ended=container.ended, most=self._most)
        except Missing:
            return self._gone(cursor)
        complete = container.ended and not new.behind
        return LogChunk(new.lines, new.cursor, state, complete, behind=new.behind)

    def _gone(self, cursor: Any) -> LogChunk:
        """Return the end of a job whose container was removed; what it has written since is lost."""
        state = self._worker.retention.last_status(self._handle).status
        return LogChunk((), cursor, state, complete=True)

    async def _in_thread(self, work: Callable[[], Result]) -> Result:
        from asgiref.sync import sync_to_async

        # Not run_in_executor: Airflow's masker receives credentials in the thread, and reaches its supervisor only
        # through this event loop.
        return await sync_to_async(work, thread_sensitive=False, executor=self._engine.threads)()
