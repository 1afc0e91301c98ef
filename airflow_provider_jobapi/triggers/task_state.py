# SPDX-License-Identifier: Apache-2.0
"""Ask Airflow's database about a task instance. The functions block, so an event loop calls them in a thread."""

from __future__ import annotations

from typing import Any

from airflow_provider_jobapi.triggers import xcoms


def state_of(ti: Any) -> str | None:
    """Return the state of a task instance; None when Airflow knows none.

    :param ti: Anything that has dag_id, task_id, run_id and map_index.
    """
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    mapped = ti.map_index is not None and ti.map_index >= 0
    states = RuntimeTaskInstance.get_task_states(
        dag_id=ti.dag_id, task_ids=[ti.task_id], run_ids=[ti.run_id], map_index=ti.map_index
    )
    state = states.get(ti.run_id, {}).get(f"{ti.task_id}_{ti.map_index}" if mapped else ti.task_id)
    return None if state is None else str(state)


_ENDED = frozenset({"success", "failed", "restarting", "removed", "skipped", "upstream_failed"})


def is_ended(state: str | None) -> bool:
    """Return whether a state says that nobody wants the job of a running try any more.

    ``restarting`` is a task that a user cleared while it ran. A task that waits for its next try, or is without a
    state, is not ended: that try adopts the job, or stops it after a clear.
    """
    return state in _ENDED


def waits_for(ti: Any, key: str, job_id: str) -> bool:
    """Return whether a task instance is deferred and its XCom ``key`` names this job."""
    return state_of(ti) == "deferred" and bool(xcoms.read(ti, key) == job_id)
