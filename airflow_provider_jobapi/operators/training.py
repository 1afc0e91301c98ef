# SPDX-License-Identifier: Apache-2.0
"""Submits a training job, or finds the one that an earlier try submitted, and sees it to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_jobapi._airflow import AirflowFailException, conf
from airflow_provider_jobapi.exceptions import (
    InvalidJob,
    JobConflict,
    JobStopped,
    NoSavedModel,
    ServiceUnavailable,
    TrainingError,
)
from airflow_provider_jobapi.links.model import ModelLink
from airflow_provider_jobapi.links.training import TrainingLink
from airflow_provider_jobapi.operators.lineage import TrainingLineage

if TYPE_CHECKING:
    from airflow.sdk import Context, ObjectStoragePath

    from airflow_provider_jobapi.operators.parameters import Parameters
    from airflow_provider_jobapi.operators.record import Placed
    from airflow_provider_jobapi.services.base import FetchedModel, Handle, Submission, TrainingService
    from airflow_provider_jobapi.training.identity import Cycle
    from airflow_provider_jobapi.training.job import DataSource
    from airflow_provider_jobapi.training.status import JobState, JobStatus
    from airflow_provider_jobapi.triggers.training import TrainingTrigger


SETTLE = timedelta(seconds=3)
"""How long a worker that defers still writes lines, into a group that the UI folds; the job's lines are shown below."""


class _Killed(BaseException):
    """Ends an upload or a submit from inside the signal handler; no ``except Exception`` on the way may hold it."""


