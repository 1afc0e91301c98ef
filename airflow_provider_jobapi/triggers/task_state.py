# SPDX-License-Identifier: Apache-2.0
"""What Airflow's database says of a task instance at this moment."""

from __future__ import annotations

from typing import Any


def state_of(ti: Any) -> str | None:
    """The state of a task instance; None when Airflow knows none. Blocks, so an event loop asks it in a thread.

    :param ti: Anything that has dag_id, task_id, run_id and map_index.
    """
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    mapped = ti.map_index is not None and ti.map_index >= 0
    states = RuntimeTaskInstance.get_task_states(
        dag_id=ti.dag_id, task_ids=[ti.task_id], run_ids=[ti.run_id], map_index=ti.map_index
    )
    state = states.get(ti.run_id, {}).get(f"{ti.task_id}_{ti.map_index}" if mapped else ti.task_id)
    return None if state is None else str(state)
