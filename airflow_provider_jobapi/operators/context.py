# SPDX-License-Identifier: Apache-2.0
"""What the context of a running task says of its life."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from airflow_provider_jobapi.training.identity import Cycle
from airflow_provider_jobapi.triggers.task_state import state_of

if TYPE_CHECKING:
    from airflow.sdk import Context

log = logging.getLogger(__name__)


def cycle_of(context: Context) -> Cycle:
    """The task's life since it was last cleared."""
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
    """Whether somebody has ended this task since it began.

    A worker learns it with its next heartbeat; when it defers before, nobody is told, and the job would run on.
    """
    try:
        state = state_of(ti)
    except Exception as error:  # noqa: BLE001 -- a question that cannot be answered must not cost a training
        log.debug("The task's state cannot be read: %r", error)
        return False
    return state not in {None, "running"}
