# SPDX-License-Identifier: Apache-2.0
"""The operators of Train API V1 containers: one command, and the whole run of a train."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from airflow_provider_jobapi._airflow import AirflowFailException
from airflow_provider_jobapi.exceptions import InvalidJob, JobFailed
from airflow_provider_jobapi.operators.parameters import portable
from airflow_provider_jobapi.operators.train_cleanup import release, removed_after_failure
from airflow_provider_jobapi.operators.training import SubmitTrainingOperator

if TYPE_CHECKING:
    from airflow.sdk import Context, ObjectStoragePath

    from airflow_provider_jobapi.operators.parameters import Parameters
    from airflow_provider_jobapi.services.base import Handle
    from airflow_provider_jobapi.services.train_container.commands import Command
    from airflow_provider_jobapi.services.train_container.service import TrainContainerService
    from airflow_provider_jobapi.services.train_container.successor import Wanted
    from airflow_provider_jobapi.training.job import DataPath, DataSource
    from airflow_provider_jobapi.training.masking import Masker

TRAIN_CONN_ID = "train_container_default"
"""The connection of the operators where a DAG names none."""

_TO_DO = (
    "Its container stays on the engine: set tags, base, repository, successor or push of this task as is needed, and "
    "clear it, which makes the successor of that container without another run."
)

_OPTIONS = ("command_names", "command_prefix", "isolation", "targets", "listed", "strict", "plain_summary")
"""The parameters that are options of the service."""

_OF_THE_STATION = ("env", "env_vars", "data_input")
"""The parameters for those commands alone that get the station's environment."""


