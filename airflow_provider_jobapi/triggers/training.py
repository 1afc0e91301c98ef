# SPDX-License-Identifier: Apache-2.0
"""Follow one job from the triggerer: show its log, keep its deadline, stop it when a user ends the task."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_jobapi.exceptions import describe
from airflow_provider_jobapi.services.follow import Deadline, End, Limits, follow, stop_job
from airflow_provider_jobapi.training.masking import Masker
from airflow_provider_jobapi.triggers.collector import leave_out_modules
from airflow_provider_jobapi.triggers.event import TrainingEvent
from airflow_provider_jobapi.triggers.pace import Pace
from airflow_provider_jobapi.triggers.task_log import TaskLog
from airflow_provider_jobapi.triggers.task_state import waits_for
from airflow_provider_jobapi.triggers.xcom_publisher import XComPublisher
from airflow_provider_jobapi.triggers.xcom_writer import Sink, sink_of

if TYPE_CHECKING:
    from airflow_provider_jobapi.services.base import LogFollower, ScalarChunk
    from airflow_provider_jobapi.training.logs import LogChunk

JOB_ID_KEY = "training_job_id"
"""The XCom that names the job of a task. It must never change: the guard of ``on_kill`` reads it."""

_KILLS: set[asyncio.Task[None]] = set()
"""Stops that are under way; an event loop itself holds its tasks only weakly."""


class TrainingTrigger(BaseTrigger):
    """Follow a job until it is over, showing each line of its log once, in order and with its own time.

    :param conn_id: The connection, whose type names the service.
    :param job_id: The job.
    :param handle: What the service finds the job by. Airflow stores it in clear, so it holds no secret.
    :param not_before: No line is shown before this time, ISO 8601: the time of the deferral.
    :param skew: Airflow's clock minus the service's, in seconds.
    :param deadline: When following ends at the latest, ISO 8601; None for never. Absolute, so that a restart does not
        extend it.
    :param limit: What the deadline is, in the words of the error.
    :param patience: Seconds for which a service that does not answer is waited for.
    :param stop_on_kill: Whether the job is stopped when the deadline passes and when a user ends the task.
    :param metric_definitions: How metrics are found in the lines, ``[{"name": …, "regex": …}]``; None for what Keras,
        progress bars and ``key=value`` lines print.
    :param sealed: The secrets that lines must not show, as :mod:`~airflow_provider_jobapi.training.sealing` seals them.
    :param floor: The name of ``not_before`` in serialized triggers; see :meth:`serialize`.
    :param owned: The name of ``stop_on_kill`` in serialized triggers.
    :ivar sink: Writes the XComs where no triggerer has given the trigger a task instance, as on a worker.
    :ivar masker: Hides the secrets; None until the seal was opened.
    """

    limits: ClassVar[Limits] = Limits()
    pace: ClassVar[Pace] = Pace()
    """Shared by all triggers of the process."""
    kill_patience: ClassVar[float] = 300.0
    """Seconds for which a stop is tried. ``[triggerer] on_kill_timeout`` is 30; a busy triggerer may need longer."""
    shortest: ClassVar[float] = 10.0
    """Seconds after ``not_before`` that a deferral lasts at least, however short the job is."""

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
        sealed: str | None = None,
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
        self.sealed = sealed
        self.sink: Sink | None = None
        self.masker = Masker() if sealed is None else None
        self._fired = False

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments with which any triggerer makes this trigger again.

        ``not_before`` and ``stop_on_kill`` are written as ``floor`` and ``owned``, their names in the first versions.
        During an upgrade a new worker may defer to a triggerer of such a version, which knows no other names; every
        version reads these. ``sealed`` is written only where there are secrets: a triggerer that cannot hide them must
        not follow such a job.
        """
        arguments: dict[str, Any] = {
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
        if self.sealed is not None:
            arguments["sealed"] = self.sealed
        return f"{__name__}.{type(self).__name__}", arguments

    async def run(self) -> AsyncGenerator[TriggerEvent, None]:
        """Follow the job; ends with one :class:`~airflow_provider_jobapi.triggers.event.TrainingEvent`."""
        # In a task of its own: Airflow recognises a user's cancellation by a word in it, and what a follower waits for
        # may raise another CancelledError without that word, as asgiref does.
        following = asyncio.create_task(self._follow())
        try:
            event = await asyncio.shield(following)
            # Airflow closes the log of a trigger that ends, also to lines that are still on their way there.
            await self.pace.drain()
            await self._settle()
        except asyncio.CancelledError:
            following.cancel()
            await asyncio.wait([following])
            # From 3.3 on Airflow calls on_kill where a user acted; before, a cancellation is the only sign of it.
            if not hasattr(BaseTrigger, "on_kill"):
                await self._stop_unless_wanted()
            raise
        # Airflow may cancel a trigger whose event it has taken; that is no kill.
        self._fired = True
        yield TriggerEvent(event.payload())  # type: ignore[no-untyped-call]

    async def on_kill(self) -> None:
        """Stop the job: a user marked the task failed or success, cleared it, or failed the dag run."""
        await self._stop_unless_wanted()

    async def _follow(self) -> TrainingEvent:
        skew = timedelta(seconds=self.skew)
        warn = self._warn
        log = TaskLog(self.job_id, self.not_before, skew, write=self.log.info, warn=warn, pace=self.pace)
        publisher = XComPublisher(self.job_id, skew=skew, definitions=self.metric_definitions, warn=warn)

        async def start(follower: LogFollower) -> Any:
            publisher.masker = masker = await self._open_seal()
            cursor = await log.open(self.task_instance, follower, counted=self.sealed is not None, skip=masker.withhold)
            if cursor is not None:
                await publisher.resume(self.task_instance)
            publisher.begin(follower)
            return cursor

        async def take(chunk: LogChunk, follower: LogFollower) -> None:
            if self.masker is None:
                raise RuntimeError("Lines were read before the secrets in them were known.")
            if self.task_instance is not None:  # after the first read, by which everything is imported
                leave_out_modules()
            chunk = self.masker.chunk(chunk)
            publisher.on_state(chunk, follower)
            await log.show(chunk)
            await publisher.on_lines(chunk)

        async def take_scalars(chunk: ScalarChunk) -> None:
            if self.masker is not None:
                await publisher.on_scalars(self.masker.chunk(chunk))

        async def finish() -> None:
            await log.finish()
            metrics.update(await publisher.finish())

        metrics: dict[str, float | str] = {}
        at = None if self.deadline is None else datetime.fromisoformat(self.deadline)
        try:
            await publisher.open(self.sink if self.task_instance is None else sink_of(self.task_instance))
            followed = await follow(
                self._open,
                start=start,
                take=take,
                take_scalars=take_scalars,
                finish=finish,
                patience=self.patience,
                warn=warn,
                deadline=None if at is None else Deadline(at, self.limit, stop=self.stop_on_kill),
                limits=self.limits,
            )
        finally:
            log.close()
            publisher.close()
        error = "" if followed.error is None else self._masked(describe(followed.error))
        details = {End.OVER: "", End.TIMEOUT: self.limit, End.UNREACHABLE: error}
        return TrainingEvent(followed.end, self.job_id, self.handle, details[followed.end], metrics)

    async def _open(self) -> LogFollower:
        from airflow_provider_jobapi.hooks.base import TrainingHook

        return (await TrainingHook.async_service_of(self.conn_id)).follower(self.handle)

    async def _open_seal(self) -> Masker:
        """Read the secrets, once. An Airflow that does not answer is asked again, as for anything else."""
        if self.masker is None:
            from airflow_provider_jobapi.hooks.seal import async_open_seal

            secrets = await async_open_seal(str(self.sealed), self.conn_id)
            self.masker = Masker(secrets or (), withhold=secrets is None)
            if secrets is None:
                self.log.warning(
                    f"The lines of job {self.job_id} are hidden from here on: they may contain secrets, which can no "
                    f"longer be recognised, since the secret of connection {self.conn_id} was changed and this "
                    f"triggerer does not have the worker's Fernet key. Run `jobapi logs {self.job_id}` to read them."
                )
        return self.masker

    def _masked(self, text: str) -> str:
        return text if self.masker is None or self.masker.withhold else self.masker.text(text)

    def _warn(self, text: str) -> None:
        self.log.warning(self._masked(text))

    async def _settle(self) -> None:
        """Give the scheduler time to see the end of the worker that deferred.

        Airflow's supervisor may see up to 5 seconds late that its process has ended, and the scheduler later still.
        When that is after the task was resumed, the scheduler takes the resumed task for lost and fails it ("finished
        with state success, but the task instance's state attribute is running", Airflow 3.3.2 and before).
        """
        if self.task_instance is not None:
            left = datetime.fromisoformat(self.not_before) + timedelta(seconds=self.shortest) - datetime.now(UTC)
            await asyncio.sleep(min(left.total_seconds(), self.shortest))

    async def _stop_unless_wanted(self) -> None:
        if self._fired or not self.stop_on_kill or self.task_instance is None:
            return
        kill = asyncio.create_task(self._kill())
        _KILLS.add(kill)
        kill.add_done_callback(_KILLS.discard)
        # Airflow may cancel on_kill before the service has accepted the stop, which must be sent nevertheless.
        await asyncio.shield(kill)

    async def _kill(self) -> None:
        try:
            wanted = await asyncio.wait_for(self._is_still_wanted(), self.kill_patience)
        except Exception as error:  # noqa: BLE001 -- not knowing is no reason to stop a training
            self.log.warning(
                f"Airflow did not say whether job {self.job_id} is still wanted, so the job goes on: {describe(error)}"
            )
            return
        if wanted:
            return
        try:
            await stop_job(self._open, patience=self.kill_patience, warn=self.log.warning)
        except Exception as error:  # noqa: BLE001 -- no caller could handle it
            self.log.error(f"Job {self.job_id} could not be stopped: {describe(error)}")  # noqa: TRY400
        else:
            self.log.info(f"Job {self.job_id} was asked to stop.")

    async def _is_still_wanted(self) -> bool:
        """Whether a live deferral waits for this very job.

        Airflow 3.3 calls ``on_kill`` also where a triggerer that stalled has lost the trigger to another one, and the
        job must go on then. After a clear the new try may be deferred already, but with another job.
        """
        from asgiref.sync import sync_to_async

        return await sync_to_async(waits_for)(self.task_instance, JOB_ID_KEY, self.job_id)
