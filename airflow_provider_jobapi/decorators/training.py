# SPDX-License-Identifier: Apache-2.0
"""The decorator ``@task.training``: a function of the DAG file as the training script."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk.bases.decorator import DecoratedOperator, task_decorator_factory
from airflow.sdk.definitions.context import KNOWN_CONTEXT_KEYS

from airflow_provider_jobapi._airflow import AirflowFailException
from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.operators.training import SubmitTrainingOperator

if TYPE_CHECKING:
    from airflow.sdk import Context


class TrainingDecoratedOperator(DecoratedOperator, SubmitTrainingOperator):
    """A :class:`~airflow_provider_jobapi.operators.training.SubmitTrainingOperator` whose script is a function.

    :param python_callable: The function.
    :param script: Its source, with what it uses.
    :param op_args: Its arguments by position. (templated)
    :param op_kwargs: Its arguments by name. (templated)
    """

    custom_operator_name = "@task.training"
    template_fields: Sequence[str] = (*DecoratedOperator.template_fields, *SubmitTrainingOperator.template_fields)
    template_fields_renderers: ClassVar[dict[str, str]] = {
        **DecoratedOperator.template_fields_renderers,
        **SubmitTrainingOperator.template_fields_renderers,
    }

    def __init__(self, *, script: str, **kwargs: Any) -> None:
        super().__init__(script=script, **kwargs)
        self._source = script

    def execute(self, context: Context) -> Any:
        """Append the call with its arguments to the script, and train."""
        from airflow_provider_jobapi.decorators.arguments import with_call
        from airflow_provider_jobapi.decorators.source import check_constants

        try:
            # Again, since the file may have changed them below the function.
            check_constants(self._source, self.python_callable)
            self.script = with_call(self._source, self.python_callable, self.op_args, self._named(context))
        except InvalidJob as error:
            raise AirflowFailException(str(error)) from None
        return super().execute(context)

    def _named(self, context: Context) -> dict[str, Any]:
        """The arguments by name; a parameter that has the name of a value of Airflow's context gets that value."""
        import inspect

        names = set(list(inspect.signature(self.python_callable).parameters)[len(self.op_args) :])
        known = {name: value for name, value in context.items() if name in names & KNOWN_CONTEXT_KEYS}
        return known | dict(self.op_kwargs)


def training_task(
    python_callable: Callable[..., Any] | None = None, *, multiple_outputs: bool = False, **kwargs: Any
) -> Any:
    """Train with a function: ``@task.training(requirements=…)``.

    The function runs on the job service and not in Airflow. Its source is shipped with what it uses of its file:
    functions, classes, imports, and constants made of literals. Its arguments are JSON. Its return value is shown in
    the log; the task's result is the job's.

    :param python_callable: The function.
    :param multiple_outputs: Whether the parts of the task's result, such as ``job_id``, are XComs of their own too.
    :param kwargs: Every parameter of :class:`~airflow_provider_jobapi.operators.training.SubmitTrainingOperator`
        except ``script`` and ``entry_point``. The function may import the modules of ``source``.
    :raises InvalidJob: when the function, or a name that it uses, cannot be shipped.
    """
    from airflow_provider_jobapi.decorators.source import script_of

    if python_callable is None:
        return partial(training_task, multiple_outputs=multiple_outputs, **kwargs)
    if "script" in kwargs:
        raise InvalidJob("@task.training takes no script: the function is the script.", field="script")
    if "entry_point" in kwargs:
        raise InvalidJob("@task.training takes no entry_point: the function is what is run.", field="entry_point")
    if kwargs.get("python_major_version", 3) != 3:
        raise InvalidJob("@task.training needs python_major_version 3.", field="python_major_version")
    return task_decorator_factory(
        python_callable,
        multiple_outputs=multiple_outputs,
        decorated_operator_class=TrainingDecoratedOperator,
        script=script_of(python_callable),
        **kwargs,
    )
