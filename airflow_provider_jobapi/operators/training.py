# SPDX-License-Identifier: Apache-2.0
"""The operator that trains a model on a job service."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_jobapi._airflow import AirflowFailException, conf
from airflow_provider_jobapi.exceptions import InvalidJob, JobStopped, NoSavedModel, ServiceUnavailable
from airflow_provider_jobapi.hooks.base import DEFAULT_CONN_ID
from airflow_provider_jobapi.lineage.mixins import ServiceJob, TrainingInputs, TrainingLineage
from airflow_provider_jobapi.links.model import ModelLink
from airflow_provider_jobapi.links.training import TrainingLink
from airflow_provider_jobapi.operators.parameters import PARAMETERS, Parameters, portable
from airflow_provider_jobapi.operators.paths import check_script, check_source
from airflow_provider_jobapi.operators.spans import check_spans

if TYPE_CHECKING:
    from airflow.sdk import Context, ObjectStoragePath

    from airflow_provider_jobapi.operators.placement import Placed, Placement
    from airflow_provider_jobapi.operators.secrets import JobSecrets
    from airflow_provider_jobapi.services.base import FetchedModel, Handle, TrainingService
    from airflow_provider_jobapi.training.job import DataPath, DataSource
    from airflow_provider_jobapi.training.status import JobStatus
    from airflow_provider_jobapi.triggers.training import TrainingTrigger


class SubmitTrainingOperator(TrainingLineage):
    """Train a model on a job service.

    The connection decides which service does the work. A retry goes on with the job of the try before, unless that
    job failed; a clear trains again; the same job never runs twice.

    The task's result is ``{"job_id": …, "status": "SUCCESSFUL", "model": location or None, "metrics": {name: last
    value}, "data_version": SHA-256 or None, "model_kind": kind or None, "model_unsafe": …, "model_sha256": …}``. A
    ``model`` of None with a ``model_kind`` is a model that was left on the service; a ``model_kind`` of None means that
    the job left no model. ``model_unsafe`` is True where loading the model can run code that is in its files, as with a
    pickle, and ``model_sha256`` is there where the model was fetched.

    :param conn_id: The connection to the service.
    :param script: The training script: source text, a ``Path``, or the name of a ``.py`` file beside the DAG file.
        Read when the task runs, and never a template, since ``{{`` is legal Python. None where the service runs an
        image or an algorithm without one.
    :param source: A folder of code, which becomes the script's working directory: a ``Path``, an ``ObjectStoragePath``,
        or its name beside the DAG file, inside the DAG's bundle. What ``.gitignore`` and ``.jobapiignore`` exclude,
        caches, virtual environments and files that look like secrets are left out. With ``script``, that runs beside
        the folder's modules. (templated)
    :param entry_point: What of ``source`` is run: the path of a ``.py`` file in it, or a module, as in
        ``"-m package.train"``. By default ``train.py``, ``main.py`` or ``__main__.py``, or the only script. (templated)
    :param job_name: The job's name; by default made of the DAG's and the task's ids. (templated)
    :param env: ``[{"name": …, "value": …}]``, a mapping, or JSON text. Each reaches the script as ``--name=value``,
        the name in lower case, and as an environment variable; as an argument only where the job needs its own
        variable of that name, such as ``PATH`` or ``MODEL_DIR``. (templated)
    :param env_vars: Environment variables that are no arguments: a mapping, or a list as for ``env``. (templated)
    :param arguments: More arguments of the script, after those of ``env``; without a script, those of the image. A list
        of words; a mapping of options, as in ``{"lr": 0.1, "resume": None, "layers": [64, 32]}``, whose names are kept
        as they are; a list of both; or JSON text. (templated)
    :param image: The container image, where the service runs containers. (templated)
    :param completion_time: The time that the service allows for the run, such as ``"20h"``, or a ``timedelta``.
        (templated)
    :param job_resources: ``{"cpus": …, "gpus": …, "memory": megabytes}`` of each node. (templated)
    :param nodes: The number of machines, where the service runs a job on several. (templated)
    :param requirements: What to install first, one pip requirement a line, or a list of them; a ``Path``, or one line
        that ends in ``.txt``, ``.in``, ``.toml`` or ``.lock``, names a file beside the DAG file: a requirements.txt, a
        pyproject.toml, also with ``[extras]`` after its name, a uv.lock or a pylock.toml. By default those of
        ``source``, or what PEP 723 puts at the head of the script. (templated)
    :param python_major_version: 2 or 3. (templated)
    :param data_input: ``{file name: content}``: a text, bytes, a ``Path`` or an ``ObjectStoragePath``, whose content is
        uploaded for the script. A text is always content, never the name of a file nor a template; a template may
        make the whole mapping, as JSON text. A path may be a folder, or a glob such as ``Path("rows/*.csv")``: its
        files are below the name, under their relative paths. A path, or a list of paths, keeps its own names.
        (templated)
    :param template_data: Whether the texts in ``data_input`` are templates.
    :param resume_from: The id of an ended job, or the result of the task that trained it: the first job of this task
        finds its checkpoints in ``CHECKPOINT_DIR``. A retry always finds those of the try before; a clear begins from
        nothing, or from this job. (templated)
    :param keep_checkpoints: Whether the job's checkpoints stay on the service after its success, for a later
        ``resume_from``. (templated)
    :param service_options: Options that only this kind of service has, in its own words. (templated)
    :param config: Headers that override the parameters of the same name, also under the names of the jobAPI's
        documents, such as ``{"completionTime": "2h"}``. Others are ignored. (templated)
    :param destination: A directory, as a path or a URI, to fetch the model to, of whatever kind; None leaves it on the
        service. (templated)
    :param version: The directory's name beneath ``destination``; by default the Unix time of the job's end.
    :param timeout: The time from the submit after which the job is stopped, its wait in the queue included: a
        ``timedelta`` or seconds. ``execution_timeout`` is kept as well, also while the task is deferred.
    :param patience: How long to wait for a service that does not answer: a ``timedelta`` or seconds.
    :param metric_definitions: ``[{"name": …, "regex": …}]`` as SageMaker has them: how to find metrics in the lines of
        the log, the value being the regex's one group. By default what Keras, progress bars and ``key=value`` lines
        say.
    :param deferrable: Whether to wait in the triggerer, which takes no worker slot. What is shown and kept is the same.
    :raises JobFailed: when the job failed; with its reason and its last lines.
    """

    template_fields: Sequence[str] = (*(each.name for each in PARAMETERS if each.templated), "config")
    # A value that ends in .py or .yaml is a value; Airflow would read a file in its place.
    template_ext: Sequence[str] = ()
    template_fields_renderers = {"env": "json", "env_vars": "json", "job_resources": "json", "config": "json"}  # noqa: RUF012 -- Airflow's
    operator_extra_links = (TrainingLink(), ModelLink())
    ui_color = "#dcecf7"

    def __init__(
        self,
        *,
        conn_id: str = DEFAULT_CONN_ID,
        script: str | Path | ObjectStoragePath | None = None,
        source: str | Path | ObjectStoragePath | None = None,
        entry_point: str | None = None,
        job_name: str | None = None,
        env: Sequence[Mapping[str, Any]] | Mapping[str, Any] | str | None = None,
        env_vars: Sequence[Mapping[str, Any]] | Mapping[str, Any] | str | None = None,
        arguments: Sequence[Any] | Mapping[str, Any] | str | None = None,
        image: str = "tensorflow/tensorflow:latest",
        completion_time: str | float | timedelta = "24h",
        job_resources: Mapping[str, int | str] | str | None = None,
        nodes: int | str = 1,
        requirements: str | Path | Sequence[str] | None = None,
        python_major_version: int | str = 3,
        data_input: Mapping[str, DataSource] | Sequence[DataPath | str] | DataPath | str | None = None,
        template_data: bool = False,
        resume_from: str | Mapping[str, Any] | None = None,
        keep_checkpoints: bool | str = False,
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
        check_script(script)
        check_source(source, entry_point)
        check_spans(timeout, patience)
        self.conn_id = conn_id
        self.script = script
        self.source = source
        self.entry_point = entry_point
        self.job_name = job_name
        self.env = portable(env)
        self.env_vars = portable(env_vars)
        self.arguments = portable(arguments)
        self.image = image
        self.completion_time = portable(completion_time)
        self.job_resources = portable(job_resources)
        self.nodes = portable(nodes)
        self.requirements = requirements
        self.python_major_version = portable(python_major_version)
        self.data_input = data_input
        self.template_data = template_data
        self.resume_from = resume_from
        self.keep_checkpoints = keep_checkpoints
        self.service_options = portable(service_options)
        self.config = portable(config)
        self.destination = destination
        self.version = version
        self.timeout = timeout
        self.patience = patience
        self.metric_definitions = metric_definitions
        self.deferrable = deferrable
        self._parameters: Parameters | None = None
        self._placement: Placement | None = None
        self._secrets: JobSecrets | None = None

    def execute(self, context: Context) -> dict[str, Any]:
        """Submit the job, or adopt that of an earlier try, and follow it to its end."""
        from airflow_provider_jobapi.operators.placement import cycle_of, is_unwanted
        from airflow_provider_jobapi.operators.record import record_facts
        from airflow_provider_jobapi.operators.secrets import JobSecrets
        from airflow_provider_jobapi.operators.waiting import run_inline
        from airflow_provider_jobapi.triggers import xcoms
        from airflow_provider_jobapi.triggers.training import JOB_ID_KEY

        ti = context["ti"]
        self._parameters = parameters = self._new_parameters(ti.map_index)
        self._secrets = secrets = JobSecrets(context, self.conn_id)
        placement = self._new_placement(ti, lambda job_id: secrets.keep(job_id, parameters, placement.offered()))
        placed = placement.place(cycle_of(context), ti.try_number, parameters)
        self._lineage_job = ServiceJob.read(self.conn_id, placed.job_id, None)
        secrets.collect(placed.job_id, parameters, placement.offered())
        xcoms.push(ti, JOB_ID_KEY, placed.job_id)
        secrets.publish(placed.job_id)
        trigger = self._trigger(placed, context, parameters)
        if placement.unwanted or is_unwanted(ti):
            placement.stop()
            raise JobStopped(f"The task was ended while it submitted job {placed.job_id}. The job was stopped.")
        record_facts(context, placed, parameters, self.conn_id, secrets.masker)
        if self.deferrable:
            placement.leave()
            self.defer(trigger=trigger, method_name="execute_complete")
        return self.execute_complete(context, run_inline(trigger, ti, secrets.masker))

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> dict[str, Any]:
        """Read how the job ended, and fetch its model where a destination is given."""
        from airflow_provider_jobapi.lineage.events import add_model_to_events
        from airflow_provider_jobapi.operators.record import record_end, record_result
        from airflow_provider_jobapi.operators.result import check_result, facts_of, training_result
        from airflow_provider_jobapi.operators.secrets import JobSecrets
        from airflow_provider_jobapi.triggers.event import End, TrainingEvent

        ended = TrainingEvent.read(event)
        placement = self._placement or self._new_placement(context["ti"])
        placement.handle = ended.handle
        self._lineage_job = ServiceJob.read(self.conn_id, ended.job_id, None, ended.metrics)
        service = placement.last_look() if ended.end is End.UNREACHABLE else placement.service()
        masker = self._secrets.masker if self._secrets else JobSecrets(context, self.conn_id).read(ended.job_id)

        def on_status(status: JobStatus) -> None:
            self._lineage_job = ServiceJob.read(self.conn_id, ended.job_id, status, ended.metrics)
            record_end(context, ended.job_id, status)

        try:
            status = check_result(service, ended, killed=placement.unwanted, on_status=on_status, masker=masker)
        except ServiceUnavailable:
            # A retry would find the job again; without one, nothing would ever stop it.
            if context["ti"].try_number > context["ti"].max_tries:
                placement.stop()
            raise
        placement.leave()
        self.log.info(f"Job {ended.job_id} was successful. {status.message}".rstrip())
        self._lineage_model = model = self._fetch(service, ended.handle)
        facts = facts_of(service, ended.handle, model, self.log)
        result = training_result(ended, status, facts)
        record_result(context, ended.job_id, facts)
        add_model_to_events(self, context, result, model)
        return result

    def on_kill(self) -> None:
        """Stop the job when the worker's SIGTERM or a limit has ended the task. May run inside a signal handler."""
        if self._placement is not None:
            self._placement.kill()

    def render_template(
        self, content: Any, context: Context, jinja_env: Any = None, seen_oids: set[int] | None = None
    ) -> Any:
        """Leave a path, and a text that holds no template, as they are.

        Jinja cuts a text's last newline and turns CRLF into LF, which would change data, and a native environment
        makes numbers of texts; Airflow 3.1 calls ``resolve`` on a path.
        """
        env = jinja_env or self.get_template_env()
        if isinstance(content, Mapping) and not self.template_data:
            if content is self.data_input:
                return self._render_data(content, context, env, seen_oids)
            if content is self.config and isinstance(content.get("data_input"), Mapping):
                others = {header: value for header, value in content.items() if header != "data_input"}
                data = self._render_data(content["data_input"], context, env, seen_oids)
                return super().render_template(others, context, env, seen_oids) | {"data_input": data}
        marks = (env.variable_start_string, env.block_start_string, env.comment_start_string)
        if isinstance(content, Path) or (isinstance(content, str) and not any(mark in content for mark in marks)):
            return content
        return super().render_template(content, context, env, seen_oids)

    def _render_data(
        self, data: Mapping[str, Any], context: Context, env: Any, seen_oids: set[int] | None
    ) -> dict[str, Any]:
        """Resolve the results of other tasks in data files. A text is content, and no template."""
        return {
            name: source if isinstance(source, str) else self.render_template(source, context, env, seen_oids)
            for name, source in data.items()
        }

    def _do_render_template_fields(self, parent: Any, *arguments: Any, **named: Any) -> None:
        """Render, then hide the secrets that the DAG writes out, before Airflow stores the rendered fields.

        Airflow calls this for mapped tasks, too, for which it does not call ``render_template_fields``.
        """
        from airflow_provider_jobapi.operators.secrets import hide_literals, with_texts

        super()._do_render_template_fields(parent, *arguments, **named)
        if parent is self:
            self.env, self.env_vars = with_texts(self.env), with_texts(self.env_vars)
            self.arguments, self.config = with_texts(self.arguments), with_texts(self.config)
            hide_literals(self.env, self.requirements, self.arguments, self.config, self.env_vars)

    def _new_parameters(self, map_index: int | None = None) -> Parameters:
        """Read the parameters of this execution."""
        return Parameters.of(self, map_index)

    def _new_placement(self, ti: Any, before_submit: Callable[[str], None] = lambda _: None) -> Placement:
        from airflow_provider_jobapi.operators.placement import Placement
        from airflow_provider_jobapi.operators.waiting import seconds_of

        self._placement = Placement(self.conn_id, seconds_of(self.patience), self.log, ti, before_submit)
        return self._placement

    def _trigger(self, placed: Placed, context: Context, parameters: Parameters) -> TrainingTrigger:
        from airflow_provider_jobapi.operators.waiting import make_trigger, seconds_of

        limits = [
            (began + timedelta(seconds=seconds_of(span)), f"{name} of {timedelta(seconds=seconds_of(span))}")
            for name, began, span in (
                ("timeout", placed.submitted, self.timeout),
                ("execution_timeout", context["ti"].start_date or placed.submitted, self.execution_timeout),
            )
            if span is not None
        ]
        deadline, limit = min(limits, default=(None, "deadline"))
        return make_trigger(
            placed.submission,
            deferrable=self.deferrable,
            conn_id=self.conn_id,
            job_id=placed.job_id,
            deadline=None if deadline is None else deadline.isoformat(),
            limit=limit,
            patience=seconds_of(self.patience),
            metric_definitions=self._metric_definitions(parameters),
            sealed=self._secrets.sealed if self._secrets else None,
        )

    def _metric_definitions(self, parameters: Parameters) -> list[dict[str, str]] | None:
        try:
            return parameters.metric_definitions
        except InvalidJob as error:
            # The job of an earlier try goes on, whatever was written into the DAG since.
            self.log.warning(f"{error} Only the metrics that jobapi_metrics writes are read.")
            return []

    def _fetch(self, service: TrainingService, handle: Handle) -> FetchedModel | None:
        from airflow.sdk import ObjectStoragePath

        destination = (self._parameters or self._new_parameters()).destination
        if destination is None:
            return None
        try:
            return service.fetch_model(handle, ObjectStoragePath(destination), self.version)
        except NoSavedModel as error:
            # Any other error may be tried again: a retry only fetches, where a clear would train again.
            raise AirflowFailException(str(error)) from None

    def _training_inputs(self) -> TrainingInputs:
        from airflow_provider_jobapi._airflow import masked_secrets
        from airflow_provider_jobapi.training.masking import Masker

        given = self._parameters or self._new_parameters()
        try:
            script = given.script()
        except InvalidJob:
            script = None
        masker = Masker({*masked_secrets(), *(self._secrets.masker.secrets if self._secrets else ())})
        return TrainingInputs(masker.text(given.job_name), given.data, script and masker.text(script))
