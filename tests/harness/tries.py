# SPDX-License-Identifier: Apache-2.0
"""One try of a task, run step by step as a worker and a triggerer would, without an Airflow around it."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from airflow.sdk import DAG

from airflow_provider_jobapi.operators.training import SubmitTrainingOperator
from airflow_provider_jobapi.triggers.training import TrainingTrigger

try:
    from airflow.sdk.exceptions import AirflowFailException, TaskDeferred
except ImportError:  # before 3.2
    from airflow.exceptions import AirflowFailException, TaskDeferred

__all__ = ["AirflowFailException", "Task", "TaskDeferred"]

STUB = Path(__file__).parent / "dags" / "scripts" / "stub.py"


class Task:
    """A task instance over its tries.

    :param parameters: Of the operator.
    """

    def __init__(self, **parameters: Any) -> None:
        self.parameters = {"task_id": "train", "script": STUB} | parameters
        self.run_start = datetime.now(UTC)
        self.max_tries = 0
        self.xcoms: dict[str, Any] = {}
        self.store: Any = None

    def operator(self) -> SubmitTrainingOperator:
        """The operator as a worker that starts has it."""
        with DAG("tries", schedule=None):
            return SubmitTrainingOperator(**self.parameters)

    def context(self, operator: SubmitTrainingOperator, try_number: int = 1) -> Any:
        """The context of a try."""
        ti = SimpleNamespace(
            dag_id="tries",
            task_id=operator.task_id,
            run_id="r",
            map_index=-1,
            max_tries=self.max_tries,
            try_number=try_number,
            start_date=datetime.now(UTC),
            xcom_push=self._push,
            xcom_pull=lambda key, **_: self.xcoms.get(key),
        )
        context = {"ti": ti, "dag_run": SimpleNamespace(start_date=self.run_start), "dag": operator.dag}
        return context if self.store is None else context | {"task_state_store": self.store}

    def _push(self, key: str, value: Any) -> None:
        self.xcoms[key] = value

    def submit(self, operator: SubmitTrainingOperator | None = None, try_number: int = 1) -> TrainingTrigger:
        """A worker's part until it defers; answers the trigger as a triggerer makes it."""
        operator = operator or self.operator()
        try:
            operator.execute(self.context(operator, try_number))
        except TaskDeferred as deferred:
            told = deferred
        else:
            raise AssertionError("The task did not defer.")
        assert told.method_name == "execute_complete"
        assert told.timeout is None
        return TrainingTrigger(**json.loads(json.dumps(told.trigger.serialize()[1])))

    def complete(self, event: Any) -> Any:
        """What the worker does with the trigger's event; on another machine, maybe."""
        operator = self.operator()
        return operator.execute_complete(self.context(operator), json.loads(json.dumps(event)))

    def run(self) -> Any:
        """A whole try; answers the task's result."""
        operator = self.operator()
        if operator.deferrable:
            return self.complete(follow(self.submit(operator)))
        return operator.execute(self.context(operator))

    @property
    def job_id(self) -> str:
        """The job of the last try, from its XCom."""
        return str(self.xcoms["training_job_id"])


def follow(trigger: TrainingTrigger) -> Any:
    """Run a trigger to its event; answers the payload."""

    async def first() -> Any:
        return (await anext(trigger.run())).payload

    return asyncio.run(first())
