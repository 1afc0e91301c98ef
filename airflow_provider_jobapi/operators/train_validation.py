# SPDX-License-Identifier: Apache-2.0
"""The operator that checks whether an image keeps the Train API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_jobapi._airflow import AirflowFailException
from airflow_provider_jobapi.exceptions import JobFailed
from airflow_provider_jobapi.operators.train_container import TrainCommandOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_jobapi.services.train_container.commands import Command


class ValidateTrainOperator(TrainCommandOperator):
    """Check whether an image keeps the Train API: run its commands, and read their responses.

    The algorithm is run only when asked. That a station does not meet the requirements is no fault of the image.

    The task's result is ``{"image": …, "responses": {command: response}, "unmet": sentence or None}``.

    :param run: Whether ``run_algorithm`` is run as well; its container is removed.
    :raises AirflowFailException: naming each command that does not keep the API, and why, after all were tried.
    """

    template_fields: Sequence[str] = tuple(
        name for name in TrainCommandOperator.template_fields if name not in {"command", "destination"}
    )

    def __init__(self, *, run: bool = False, **kwargs: Any) -> None:
        super().__init__(command="run_algorithm", **kwargs)
        self.run = run

    def execute(self, context: Context) -> dict[str, Any]:
        """Run the commands one after another, also after one that is wrong."""
        from airflow_provider_jobapi.services.train_container.commands import Command
        from airflow_provider_jobapi.services.train_container.judge import REQUIREMENTS_UNMET

        responses: dict[str, Any] = {}
        problems: dict[str, list[Command]] = {}
        unmet: str | None = None
        service = self._service_of_trains()
        wanted = Command.to_check(algorithm=self.run)
        for command in wanted:
            try:
                responses[command.value] = self._run_before(context, command, self.command_args)["response"]
            except (JobFailed, AirflowFailException) as error:
                if isinstance(error, JobFailed) and error.reason == REQUIREMENTS_UNMET:
                    unmet = str(error)
                else:
                    problems.setdefault(str(error), []).append(command)
            if self._placement is not None and self._placement.handle is not None:
                service.release(self._placement.handle)
        if problems:
            raise AirflowFailException(_report(self.image, problems, wanted))
        return {"image": self.image, "responses": responses, "unmet": unmet}


def _report(image: str, problems: dict[str, list[Command]], wanted: list[Command]) -> str:
    """Return all that is wrong with an image, one line for each problem."""
    if list(problems.values()) == [wanted] and len(wanted) > 1:
        return next(iter(problems))  # it is no fault of a command: there is no such image, or an isolation is refused
    lines = (f"\n  {', '.join(commands)}: {said}" for said, commands in problems.items())
    return f"The image {image} does not keep the Train API:{''.join(lines)}"
