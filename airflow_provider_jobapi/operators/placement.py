# SPDX-License-Identifier: Apache-2.0
"""Find, adopt, submit and stop the job of a task instance."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_jobapi._airflow import AirflowFailException, AirflowTaskTimeout
from airflow_provider_jobapi.exceptions import InvalidJob, JobConflict, JobStopped, TrainingError
from airflow_provider_jobapi.hooks.base import TrainingHook
from airflow_provider_jobapi.operators.termination import Termination
from airflow_provider_jobapi.services.base import OffersEnvironment
from airflow_provider_jobapi.training.identity import Cycle, Place, walk
from airflow_provider_jobapi.training.job import SYSTEM_VARIABLES
from airflow_provider_jobapi.training.status import JobState
from airflow_provider_jobapi.training.units import read_span
from airflow_provider_jobapi.triggers.task_state import is_ended, state_of

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_jobapi.operators.parameters import Parameters
    from airflow_provider_jobapi.services.base import Handle, Submission, TrainingService
    from airflow_provider_jobapi.training.job import TrainingJob
    from airflow_provider_jobapi.training.status import JobStatus

_log = logging.getLogger(__name__)


LAST_LOOK = 2.0
"""Seconds for which a request is repeated after the patience with the service is over."""


class PlacingInterrupted(BaseException):
    """Ends an upload or a submit of a job that nobody wants; no ``except Exception`` on the way may catch it."""


@dataclass(frozen=True, slots=True)
class Placed:
    """The job of a try.

    :ivar submitted: When it was submitted, by this machine's clock.
    :ivar data_version: The SHA-256 over its data, where the service reports it.
    """

    job_id: str
    name: str
    generation: int
    submission: Submission
    submitted: datetime
    data_version: str | None = None


class Placement:
    """Brings a task instance to its one job on the service.

    :param conn_id: The connection.
    :param patience: Seconds for which each request waits for a service that cannot be reached.
    :param log: The task's logger.
    :param ti: The task instance.
    :param before_submit: Called with the job's id before a job is submitted under it.
    :ivar handle: The job, once it is known.
    """

    def __init__(
        self,
        conn_id: str,
        patience: float,
        log: Any,
        ti: Any,
        before_submit: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.handle: Handle | None = None
        self._conn_id = conn_id
        self._patience = patience
        self._log = log
        self._before_submit = before_submit
        self._cycle: Cycle | None = None
        self._placing = False
        self._service: TrainingService | None = None
        self._termination = Termination(ti, log, self._stop_unwanted)

    @property
    def unwanted(self) -> bool:
        """Whether this process was asked to end a task that nobody wants any more."""
        return self._termination.unwanted

    def service(self, *, patient: bool = True) -> TrainingService:
        """The service of the connection.

        :param patient: False where a terminated worker has no time to wait.
        """
        if self._service is None or not patient:
            self._service = TrainingHook.service_of(self._conn_id, self._patience if patient else None)
        return self._service

    def offered(self) -> tuple[str, ...]:
        """The values of the environment variables that the service itself gives to its jobs."""
        service = self.service()
        return tuple(service.offered().values()) if isinstance(service, OffersEnvironment) else ()

    def last_look(self) -> TrainingService:
        """The service, for questions after the patience was already waited for."""
        self._service = TrainingHook.service_of(self._conn_id, min(self._patience, LAST_LOOK))
        return self._service

    def place(self, cycle: Cycle, try_number: int, parameters: Parameters) -> Placed:
        """Adopt the job of an earlier try, or submit the next generation.

        :raises AirflowFailException: when the parameters are no valid job.
        :raises JobStopped: when the task is killed meanwhile; its job is stopped first.
        """
        self._cycle = cycle
        self._placing = True
        try:
            placed = self._place(cycle, try_number, parameters)
            self.handle = placed.submission.handle
        except PlacingInterrupted:
            self.stop()
            raise JobStopped("The task was killed while it submitted its job. No job of this try runs on.") from None
        finally:
            self._placing = False
        return placed

    def kill(self) -> None:
        """Stop the job when a limit of the task has passed; in the SIGTERM handler, when nobody wants the task.

        :raises PlacingInterrupted: while an unwanted job is being placed. Which job to stop is not known yet, and a
            submit may be on its way; :meth:`place` stops it.
        """
        if isinstance(sys.exc_info()[1], AirflowTaskTimeout):  # Airflow's own timer; there is no signal
            self.stop()
        elif not self.unwanted:
            self._termination.begin()
        elif self._placing:
            raise PlacingInterrupted

    def leave(self) -> None:
        """Leave the job, which has ended or which the trigger follows: no SIGTERM of this worker stops it any more."""
        self._termination.leave()

    def _stop_unwanted(self) -> None:
        if not self._placing:
            self._service = None  # the thread of the task goes on using its own
            self.stop()
        elif callable(signal.getsignal(signal.SIGTERM)):
            # To the handler again, and so to :meth:`kill`: an upload or a submit ends by an exception in its thread.
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)

    def stop(self) -> None:
        """Stop the job, if there is one. A service that cannot be asked is only logged."""
        try:
            service = self.service(patient=self.handle is not None)
            if self.handle is None and self._cycle is not None:
                _, found = _walk(service, self._cycle)
                self.handle = found and found[0].handle
            if self.handle is not None:
                service.stop(self.handle)
                self._log.info("Requested the stop of the job.")
        except TrainingError as error:
            self._log.warning(f"The stop of the job could not be requested: {error}")

    def _place(self, cycle: Cycle, try_number: int, parameters: Parameters) -> Placed:
        service = self.service()
        place, found = _walk(service, cycle)
        if found is not None:
            return self._adopt(place, *found)
        if place.generation == 0 and try_number > 1:
            self._stop_earlier_cycles(service, cycle)
        return self._submit(service, place, parameters)

    def _adopt(self, place: Place, submission: Submission, status: JobStatus) -> Placed:
        self._log.info(
            f"Job {place.job_id} ({status.name}) of generation {place.generation} is {place.state} already; "
            "this try goes on with it."
        )
        submitted = None if status.submission_time is None else status.submission_time + submission.skew
        submitted = submitted or datetime.now(UTC)
        return Placed(place.job_id, status.name, place.generation, submission, submitted, status.data_version)

    def _stop_earlier_cycles(self, service: TrainingService, cycle: Cycle) -> None:
        """Stop a job from before the clear.

        Its trigger does so too, but only one that has started: between the deferral and the start of the trigger, and
        where no triggerer runs, Airflow drops a trigger silently.
        """
        for earlier in cycle.earlier():
            place, found = _walk(service, earlier)
            if found is not None and place.state is not None and not place.state.ended:
                service.stop(found[0].handle)
                self._log.info(f"Requested the stop of job {place.job_id}, submitted before the task was cleared.")

    def _submit(self, service: TrainingService, place: Place, parameters: Parameters) -> Placed:
        job_id, generation = place.job_id, place.generation
        try:
            if "version" in parameters.ignored_headers:
                self._log.warning(
                    "config: version was ignored. It is the version of the API, which the connection says: set its "
                    "extra `version` there."
                )
            if parameters.ignored_headers:
                self._log.info(f"config: ignored {', '.join(parameters.ignored_headers)}, which name no parameter.")
            _ = parameters.metric_definitions  # an invalid one is refused before anything is submitted
            job = parameters.job
            if parameters.code is not None:
                self._log.info(f"source: {parameters.code.summary()}")
                if warning := parameters.code.warning():
                    self._log.warning(f"source: {warning}")
            if kept := [each.name for each in job.env if each.name in SYSTEM_VARIABLES]:
                self._log.warning(
                    f"env: {', '.join(kept)} reaches the script as an argument only, since the job needs its own "
                    "environment variable of that name."
                )
            if job.completion_time and read_span(job.completion_time) is None:
                self._log.warning(
                    f"completion_time {job.completion_time!r} is not a duration, so it limits nothing: write it as "
                    "20h, 1h30m, PT4H, or 10000 for seconds."
                )
            self._before_submit(job_id)
            submission = service.submit(self._with_cycle(job, service), job_id)
        except InvalidJob as error:
            raise AirflowFailException(str(error)) from None
        except JobConflict:
            # The worker of another process of this try has submitted it meanwhile, perhaps with other contents.
            submission = service.find(job_id)
            self._log.info(f"Job {job_id} of generation {generation} was there already; this try goes on with it.")
        else:
            self._log.info(f"Job {job_id} ({job.name}) of generation {generation} was submitted over {self._conn_id}.")
        return Placed(job_id, job.name, generation, submission, datetime.now(UTC))

    def _with_cycle(self, job: TrainingJob, service: TrainingService) -> TrainingJob:
        """The job with the key under which its service finds the checkpoints of the tries before."""
        from airflow_provider_jobapi.services.base import NO_CHECKPOINTS

        if getattr(service, "keeps_checkpoints", False):
            return job.model_copy(update={"cycle": self._cycle.key() if self._cycle else ""})
        if job.resume_from:
            raise InvalidJob(
                f"resume_from is set, and the service of {self._conn_id} keeps no checkpoints: leave it out, or choose "
                "another connection.",
                field="resume_from",
            )
        self._log.info(NO_CHECKPOINTS)
        return job


def _walk(service: TrainingService, cycle: Cycle) -> tuple[Place, tuple[Submission, JobStatus] | None]:
    """Walk the generations of a cycle: where the walk ended, and the job there; None where one is to be submitted."""
    seen: dict[str, tuple[Submission, JobStatus]] = {}

    def look_up(job_id: str) -> JobState:
        submission = service.find(job_id)
        seen[job_id] = submission, service.status(submission.handle)
        return seen[job_id][1].outlook

    place = walk(cycle, look_up)
    return place, None if place.state is None else seen[place.job_id]


def ended_before(service: TrainingService, cycle: Cycle) -> Iterator[Handle]:
    """Return the successful jobs of the cycles before a clear, the last one first; none where this cycle has any."""
    place, found = _walk(service, cycle)
    if found is not None or place.generation:
        return
    for earlier in reversed(list(cycle.earlier())):
        place, found = _walk(service, earlier)
        if found is not None and place.state is JobState.SUCCESSFUL:
            yield found[0].handle


def cycle_of(context: Context) -> Cycle:
    """The clear cycle of a running task instance."""
    ti = context["ti"]
    return Cycle(
        dag_id=ti.dag_id,
        run_id=ti.run_id,
        run_start=context["dag_run"].start_date,
        task_id=ti.task_id,
        map_index=-1 if ti.map_index is None else ti.map_index,
        max_tries=ti.max_tries,
    )


def is_unwanted(ti: Any) -> bool:
    """Whether a user has ended this task instance since it started.

    A worker learns that with its next heartbeat. One that defers before would leave a job that no process stops.
    """
    try:
        state = state_of(ti)
    except Exception as error:  # noqa: BLE001 -- a question that cannot be answered must not cost a training
        _log.debug("The task's state cannot be read: %r", error)
        return False
    return is_ended(state)