class TrainCommandOperator(SubmitTrainingOperator):
    """Run one command of a train image, and return its response.

    There is one operator for the four commands, and not one for each: they differ by their word alone, which in a DAG
    stands beside the image as on the command line of ``docker run``, and which can be found in the specification. All
    other parameters are the same, so a DAG can say them once in ``default_args``, or map one task over the commands::

        TrainCommandOperator.partial(task_id="ask", image="registry.example.com/trains/bmi:station.1").expand(
            command=["list_requirements", "print_model_summary"]
        )

    The whole run is another thing, and has an operator of its own: :class:`RunTrainOperator`.

    The task's result is ``{"job_id": …, "command": …, "response": …}``, the response in the words of Train API V1
    whatever the image's dialect, and for ``run_algorithm`` what :class:`.SubmitTrainingOperator` returns besides. The
    container of ``run_algorithm`` stays on the engine, the others are removed.

    :param command: ``list_requirements``, ``check_requirements``, ``print_model_summary`` or ``run_algorithm``.
        (templated)
    :param image: The train's image. (templated)
    :param conn_id: The connection, of the type ``train_container``.
    :param command_args: Arguments after the command: a list, or a mapping of options as for
        :class:`.SubmitTrainingOperator`. (templated)
    :param command_names: How the image spells the commands: ``train_api_v1``, ``describe_run``, or a mapping of
        commands and their words. (templated)
    :param command_prefix: Arguments before the command, such as ``"--station-id 3"``. (templated)
    :param env: Variables beside those that the station offers, for ``check_requirements`` and ``run_algorithm``; so
        are ``env_vars``. (templated)
    :param data_input: Data of the station, read-only for the train; as for :class:`.SubmitTrainingOperator`, for
        ``check_requirements`` and ``run_algorithm``. (templated)
    :param isolation: What is loosened or tightened of the container's isolation, by name. (templated)
    :param targets: More targets of required variables, as names and regular expressions for their values, beside those
        of the connection.
    :param listed: For ``check_requirements``: the result of the task that ran ``list_requirements``, as in
        ``listed=needs.output``. Its relations decide which of the unmet requirements are needed, where the check does
        not repeat them. (templated)
    :param strict: Whether nothing but blanks may follow the response.
    :param plain_summary: Whether a summary may be text without JSON, as ``pht`` 0.2 prints it.
    :param destination: A directory to fetch the export files of ``run_algorithm`` to. (templated)
    :param completion_time: The time that the container may run, such as ``"2h"``. (templated)
    :raises JobFailed: when the command failed, by its exit code or its response, or has none; for
        ``check_requirements`` also with what the station would have to offer.
    """

    template_fields: Sequence[str] = (
        "command", "image", "command_args", "command_names", "command_prefix", "env", "data_input", "isolation",
        "listed", "destination", "completion_time", "job_name",
    )  # fmt: skip
    template_fields_renderers: ClassVar[dict[str, str]] = {"env": "json", "isolation": "json"}

    def __init__(
        self,
        *,
        command: str,
        image: str,
        conn_id: str = TRAIN_CONN_ID,
        command_args: Sequence[Any] | Mapping[str, Any] | str | None = None,
        command_names: Mapping[str, Any] | str | None = None,
        command_prefix: Sequence[Any] | str | None = None,
        env: Sequence[Mapping[str, Any]] | Mapping[str, Any] | str | None = None,
        data_input: Mapping[str, DataSource] | Sequence[DataPath | str] | DataPath | str | None = None,
        isolation: Mapping[str, Any] | None = None,
        targets: Mapping[str, str] | None = None,
        listed: Mapping[str, Any] | None = None,
        strict: bool = False,
        plain_summary: bool = False,
        destination: str | ObjectStoragePath | None = None,
        completion_time: str | float | timedelta = "24h",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            conn_id=conn_id,
            image=image,
            env=env,
            data_input=data_input,
            destination=destination,
            completion_time=completion_time,
            **kwargs,
        )
        self.command = command
        self.command_args = portable(command_args)
        self.command_names = command_names
        self.command_prefix = portable(command_prefix)
        self.isolation = portable(isolation)
        self.targets = targets
        self.listed = listed
        self.strict = strict
        self.plain_summary = plain_summary

    def execute(self, context: Context) -> dict[str, Any]:
        """Run the command, or adopt that of an earlier try, and follow it to its end."""
        self._service_of_trains()  # before a service of another kind is given the command as a training
        return super().execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> dict[str, Any]:
        """Read how the command ended, and its response."""
        from airflow_provider_jobapi.operators.result import check_result
        from airflow_provider_jobapi.operators.secrets import JobSecrets
        from airflow_provider_jobapi.triggers.event import TrainingEvent

        ended = TrainingEvent.read(event)
        service = self._service_of_trains()
        if kept := service.kept_result(ended.handle):  # an earlier worker was killed after it had removed the container
            check_result(service, ended)
            return kept
        masker = self._secrets.masker if self._secrets else JobSecrets(context, self.conn_id).read(ended.job_id)
        with removed_after_failure(service, ended.handle, masker):
            result = super().execute_complete(context, event)
        return self._finish(service, ended.handle, result, masker)

    def _finish(
        self, service: TrainContainerService, handle: Handle, result: Mapping[str, Any], masker: Masker
    ) -> dict[str, Any]:
        """Add the response of a command that was successful, and remove its container where nothing needs it.

        :param masker: Hides the secrets that a train may say in its response.
        """
        from airflow_provider_jobapi.services.train_container.commands import RULES, Command

        command = Command.of(handle["command"])
        verdict = service.verdict(handle)
        for note in verdict.notes:
            self.log.info(note)
        response = None if verdict.answer is None else verdict.answer.model_dump(mode="json", by_alias=True)
        response = masker.value(response)
        added = {"command": command.value, "response": response}
        if RULES[command].kept:
            return {**result, **added}
        finished = {"job_id": handle["job_id"], **added}
        release(service, handle, finished, masker, self.log.info)
        return finished

    def _service_of_trains(self) -> TrainContainerService:
        from airflow_provider_jobapi.hooks.base import TrainingHook
        from airflow_provider_jobapi.operators.waiting import seconds_of
        from airflow_provider_jobapi.services.train_container.service import TrainContainerService

        service = TrainingHook.service_of(self.conn_id, seconds_of(self.patience))
        if not isinstance(service, TrainContainerService):
            raise AirflowFailException(
                f"conn_id is {self.conn_id}, which runs no trains: name a connection of the type train_container."
            )
        return service

    def _new_parameters(self, map_index: int | None = None) -> Parameters:
        return self._parameters_of(self.command, self.command_args, map_index)

    def _parameters_of(self, command: str, arguments: Any, map_index: int | None = None, **others: Any) -> Parameters:
        from airflow_provider_jobapi.operators.parameters import Parameters

        options = {name: value for name in _OPTIONS if (value := getattr(self, name)) not in (None, False)}
        options["command"] = command
        if isinstance(self.listed, Mapping):
            options["listed"] = self.listed.get("response", self.listed)
        return Parameters.of(self, map_index, arguments=arguments, service_options=options, **others)

    def _run_before(self, context: Context, command: Command, arguments: Any) -> dict[str, Any]:
        """Run another command of the image in this worker, to its end; its lines are in the task's log, too.

        It has an id of its own, so that a retry goes on with it as with the job of the task.

        :raises JobFailed: when it failed.
        """
        from airflow_provider_jobapi.operators.placement import cycle_of
        from airflow_provider_jobapi.operators.result import check_result
        from airflow_provider_jobapi.operators.secrets import JobSecrets
        from airflow_provider_jobapi.operators.waiting import run_inline
        from airflow_provider_jobapi.services.train_container.commands import RULES
        from airflow_provider_jobapi.triggers.event import TrainingEvent

        ti = context["ti"]
        without = () if RULES[command].environment else _OF_THE_STATION
        parameters = self._parameters_of(command.value, arguments, ti.map_index, without=without)
        self._secrets = secrets = JobSecrets(context, self.conn_id)
        placement = self._new_placement(ti, lambda job_id: secrets.keep(job_id, parameters, placement.offered()))
        cycle = cycle_of(context)
        placed = placement.place(replace(cycle, task_id=f"{cycle.task_id}/{command}"), ti.try_number, parameters)
        secrets.collect(placed.job_id, parameters, placement.offered())
        event = run_inline(self._trigger(placed, context, parameters), None, secrets.masker)
        service, handle = self._service_of_trains(), placed.submission.handle
        with removed_after_failure(service, handle, secrets.masker):
            check_result(service, TrainingEvent.read(event), killed=placement.unwanted, masker=secrets.masker)
        placement.leave()
        return service.kept_result(handle) or TrainCommandOperator._finish(self, service, handle, {}, secrets.masker)


