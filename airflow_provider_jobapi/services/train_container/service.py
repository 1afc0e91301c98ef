# SPDX-License-Identifier: Apache-2.0
"""Train API containers, from a worker."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_jobapi.exceptions import (
    JobConflict,
    JobGone,
    JobNotFound,
    NoSavedModel,
    TrainingError,
)
from airflow_provider_jobapi.services.base import FetchedModel, Handle, LogFollower, Model, Submission
from airflow_provider_jobapi.services.retry import Retry
from airflow_provider_jobapi.services.train_container import logs, names
from airflow_provider_jobapi.services.train_container.commands import Command
from airflow_provider_jobapi.services.train_container.connection import TrainConnection
from airflow_provider_jobapi.services.train_container.containers import Containers
from airflow_provider_jobapi.services.train_container.engine import Engine
from airflow_provider_jobapi.services.train_container.errors import Conflict, Missing
from airflow_provider_jobapi.services.train_container.handles import JobHandle
from airflow_provider_jobapi.services.train_container.images import Auth, Images
from airflow_provider_jobapi.services.train_container.job_status import status_of
from airflow_provider_jobapi.services.train_container.judge import Verdict
from airflow_provider_jobapi.services.train_container.launcher import Launcher
from airflow_provider_jobapi.services.train_container.outcomes import Outcomes
from airflow_provider_jobapi.services.train_container.plan import Plan, plan_of
from airflow_provider_jobapi.services.train_container.retention import Hide, Retention
from airflow_provider_jobapi.services.train_container.states import ContainerState, moment
from airflow_provider_jobapi.services.train_container.vocabulary import RunResult
from airflow_provider_jobapi.training.job import TrainingJob
from airflow_provider_jobapi.training.status import JobState, JobStatus, Reason

if TYPE_CHECKING:
    from airflow_provider_jobapi.services.files.transfers import Meters
    from airflow_provider_jobapi.services.train_container.successor import Successor, Wanted
    from airflow_provider_jobapi.training.masking import Masker

_log = logging.getLogger(__name__)

STOP_RETRY = Retry(total=10.0, attempts=4, longest_wait=2.0)
"""For a stop, which a worker may send while it is being killed."""

SKEW_SECONDS = 300.0
"""Seconds for which the difference of the clocks is kept."""


class TrainContainerService:
    """Runs trains on a container engine; see :class:`~airflow_provider_jobapi.services.base.TrainingService`.

    The model of a job is the export files of its train.

    :param environment: Returns what the station offers, secrets included; called on the worker alone.
    :param task_labels: Returns the labels of the running task, see :data:`.names.TASK_LABELS`.
    :param auth: Returns the user of a registry.
    :param retry: How each request is repeated while the engine does not answer.
    """

    keeps_checkpoints = False

    def __init__(
        self,
        connection: TrainConnection,
        engine: Engine,
        *,
        environment: Callable[[], Mapping[str, str]] = dict,
        task_labels: Callable[[], Mapping[str, str]] = dict,
        auth: Auth = lambda _: None,
        log: logging.Logger = _log,
        retry: Retry | None = None,
        meters: Meters | None = None,
        stop_retry: Retry = STOP_RETRY,
    ) -> None:
        self.connection = connection
        self.engine = engine
        self._environment = environment
        self._images = Images(engine, connection.pull, auth, retry or Retry(), log)
        self._log = log
        self._retry, self._stop_retry = retry or Retry(), stop_retry
        self._meters = meters
        self._containers = Containers(engine, self._retry, log)
        self.outcomes = Outcomes(engine, self._containers, self._retry, log, connection.largest_export)
        self.retention = Retention(connection, engine, self._containers, self.outcomes, self._retry, log)
        self._launcher = Launcher(connection, engine, self._images, environment, task_labels, self._retry, log)
        self._measured: tuple[timedelta, float] | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.connection.station!r}, {self.connection.engine!r})"

    def submit(self, job: TrainingJob, job_id: str) -> Submission:
        """Run the train of a training job. Idempotent: the same id never makes two runs.

        :raises InvalidJob: for what a train cannot be given, and where the image or its command does not exist.
        :raises JobConflict: when the id belongs to a job with other content.
        """
        return self.launch(plan_of(job), job_id)

    def launch(self, plan: Plan, job_id: str) -> Submission:
        """Run a command of a train; as :meth:`submit` otherwise."""
        handle = JobHandle(job_id, names.container_name(job_id), plan.command.value)
        if self._containers.end_of(job_id) is not None:
            return Submission(handle.to_json(), self._skew())
        launch = self._launcher.prepare(plan, job_id)
        self._containers.claim(job_id, launch.config, lambda: self._launcher.fill(launch, plan, job_id), launch.volume)
        self.retention.sweep()
        return Submission(handle.to_json(), self._skew(), launch.inputs)

    def find(self, job_id: str) -> Submission:
        """Find a job by its id. A container that was claimed and never started is removed, and counts as unknown.

        :raises JobNotFound: when the id was never used.
        :raises JobGone: when its container was removed, and nothing says how it ended.
        """
        found = self._containers.find(names.container_name(job_id))
        if found is not None and found.labels.get(names.JOB_ID) == job_id:
            command = found.labels.get(names.COMMAND, Command.RUN_ALGORITHM.value)
            handle = JobHandle(job_id, found.name, command).to_json()
            if found.was_started or not self._containers.give_up(found, job_id):
                return Submission(handle, self._skew())
            if (stop := self._containers.stop_reason(job_id)) is not None:
                self._containers.keep_end(job_id, status_of(found, None, stop))
                return Submission(handle, timedelta(0))
            self._containers.forget_start(job_id)
        elif (labels := self._containers.record(names.started_record(job_id))) is not None:
            command = labels.get(names.COMMAND) or Command.RUN_ALGORITHM.value
            handle = JobHandle(job_id, names.container_name(job_id), command).to_json()
            self.status(handle)  # raises JobGone
            return Submission(handle, timedelta(0))
        elif (earlier := self._containers.adopted_by(job_id)) is not None:
            return self.find(earlier)
        raise JobNotFound(f"The engine {self.engine.where} has no job with the id {job_id}.")

    def status(self, handle: Handle) -> JobStatus:
        """Return the state of the job. One that has run for longer than its ``completionTime`` is stopped.

        :raises JobGone: when its container was removed, and nothing says how it ended.
        """
        found = JobHandle.of(handle)
        container = self._container(found)
        if container is None:
            return self.retention.last_status(found)
        if not container.ended and self.is_overdue(container):
            self.stop_overdue(found, container)
            container = self._container(found) or container
        return self.outcomes.status(container)

    def verdict(self, handle: Handle) -> Verdict:
        """Return how a command ended, with its response.

        :raises JobConflict: when it has not ended.
        :raises JobGone: when its container was removed.
        """
        return self.outcomes.verdict(self._ended(handle))

    def masker(self, handle: Handle) -> Masker:
        """Return what hides the station's secrets in what a command that has ended says.

        :raises JobGone: when its container was removed.
        """
        return self.retention.masker(self._ended(handle))

    def kept_result(self, handle: Handle) -> dict[str, Any] | None:
        """Return what was kept of a job whose container was removed, see :meth:`release`; None where it is there."""
        return self.retention.kept_result(JobHandle.of(handle))

    def release(
        self,
        handle: Handle,
        result: Mapping[str, Any] | None = None,
        hide: Hide | None = None,
    ) -> None:
        """Remove the container and the data of a job that has ended. How it ended stays known, without secrets.

        :param result: What to keep of it.
        :param hide: Hides more in what is kept than what the container had in its environment.
        :raises JobConflict: when it has not ended.
        """
        try:
            container = self._ended(handle)
        except JobGone:
            return
        self.retention.remove(container, result, hide)

    def delete(self, handle: Handle) -> None:
        """Remove the container of a job that has ended; as :meth:`release`, under the name of other services."""
        self.release(handle)

    def successor(self, handle: Handle, wanted: Wanted) -> Successor:
        """Make the successor image of a train that was run.

        :raises JobConflict: when it has not ended.
        :raises NoSavedModel: when the run was not successful.
        """
        from airflow_provider_jobapi.services.train_container.successor import make_successor

        container = self._ended(handle)
        answer = self.outcomes.verdict(container).answer
        if not self.outcomes.verdict(container).ok or not isinstance(answer, RunResult):
            raise NoSavedModel(f"There is no successor image: {self.retention.public_status(container).describe()}")
        if wanted.largest is None:
            wanted = replace(wanted, largest=self.connection.largest_export)
        if wanted.hide is None:
            wanted = replace(wanted, hide=self.retention.masker(container).text)
        return self._retry.call(lambda: make_successor(self.engine, container, answer, wanted, self._images), self._log)

    def check_successor(self, wanted: Wanted, train: str) -> None:
        """Refuse a successor that cannot be, whatever the train answers, before the train is run.

        :param train: The train's image.
        :raises InvalidJob: naming the parameter.
        """
        wanted.check(train)
        if wanted.base:
            self._images.ensure(wanted.base)

    def adopt(self, plan: Plan, job_id: str, earlier: Handle) -> bool:
        """Let a job be an earlier one, whose run was the same and successful, and of which nobody has the result.

        :returns: Whether that was so; if not, nothing was done.
        """
        found = JobHandle.of(earlier)
        container = self._container(found)
        if container is None or not container.ended or self._containers.end_of(found.job_id) is not None:
            return False
        if not self.outcomes.verdict(container).ok or not self._launcher.prepare(plan, job_id).is_same_run(container):
            return False
        self._containers.note_adoption(job_id, found.job_id)
        return True

    def is_adopted(self, job_id: str) -> bool:
        """Whether a job is an earlier one, see :meth:`adopt`."""
        return self._containers.adopted_by(job_id) is not None

    def note_end(self, handle: Handle, hide: Hide | None = None) -> None:
        """Record that the result of a job that has ended was taken, and leave its container.

        :param hide: As for :meth:`release`.
        """
        self.retention.note_end(self._ended(handle), hide)

    def last_lines(self, handle: Handle, count: int) -> tuple[str, ...]:
        """Return the last lines of the container's log, at most ``count``; none where they cannot be read."""
        try:
            return logs.last_lines(self.engine, JobHandle.of(handle).container, count)
        except TrainingError as error:
            self._log.warning(f"The last log lines of job {handle.get('job_id')} cannot be read: {error}")
            return ()

    def stop(self, handle: Handle) -> None:
        """Stop the container; no error if it has ended or is gone. Safe for signal handlers."""
        self.end(JobHandle.of(handle), Reason.STOPPED, "It was stopped by Airflow.")

    def is_overdue(self, container: ContainerState) -> bool:
        """Whether a container has run for longer than its job may."""
        seconds = container.labels.get(names.SECONDS)
        if not seconds or container.started is None:
            return False
        return datetime.now(UTC) - self._skew() - container.started > timedelta(seconds=float(seconds))

    def stop_overdue(self, handle: JobHandle, container: ContainerState) -> None:
        """Stop a container that has run for longer than its job may."""
        seconds = timedelta(seconds=float(container.labels[names.SECONDS]))
        self.end(
            handle, Reason.COMPLETION_TIME_EXCEEDED, f"It has run for longer than its completionTime of {seconds}."
        )

    def end(self, handle: JobHandle, reason: str, message: str) -> None:
        """Stop a container, and record why before. One that was never started is removed."""
        container = self._stop_retry.call(lambda: self._container(handle))
        if container is None or container.ended:
            return
        self._stop_retry.call(lambda: self._containers.note_stop(handle.job_id, reason, message))
        if not container.was_started and self._containers.give_up(container, handle.job_id):
            self._containers.keep_end(handle.job_id, status_of(container, None, (reason, message)))
            return
        try:
            if container.word == "paused":  # a process that is frozen gets no signal
                self._stop_retry.call(lambda: self.engine.unpause(container.id))
            self._stop_retry.call(lambda: self.engine.stop(container.id, round(self.connection.grace)))
        except (Missing, Conflict):
            return

    def model(self, handle: Handle) -> Model | None:
        """Return the export files of the train; None where it exported none.

        :raises JobGone: when the container was removed.
        """
        from airflow_provider_jobapi.services.train_container.exports import as_model

        exports = self.outcomes.exports(self._ended(handle))
        if not exports:
            return None
        kind, root, keys = as_model(exports)
        return Model(kind, tuple(keys), root)

    def fetch_model(
        self, handle: Handle, destination: Any, version: str | int | None = None, kind: str | None = None
    ) -> FetchedModel:
        """Fetch the export files of the train into ``<destination>/<version>/``, completely or not at all.

        :raises NoSavedModel: when it exported none, or none of this kind.
        :raises JobConflict: when the job has not ended, or the destination has another model.
        """
        from airflow_provider_jobapi.services.files.destinations import destination_of
        from airflow_provider_jobapi.services.files.models import check_kind, fetch
        from airflow_provider_jobapi.services.train_container.exports import ExportStore, as_model, hashed

        container = self._ended(handle)
        state = self.retention.public_status(container)
        exports = self.outcomes.exports(container)
        if not exports:
            why = state.describe() if state.status is not JobState.SUCCESSFUL else ""
            more = "a train names them in export_files of its response."
            raise NoSavedModel(
                f"There is no model to fetch: {why}" if why else f"Job {state.job_id} exported no files: {more}"
            )
        found_kind, _, keys = as_model(exports)
        check_kind(state.job_id, kind, found_kind)
        exports = self._retry.call(lambda: hashed(self.engine, container.id, exports), self._log)
        _, _, keys = as_model(exports)
        ended = state.finish_time or state.start_time or state.submission_time
        named = str(max(1, int(ended.timestamp()))) if version is None and ended else str(version or 1)
        store = ExportStore(self.engine, container.id, exports)
        place = destination_of(destination, named)
        return fetch(state.job_id, keys, place, lambda: store, self._retry, self._log, self._meters, found_kind)

    def follower(self, handle: Handle) -> LogFollower:
        """Return a follower of this job for the triggerer."""
        from airflow_provider_jobapi.services.train_container.follower import TrainContainerFollower

        worker = TrainContainerService(self.connection, self.engine, log=self._log, retry=Retry(attempts=1))
        return TrainContainerFollower(self.connection, self.engine, handle, worker)

    def offered(self) -> dict[str, str]:
        """Return what the station offers, secrets included. Reads Airflow's variables, so not for a triggerer."""
        return dict(self._environment())

    def _container(self, handle: JobHandle) -> ContainerState | None:
        found = self._containers.find(handle.container)
        return None if found is None or found.labels.get(names.JOB_ID) != handle.job_id else found

    def _ended(self, handle: Handle) -> ContainerState:
        found = JobHandle.of(handle)
        container = self._container(found)
        if container is None:
            self.retention.last_status(found)
            raise JobGone(f"The container of job {found.job_id} was removed, and its files with it.")
        if not container.ended:
            raise JobConflict(f"Job {found.job_id} has not ended; wait for its end.")
        return container

    def _skew(self) -> timedelta:
        """Return the clock of this machine minus the engine's; a local engine has the same one."""
        if self.connection.is_local:
            return timedelta(0)
        if self._measured is None or time.monotonic() - self._measured[1] > SKEW_SECONDS:
            before = datetime.now(UTC)
            theirs = moment(self._retry.call(self.engine.now, self._log))
            after = datetime.now(UTC)
            skew = timedelta(0) if theirs is None else before + (after - before) / 2 - theirs
            self._measured = skew, time.monotonic()
        return self._measured[0]
