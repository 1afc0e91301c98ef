# SPDX-License-Identifier: Apache-2.0
"""Follows one job from the triggerer: shows each line of its log, keeps its deadline, stops it when the user does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Iterable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_jobapi.exceptions import ConnectionProblem, JobGone, ServiceUnavailable, describe
from airflow_provider_jobapi.services.retry import Outage
from airflow_provider_jobapi.training.logs import LogChunk, LogLine, Thinning, Timeline, plain
from airflow_provider_jobapi.training.metrics.patterns import readable
from airflow_provider_jobapi.triggers.bookmark import Bookmark
from airflow_provider_jobapi.triggers.event import End, TrainingEvent
from airflow_provider_jobapi.triggers.task_state import state_of
from airflow_provider_jobapi.triggers.watch import Pace
from airflow_provider_jobapi.triggers.xcom_publisher import XComPublisher
from airflow_provider_jobapi.triggers.xcom_writer import Sink, sink_of

if TYPE_CHECKING:
    from airflow_provider_jobapi.services.base import LogFollower

JOB_ID_KEY = "training_job_id"
"""The XCom that names the job of a task. It must never change: the guard of ``on_kill`` looks it up."""

HANG = 120.0
"""Seconds after which a read that never comes back counts as lost contact; a long poll is at most 25 seconds."""

STOP_WAIT = 120.0
"""Seconds that a job which was told to stop gets to end, so that its last lines are shown."""

DRAIN = 30.0
"""Seconds without a line after which the log of a job that is over is taken as complete."""

KILL_PATIENCE = 300.0
"""Seconds for which a kill is tried. ``[triggerer] on_kill_timeout`` is 30, and a busy triggerer may need longer."""

LONGEST_KILL_WAIT = 2.0
"""Seconds between two attempts to stop a job, at the most, even where the service asks for more."""

SHORTEST = 10.0
"""Seconds from ``not_before`` that a deferral lasts at the least, however short the job is."""

_PACE = Pace()
_KILLS: set[asyncio.Task[None]] = set()
"""Kills that are under way; an event loop itself holds its tasks only weakly."""


class TrainingTrigger(BaseTrigger):
    """Follow a job until it is over, showing each line of its log once, in order and with its own time.

    A triggerer that takes over replays the log from its start under the very same times, which Airflow's log reader
    merges (see :class:`~airflow_provider_jobapi.training.logs.Timeline`). So no position is kept anywhere, but where
    the log is of a kind that shows both (see :mod:`~airflow_provider_jobapi.triggers.bookmark`).

    :param conn_id: The connection whose type tells the service.
    :param job_id: The job.
    :param handle: How the service finds the job again. Airflow stores it in clear, so it holds no secret.
    :param not_before: No line is shown before this time, ISO 8601: the time of the deferral.
    :param skew: Our clock minus the service's, in seconds.
    :param deadline: When the job is stopped, ISO 8601; None for never. Absolute, so that a restart does not extend it.
    :param limit: What the deadline is, in the words of the error.
    :param patience: Seconds for which a service that does not answer is waited for.
    :param stop_on_kill: Whether the job is stopped when the deadline passes and when a user ends the task.
    :param metric_definitions: How metrics are found in the lines, ``[{"name": …, "regex": …}]``; None for the habits
        of Keras, of progress bars, and of ``key=value`` lines.
    :param floor: The name of ``not_before`` in serialized triggers; see :meth:`serialize`.
    :param owned: The name of ``stop_on_kill`` in serialized triggers.
    :ivar sink: Writes the XComs where no triggerer has given the trigger a task, as in a worker.
    """

    def __init__(
        self,
        *,
        conn_id: str,
        job_id: str,
        handle: dict[str, Any],
        not_before: str | None = None,
        skew: float = 0.0,
        deadline: str | None = None,
        limit: str = "deadline",
        patience: float = 600.0,
        stop_on_kill: bool = True,
        metric_definitions: list[dict[str, Any]] | None = None,
        floor: str | None = None,
        owned: bool | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.conn_id = conn_id
        self.job_id = job_id
        self.handle = handle
        self.not_before = not_before or floor or datetime.now(UTC).isoformat(timespec="milliseconds")
        self.skew = skew
        self.deadline = deadline
        self.limit = limit
        self.patience = patience
        self.stop_on_kill = stop_on_kill if owned is None else owned
        self.metric_definitions = metric_definitions
        self.sink: Sink | None = None
        self._fired = False
        self._cursor: Any = None
        self._told_to_stop_at: float | None = None
        self._quiet_since: float | None = None
        self._timeline = Timeline(timedelta(seconds=skew), datetime.fromisoformat(self.not_before))
        self._thinning = Thinning()
        self._bookmark = Bookmark(job_id, self.not_before)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments with which any triggerer makes this trigger again.

        ``not_before`` and ``stop_on_kill`` are written as ``floor`` and ``owned``, their names in the first versions.
        During an upgrade a new worker may defer to a triggerer of such a version, which knows no other names; every
        version reads these.
        """
        arguments = {
            "conn_id": self.conn_id,
            "job_id": self.job_id,
            "handle": self.handle,
            "floor": self.not_before,
            "skew": self.skew,
            "deadline": self.deadline,
            "limit": self.limit,
            "patience": self.patience,
            "owned": self.stop_on_kill,
            "metric_definitions": self.metric_definitions,
        }
        return f"{__name__}.{type(self).__name__}", arguments

    async def run(self) -> AsyncGenerator[TriggerEvent, None]:
        """Follow the job; ends with one :class:`~airflow_provider_jobapi.triggers.event.TrainingEvent`."""
        # Apart, since a cancellation has a word in it by which Airflow knows a user's, and what a follower waits for
        # may raise another one without it, as asgiref does.
        following = asyncio.create_task(self._follow())
        try:
            event = await asyncio.shield(following)
            # Airflow closes the log of a trigger that ends, also to lines that are still on their way there.
            await _PACE.drain()
            await self._settle()
        except asyncio.CancelledError:
            following.cancel()
            await asyncio.wait([following])
            # From 3.3 on Airflow calls on_kill where a user acted; before, this is the only sign that one did.
            if not hasattr(BaseTrigger, "on_kill"):
                await self._stop_unless_still_wanted()
            raise
        # Airflow may cancel a trigger whose event it has taken; that is no kill.
        self._fired = True
        yield TriggerEvent(event.payload())  # type: ignore[no-untyped-call]

    async def on_kill(self) -> None:
        """Stop the job, since a user marked the task failed or success, cleared it, or failed the dag run."""
        await self._stop_unless_still_wanted()

    async def _settle(self) -> None:
        """Give the scheduler the time to hear of the end of the worker that deferred.

        Airflow's supervisor may see up to 5 seconds late that its process has ended, and the scheduler later still.
        When that is after the task was resumed, the scheduler takes the resumed task for lost and fails it ("finished
        with state success, but the task instance's state attribute is running", Airflow 3.3.2 and before).
        """
        if self.task_instance is not None:
            left = datetime.fromisoformat(self.not_before) + timedelta(seconds=SHORTEST) - datetime.now(UTC)
            await asyncio.sleep(min(left.total_seconds(), SHORTEST))

    async def _follow(self) -> TrainingEvent:
        publisher = XComPublisher(
            self.job_id,
            skew=timedelta(seconds=self.skew),
            definitions=self.metric_definitions,
            warn=self.log.warning,
        )
        try:
            await publisher.open(self.sink if self.task_instance is None else sink_of(self.task_instance))
            await self._bookmark.open(self.task_instance, self.log.warning)
            event = await self._follow_and_tell(publisher)
        finally:
            self._bookmark.close()
            publisher.close()
        return event

    async def _follow_and_tell(self, publisher: XComPublisher) -> TrainingEvent:
        outage = Outage(self.patience, self.log.warning)
        follower: LogFollower | None = None
        async with AsyncExitStack() as stack:
            while not self._waited_long_enough():
                try:
                    if follower is None:
                        follower = await stack.enter_async_context(await self._open())
                    chunk = await self._next(follower)
                except JobGone:
                    break
                except Exception as error:  # noqa: BLE001 -- no trouble with the log may fail a job that trains
                    pause = outage.failed(error)
                    if pause is None:
                        return self._event(End.UNREACHABLE, describe(error), await publisher.finish())
                    if isinstance(error, ConnectionProblem):
                        # Somebody may put it right, which only a connection that is read again will tell.
                        await stack.aclose()
                        follower = None
                    await asyncio.sleep(min(pause, self._until_deadline() or pause))
                    continue
                if chunk.state is not None:  # else it is the deadline that spoke
                    outage.succeeded()
                publisher.on_state(chunk, follower)
                await self._show(self._thinning.feed(chunk.lines))
                await publisher.on_lines(chunk)
                self._cursor = chunk.cursor
                if self._is_last(chunk):
                    break
            await self._show(self._thinning.end())
            metrics = await publisher.finish()
        if self._told_to_stop_at is None:
            return self._event(End.OVER, metrics=metrics)
        return self._event(End.TIMEOUT, self.limit, metrics)

    async def _open(self) -> LogFollower:
        from airflow_provider_jobapi.hooks.base import TrainingHook

        return (await TrainingHook.async_service_of(self.conn_id)).follower(self.handle)

    async def _next(self, follower: LogFollower) -> LogChunk:
        """The next lines; none when the deadline came first."""
        if self._told_to_stop_at is None and self._until_deadline() == 0:
            if not self.stop_on_kill:
                self._told_to_stop_at = float("-inf")  # nobody told it, so there is no end to wait for
                return LogChunk((), self._cursor)
            await follower.stop()
            self._told_to_stop_at = time.monotonic()
            self.log.warning(f"The {self.limit} is over; the job was told to stop.")
        left = self._until_deadline() or HANG
        try:
            async with asyncio.timeout(min(left, HANG)):
                return await follower.read(self._cursor)
        except TimeoutError:
            if left < HANG:
                return LogChunk((), self._cursor)
            raise ServiceUnavailable(f"The service did not answer within {HANG:g} seconds.") from None

    def _until_deadline(self) -> float:
        """Seconds until the deadline, 0 when it has passed, infinite when there is none."""
        if self.deadline is None:
            return float("inf")
        return max(0.0, (datetime.fromisoformat(self.deadline) - datetime.now(UTC)).total_seconds())

    def _waited_long_enough(self) -> bool:
        return self._told_to_stop_at is not None and time.monotonic() - self._told_to_stop_at > STOP_WAIT

    def _is_last(self, chunk: LogChunk) -> bool:
        if chunk.complete:
            return True
        if chunk.lines or chunk.state is None or not chunk.state.ended:
            self._quiet_since = None
            return False
        # The job is over and its log should be; a service that never says so must not hold the task.
        self._quiet_since = self._quiet_since or time.monotonic()
        return time.monotonic() - self._quiet_since > DRAIN

    async def _show(self, lines: Iterable[LogLine]) -> None:
        for line in lines:
            shown = self._timeline.place(line.time, line.stream, line.streams).isoformat(timespec="milliseconds")
            if not self._bookmark.pass_line(line.stream):
                continue
            await _PACE.step()
            # No arguments, hence no formatting: a % or {} of the job's stays what it is.
            self.log.info(plain(readable(line.text)), timestamp=shown)
        self._bookmark.keep()

    def _event(self, end: End, detail: str = "", metrics: dict[str, float | str] | None = None) -> TrainingEvent:
        return TrainingEvent(end, self.job_id, self.handle, detail, metrics or {})

    async def _stop_unless_still_wanted(self) -> None:
        if self._fired or not self.stop_on_kill or self.task_instance is None:
            return
        kill = asyncio.create_task(self._kill())
        _KILLS.add(kill)
        kill.add_done_callback(_KILLS.discard)
        # Airflow's patience with us may end before the job is told to stop, which must happen none the less.
        await asyncio.shield(kill)

    async def _kill(self) -> None:
        try:
            wanted = await asyncio.wait_for(self._is_still_wanted(), KILL_PATIENCE)
        except Exception as error:  # noqa: BLE001 -- whatever it is: not knowing is no reason to stop a training
            self.log.warning(
                f"Whether job {self.job_id} is still wanted could not be found out, so it goes on: {describe(error)}"
            )
            return
        if not wanted:
            await self._stop()

    async def _is_still_wanted(self) -> bool:
        """Whether a live deferral waits for this very job.

        Airflow 3.3 calls ``on_kill`` also where a triggerer that stalled has lost the trigger to another one, and the
        job must go on then. After a clear the new try may be deferred already, but with another job.
        """
        from airflow.sdk.execution_time.xcom import XCom
        from asgiref.sync import sync_to_async

        ti: Any = self.task_instance
        if await sync_to_async(state_of)(ti) != "deferred":
            return False
        place = {"dag_id": ti.dag_id, "task_id": ti.task_id, "run_id": ti.run_id, "map_index": ti.map_index}
        return bool(await sync_to_async(XCom.get_one)(key=JOB_ID_KEY, **place) == self.job_id)

    async def _stop(self) -> None:
        outage = Outage(KILL_PATIENCE, self.log.warning, longest_wait=LONGEST_KILL_WAIT)
        while True:
            try:
                async with await self._open() as follower:
                    await follower.stop()
            except Exception as error:  # noqa: BLE001 -- tried again until the patience with a kill ends
                pause = outage.failed(error)
                if pause is None:
                    self.log.error(f"Job {self.job_id} could not be told to stop: {describe(error)}")  # noqa: TRY400
                    return
                await asyncio.sleep(pause)
            else:
                self.log.info(f"Job {self.job_id} was told to stop.")
                return