class RunTrainOperator(TrainCommandOperator):
    """Run a train at a station: check its requirements, run its algorithm, make its successor image, push it.

    A retry goes on where the try before ended: neither the check nor the algorithm runs a second time after a success.
    The check runs in the worker, the algorithm is waited for in the triggerer.

    The task's result is that of :class:`TrainCommandOperator` with ``successor``: ``{"image": …, "tags": […],
    "digest": … or None, "image_id": …, "mode": "rebase" or "commit", "parent": …, "parent_digest": …, "files": […]}``.
    The events of assets in the outlets hold it, too. The next station runs ``result["successor"]["image"]``.

    :param check: Whether ``check_requirements`` runs first, and the algorithm only where all requirements are met.
    :param check_args: Arguments of ``check_requirements``, as ``command_args`` are of ``run_algorithm``. (templated)
    :param successor: ``rebase``, which puts the export files onto a base; ``commit``, which keeps all that the train
        has changed; by default ``rebase`` where the train, or ``base``, names a base.
    :param base: The image that the export files are put onto; by default the one that the train names. (templated)
    :param repository: The repository of the successor, such as ``registry.example.com/trains/bmi``; by default that of
        the train. (templated)
    :param tags: Its tags; by default those that the train names. (templated)
    :param push: Whether it is pushed; by default where the connection has a ``docker_conn_id``.
    """

    template_fields: Sequence[str] = (
        *(name for name in TrainCommandOperator.template_fields if name != "command"),
        "check_args", "base", "repository", "tags",
    )  # fmt: skip

    def __init__(
        self,
        *,
        check: bool = True,
        check_args: Sequence[Any] | Mapping[str, Any] | str | None = None,
        successor: Literal["rebase", "commit"] | None = None,
        base: str | None = None,
        repository: str | None = None,
        tags: Sequence[str] | str = (),
        push: bool | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(command="run_algorithm", **kwargs)
        if successor not in (None, "rebase", "commit"):
            raise InvalidJob(f"successor cannot be {successor!r}: it is rebase or commit.", field="successor")
        self.check = check
        self.check_args = portable(check_args)
        self.successor = successor
        self.base = base
        self.repository = repository
        self.tags = tags
        self.push = push

    def execute(self, context: Context) -> dict[str, Any]:
        """Check the requirements, then run the algorithm; or go on with the successor of what was run before."""
        from airflow_provider_jobapi.services.train_container.commands import Command

        service = self._service_of_trains()
        try:
            service.check_successor(self._wanted(service), self.image)
        except InvalidJob as error:  # not after the train was run
            raise AirflowFailException(str(error)) from None
        listed, self.listed = self.listed, None if self.check else self.listed
        if self._adopts(service, context):
            self.log.info(
                "The algorithm was run before this task was cleared, with the same image, arguments, data and "
                "environment, and has no successor yet: it is not run again."
            )
        elif self.check:
            self.listed = self._requirements(context) or listed
            self._run_before(context, Command.CHECK_REQUIREMENTS, self.check_args)
            self.listed = None
        return super().execute(context)

    def _adopts(self, service: TrainContainerService, context: Context) -> bool:
        """Whether a run before the last clear, whose successor could not be made, becomes that of this cycle."""
        from airflow_provider_jobapi.operators.placement import cycle_of, ended_before
        from airflow_provider_jobapi.services.train_container.plan import plan_of

        cycle, parameters = cycle_of(context), self._new_parameters(context["ti"].map_index)
        if service.is_adopted(cycle.job_id(0)):  # by a try before
            return True
        try:
            return any(
                service.adopt(plan_of(parameters.job), cycle.job_id(0), it) for it in ended_before(service, cycle)
            )
        except InvalidJob:  # which the submit reports
            return False

    def _requirements(self, context: Context) -> dict[str, Any] | None:
        """Ask the train what it needs, since its check may say no more than the ids of what is unmet."""
        from airflow_provider_jobapi.services.train_container.commands import Command

        try:
            return self._run_before(context, Command.LIST_REQUIREMENTS, None)
        except JobFailed as error:
            self.log.warning(f"The requirements of the train are not known: {error}")
            return None

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> dict[str, Any]:
        """Make the successor image of a train that was successful."""
        from airflow_provider_jobapi.lineage.events import add_facts_to_events

        result = super().execute_complete(context, event)
        made = result["successor"]
        location = result.get("model") or f"docker://{made['image']}"
        add_facts_to_events(self, context, {**made, "location": location})
        return result

    def _wanted(self, service: TrainContainerService) -> Wanted:
        from airflow_provider_jobapi.services.train_container.successor import Wanted
        from airflow_provider_jobapi.training.validation import number_as_text

        tags = self.tags if isinstance(self.tags, list | tuple) else (self.tags,)
        push = service.connection.docker_conn_id is not None if self.push is None else self.push
        # A native template makes numbers of tags.
        named: Any = tuple(number_as_text(each) for each in tags if each not in (None, ""))
        return Wanted(self.successor, self.base or None, self.repository or None, named, push=push)

    def _finish(
        self, service: TrainContainerService, handle: Handle, result: Mapping[str, Any], masker: Masker
    ) -> dict[str, Any]:
        from airflow_provider_jobapi.services.train_container.responses import ResponseProblem

        ended = super()._finish(service, handle, result, masker)
        wanted = replace(self._wanted(service), hide=None if masker.withhold else masker.text)
        try:
            made = service.successor(handle, wanted)
        except (InvalidJob, ResponseProblem) as error:  # the run is over, and a retry would find the same
            raise AirflowFailException(
                f"The train was run, and has no successor image. {masker.text(str(error))} {_TO_DO}"
            ) from None
        for note in made.notes:
            self.log.info(note)
        self.log.info(f"The successor of {made.parent} is {made.image}{f', {made.digest}' if made.digest else ''}.")
        ended["successor"] = made.to_json()
        release(service, handle, ended, masker, self.log.info)
        return ended
