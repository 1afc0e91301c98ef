# SPDX-License-Identifier: Apache-2.0
"""Write and read this provider's own XComs in Airflow's database, whatever XCom backend is configured.

A backend on an object storage makes a new object of each write and leaves the one before, which the trigger would do
every two seconds; and the Training tab, which reads Airflow's REST API, would find the path of an object in place of
the value. These XComs are small, so they stay in the database. The result of a task goes where the backend puts it.

The functions block, so an event loop calls them in a thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

RESULT_KEY = "training_result"
"""The XCom of the job's id and the facts of its model, where the task's result does not tell the tab."""


def has_backend() -> bool:
    """Whether Airflow keeps XComs with a backend of its own configuration."""
    from airflow.sdk.bases.xcom import BaseXCom
    from airflow.sdk.execution_time.xcom import XCom

    return XCom is not BaseXCom


def write(ti: Any, key: str, value: Any) -> None:
    """Write an XCom of a task instance.

    :param ti: Anything that has dag_id, task_id, run_id and map_index.
    """
    from airflow.sdk.bases.xcom import BaseXCom

    BaseXCom.set(key=key, value=value, **_place(ti))


def read(ti: Any, key: str) -> Any:
    """Read an XCom of a task instance; None where there is none."""
    from airflow.sdk.bases.xcom import BaseXCom
    from airflow.sdk.execution_time.xcom import XCom

    value = BaseXCom.get_one(key=key, **_place(ti))
    if isinstance(value, str) and "://" in value and has_backend():
        return XCom.get_one(key=key, **_place(ti))  # of a version before, which wrote with the backend
    return value


def push(ti: Any, key: str, value: Any) -> None:
    """Write an XCom of the task that this worker runs."""
    if has_backend():
        write(ti, key, value)
    else:
        ti.xcom_push(key=key, value=value)


def pull(ti: Any, key: str) -> Any:
    """Read an XCom of the task that this worker runs; None where there is none."""
    if has_backend():
        return read(ti, key)
    return ti.xcom_pull(task_ids=ti.task_id, key=key, map_indexes=ti.map_index)


def push_result(
    ti: Any, job_id: str, model: str | None, more: Mapping[str, Any] | None = None, *, of_fetch: bool = False
) -> None:
    """Write where the model is for the Training tab.

    :param more: Further facts of the model.
    :param of_fetch: Whether the task's result is the place alone. Otherwise the result has all of it, and this is
        written only where a backend may hide the result from the tab.
    """
    facts = {"job_id": job_id, "model": model, **(more or {})}
    if has_backend():
        write(ti, RESULT_KEY, facts)
    elif of_fetch:
        push(ti, RESULT_KEY, facts)


def _place(ti: Any) -> dict[str, Any]:
    map_index = -1 if ti.map_index is None else ti.map_index
    return {"dag_id": ti.dag_id, "task_id": ti.task_id, "run_id": ti.run_id, "map_index": map_index}