class SubmitTrainingOperator(TrainingLineage):
    """Train a model on a job service.

    The connection decides which service does the work. A retry goes on with the job of the try before, unless that
    job failed; a clear trains anew; the same job never runs twice.

    The task's result is ``{"job_id": …, "status": "SUCCESSFUL", "model": location or None, "metrics": {name: last
    value}, "data_version": SHA-256 or None}``.

    :param conn_id: The connection to the job service.
    :param script: The training script: source text, a ``Path``, or the name of a ``.py`` file beside the DAG file.
        Read when the task runs, and never a template, since ``{{`` is legal Python.
    :param job_name: The job's name; by default made of the dag id and the task id. (templated)
    :param env: ``[{"name": …, "value": …}]``, a mapping, or JSON text. Each reaches the script as ``--name=value``,
        the name in lower case, and as an environment variable. (templated)
    :param image: The container image, where the service runs containers. (templated)
    :param completion_time: The time that the service allows for the run, such as ``"20h"``. (templated)
    :param job_resources: ``{"cpus": …, "gpus": …, "memory": megabytes}``. (templated)
    :param requirements: What to install first, one pip requirement a line, or a list of them. (templated)
    :param python_major_version: 2 or 3.
    :param data_input: ``{file name: content}``: a text, bytes, a ``Path`` or an ``ObjectStoragePath``, whose content is
        uploaded for the script. A text is always content, never the name of a file. (templated)
    :param service_options: What only the connection's kind of service knows, in its own words. (templated)
    :param config: Headers that override the parameters of the same name, in our spelling or in the one of the jobAPI's
        documents, such as ``{"completionTime": "2h"}``. Others are ignored. (templated)
    :param destination: A directory, as a path or a URI: where the SavedModel is fetched to. None fetches none.
        (templated)
    :param version: The directory's name beneath ``destination``; by default the Unix time of the job's end.
    :param timeout: The time from the submit after which the job is stopped, its wait in the queue included: a
        ``timedelta`` or seconds. ``execution_timeout`` is kept as well, also while the task is deferred.
    :param patience: How long a service that does not answer is waited for: a ``timedelta`` or seconds.
    :param metric_definitions: ``[{"name": …, "regex": …}]`` as SageMaker has them: how metrics are found in the log's
        lines, the value being the regex's one group. By default what Keras, progress bars and ``key=value`` lines say.
    :param deferrable: Whether to wait in the triggerer, which takes no worker slot. What is shown and kept is the same.
    :raises JobFailed: when the job failed; with its reason and its last lines.
    """

    template_fields: Sequence[str] = (
        "job_name",
        "image",
        "env",
        "completion_time",
        "job_resources",
        "requirements",
        "data_input",
        "service_options",
        "config",
        "destination",
    )
    # A value that ends in .py or .yaml is a value; Airflow would read a file in its place.
    template_ext: Sequence[str] = ()
    template_fields_renderers = {"env": "json", "job_resources": "json", "config": "json"}  # noqa: RUF012 -- Airflow's
    operator_extra_links = (TrainingLink(), ModelLink())
    ui_color = "#dcecf7"

    def __init__(
        self,
        *,
        conn_id: str = "jobapi_default",
        script: str | Path | ObjectStoragePath,
        job_name: str | None = None,
        env: Sequence[Mapping[str, Any]] | Mapping[str, Any] | str | None = None,
        image: str = "tensorflow/tensorflow:latest",
        completion_time: str | float = "24h",
        job_resources: Mapping[str, int] | str | None = None,
        requirements: str | Sequence[str] | None = None,
        python_major_version: int = 3,
        data_input: Mapping[str, DataSource] | str | None = None,
        service_options: Mapping[str, Any] | str | None = None,
        config: Mapping[str, Any] | str | None = None,
        destination: str | ObjectStoragePath | None = None,
        version: str | None = None,
        timeout: timedelta | float | None = None,
        patience: timedelta | float = 600.0,
        metric_definitions: Sequence[Mapping[str, str]] | None = None,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.conn_id = conn_id
        self.script = script
        self.job_name = job_name
        self.env = env
        self.image = image
        self.completion_time = completion_time
        self.job_resources = job_resources
        self.requirements = requirements
        self.python_major_version = python_major_version
        self.data_input = data_input
        self.service_options = service_options
        self.config = config
        self.destination = destination
        self.version = version
        self.timeout = timeout
        self.patience = patience
        self.metric_definitions = metric_definitions
        self.deferrable = deferrable
        self._service: TrainingService | None = None
        self._cycle: Cycle | None = None
        self._handle: Handle | None = None
        self._placing = False
        self._killed = False

    def execute(self, context: Context) -> dict[str, Any]:
        """Submit the job, or adopt the one of an earlier try, and follow it to its end."""
        from airflow_provider_jobapi.operators.context import is_unwanted
        from airflow_provider_jobapi.operators.record import tell_facts
        from airflow_provider_jobapi.triggers.training import JOB_ID_KEY

        self._placing = True
        try:
            placed = self._place(context)
            self._handle = placed.submission.handle
        except _Killed:
            self._stop()
            raise JobStopped("The task was killed while its job was being submitted; nothing of it runs on.") from None
        finally:
            self._placing = False
        context["ti"].xcom_push(key=JOB_ID_KEY, value=placed.job_id)
        trigger = self._trigger(placed, context)
        if self._killed or is_unwanted(context["ti"]):
            self._stop()
            raise JobStopped(f"The task was ended while it submitted job {placed.job_id}, which was told to stop.")
        tell_facts(context, placed, self._parameters()[0], self.conn_id)
        if self.deferrable:
            self.defer(trigger=trigger, method_name="execute_complete")
        trigger.sink = lambda key, value: context["ti"].xcom_push(key=key, value=value)
        return self.execute_complete(context, asyncio.run(first_event(trigger)))

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> dict[str, Any]:
        """Read how the job ended, fetch its model where a destination is given, and say both."""
        from airflow_provider_jobapi.lineage.events import announce
        from airflow_provider_jobapi.operators.record import record_end
        from airflow_provider_jobapi.operators.result import judge
        from airflow_provider_jobapi.triggers.event import End, TrainingEvent

        told = TrainingEvent.read(event)
        self._handle = told.handle
        service = self._connect(patient=told.end is not End.UNREACHABLE)

        def see(status: JobStatus) -> None:
            self._seen = told.job_id, status, told.metrics
            record_end(context, told.job_id, status)

        try:
            status = judge(service, told, killed=self._killed, seen=see)
        except ServiceUnavailable:
            # A retry would find the job again; without one, nobody would ever stop it.
            if context["ti"].try_number > context["ti"].max_tries:
                self._stop()
            raise
        self.log.info(f"Job {told.job_id} was successful. {status.message}".rstrip())
        self._model = model = self._fetch(service, told.handle)
        result = {
            "job_id": told.job_id,
            "status": status.status.value,
            "model": model and model.location,
            "metrics": told.metrics,
            "data_version": status.data_version,
        }
        announce(self, context, result, model)
        return result

    def on_kill(self) -> None:
        """Stop the job, since the task was killed on its worker.

        Runs inside a signal handler, maybe within a running event loop: only the synchronous service will do.
        """
        self._killed = True
        if self._placing:
            # Which job to stop is not known yet, and a submit may be on its way: execute() looks after it.
            raise _Killed
        self._stop()

    def render_template(
        self, content: Any, context: Context, jinja_env: Any = None, seen_oids: set[int] | None = None
    ) -> Any:
        """Leave a path, and a text that holds no template, as they are.

        Jinja cuts a text's last newline and turns CRLF into LF, which data may not suffer, and a native environment
        makes numbers of texts; Airflow 3.1 calls ``resolve`` on a path.
        """
        env = jinja_env or self.get_template_env()
        marks = (env.variable_start_string, env.block_start_string, env.comment_start_string)
        if isinstance(content, Path) or (isinstance(content, str) and not any(mark in content for mark in marks)):
            return content
        return super().render_template(content, context, env, seen_oids)

    def _connect(self, *, patient: bool = True) -> TrainingService:
        """The service; an impatient one, where the patience is used up or a signal leaves no time for it."""
        from airflow_provider_jobapi.hooks.base import TrainingHook

        if self._service is None or not patient:
            patience = (_span(self.patience) or timedelta()).total_seconds() if patient else None
            self._service = TrainingHook.service_of(self.conn_id, patience)
        return self._service

    def _place(self, context: Context) -> Placed:
        """The job of this try, submitted or found."""
        from airflow_provider_jobapi.operators.context import cycle_of
        from airflow_provider_jobapi.operators.record import Placed
        from airflow_provider_jobapi.training.identity import walk

        self._cycle = cycle = cycle_of(context)
        service = self._connect()
        seen: dict[str, tuple[Submission, JobStatus]] = {}

        def look_up(job_id: str) -> JobState:
            submission = service.find(job_id)
            seen[job_id] = submission, service.status(submission.handle)
            return seen[job_id][1].outlook

        place = walk(cycle, look_up)
        if place.state is None:
            if place.generation == 0 and context["ti"].try_number > 1:
                self._stop_what_was_cleared(service, cycle, look_up)
            name, submission = self._submit(service, place.job_id, place.generation, context)
            return Placed(place.job_id, name, place.generation, submission, datetime.now(UTC))
        submission, status = seen[place.job_id]
        self.log.info(
            f"Job {place.job_id} ({status.name}) of generation {place.generation} is {place.state} already; "
            "this try goes on with it."
        )
        submitted = None if status.submission_time is None else status.submission_time + submission.skew
        submitted = submitted or datetime.now(UTC)
        return Placed(place.job_id, status.name, place.generation, submission, submitted, status.data_version)

    def _stop_what_was_cleared(
        self, service: TrainingService, cycle: Cycle, look_up: Callable[[str], JobState]
    ) -> None:
        """Stop a job of before the clear.

        Its trigger does so, too, but only one that ran: between the deferral and the triggerer's taking it up, and
        where no triggerer lives, Airflow drops a trigger without a word.
        """
        from airflow_provider_jobapi.training.identity import walk

        for earlier in cycle.earlier():
            place = walk(earlier, look_up)
            if place.state is not None and not place.state.ended:
                service.stop(service.find(place.job_id).handle)
                self.log.info(f"Job {place.job_id} of before the clear was told to stop.")

    def _submit(
        self, service: TrainingService, job_id: str, generation: int, context: Context
    ) -> tuple[str, Submission]:
        """The job's name, and where it is."""
        from airflow_provider_jobapi.operators.parameters import default_name

        ti = context["ti"]
        try:
            parameters, ignored = self._parameters()
            if ignored:
                self.log.info(f"config: {', '.join(ignored)} name no parameter and are ignored.")
            parameters.definitions()
            job = parameters.job(default_name(ti.dag_id, ti.task_id, ti.map_index), Path(context["dag"].fileloc).parent)
            submission = service.submit(job, job_id)
        except InvalidJob as error:
            raise AirflowFailException(str(error)) from None
        except JobConflict:
            submission = service.find(job_id)
            self.log.info(f"Job {job_id} of generation {generation} was there already; this try goes on with it.")
            return job.name, submission
        self.log.info(f"Job {job_id} ({job.name}) of generation {generation} was submitted over {self.conn_id}.")
        return job.name, submission

    def _parameters(self) -> tuple[Parameters, list[str]]:
        from airflow_provider_jobapi.operators.parameters import Parameters

        given = Parameters(
            script=self.script,
            job_name=self.job_name,
            env=self.env,
            image=self.image,
            completion_time=self.completion_time,
            job_resources=self.job_resources,
            requirements=self.requirements,
            python_major_version=self.python_major_version,
            data_input=self.data_input,
            service_options=self.service_options,
            destination=self.destination,
            metric_definitions=self.metric_definitions,
        )
        return given.overridden(self.config, self.conn_id)

    def _trigger(self, placed: Placed, context: Context) -> TrainingTrigger:
        from airflow_provider_jobapi.triggers.training import TrainingTrigger

        limits = [
            (began + span, f"{name} of {span}")
            for name, began, span in (
                ("timeout", placed.submitted, _span(self.timeout)),
                ("execution_timeout", context["ti"].start_date or placed.submitted, self.execution_timeout),
            )
            if span is not None
        ]
        deadline, limit = min(limits, default=(None, "deadline"))
        return TrainingTrigger(
            conn_id=self.conn_id,
            job_id=placed.job_id,
            handle=placed.submission.handle,
            not_before=(datetime.now(UTC) + (SETTLE if self.deferrable else timedelta())).isoformat(
                timespec="milliseconds"
            ),
            skew=placed.submission.skew.total_seconds(),
            deadline=None if deadline is None else deadline.isoformat(),
            limit=limit,
            patience=(_span(self.patience) or timedelta()).total_seconds(),
            metric_definitions=self._definitions(),
        )

    def _definitions(self) -> list[dict[str, str]] | None:
        try:
            return self._parameters()[0].definitions()
        except InvalidJob as error:
            # The job of an earlier try goes on, whatever was written into the DAG since.
            self.log.warning(f"{error} No metrics are read but those of the helper.")
            return []

    def _fetch(self, service: TrainingService, handle: Handle) -> FetchedModel | None:
        from airflow.sdk import ObjectStoragePath

        destination = self._parameters()[0].destination
        if not destination:
            return None
        try:
            return service.fetch_model(handle, ObjectStoragePath(str(destination)), self.version)
        except NoSavedModel as error:
            # Any other error may be tried again: a retry only fetches, where a clear would train anew.
            raise AirflowFailException(str(error)) from None

    def _stop(self) -> None:
        from airflow_provider_jobapi.training.identity import walk

        try:
            handle = self._handle
            service = self._connect(patient=handle is not None)
            if handle is None and self._cycle is not None:
                place = walk(self._cycle, lambda job_id: service.status(service.find(job_id).handle).outlook)
                handle = None if place.state is None else service.find(place.job_id).handle
            if handle is not None:
                service.stop(handle)
                self.log.info("The job was told to stop.")
        except TrainingError as error:
            self.log.warning(f"The job could not be told to stop: {error}")


async def first_event(trigger: TrainingTrigger) -> dict[str, Any]:
    """The trigger's one event, without a triggerer."""
    async with aclosing(trigger.run()) as events:
        event = await anext(events)
    payload: dict[str, Any] = event.payload
    return payload


def _span(value: timedelta | float | None) -> timedelta | None:
    return value if value is None or isinstance(value, timedelta) else timedelta(seconds=value)
