# SPDX-License-Identifier: Apache-2.0
"""The link to the Training tab of a task instance."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from airflow.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey

ROUTE = "jobapi-training"
"""The last part of the tab's address."""


def tab(ti_key: TaskInstanceKey) -> str:
    """The tab's address, relative to the UI, so that it holds under any host and base path."""
    parts = ["dags", ti_key.dag_id, "runs", ti_key.run_id, "tasks", ti_key.task_id]
    if ti_key.map_index is not None and ti_key.map_index >= 0:
        parts += ["mapped", str(ti_key.map_index)]
    return "/".join(quote(part, safe="") for part in (*parts, "plugin", ROUTE))


class TrainingLink(BaseOperatorLink):
    """Opens the Training tab, from the moment the task defers."""

    name = "Training"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002 -- Airflow's signature
        """The tab's address. Airflow calls this on the worker, each time the worker ends or defers the task."""
        return tab(ti_key)
