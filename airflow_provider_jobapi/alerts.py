# SPDX-License-Identifier: Apache-2.0
"""What a DAG's deadline calls on the triggerer: a callback must be importable there, and a DAG file is not."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

_log = logging.getLogger(__name__)


async def slow_training(context: Mapping[str, Any]) -> str:
    """Warn, in the triggerer's log, of a run that takes longer than it should; its job goes on.

    For ``DeadlineAlert(…, callback=AsyncCallback(slow_training))``. A notifier of Airflow's, such as ``SlackNotifier``,
    stands in its place where somebody is to be woken.

    :param context: What Airflow tells of the run and of its deadline.
    """
    run, deadline = context["dag_run"], context["deadline"]
    warning = (
        f"The run {run['dag_run_id']} of {run['dag_id']} is not over, and was to be by {deadline['deadline_time']}. "
        "Its training goes on."
    )
    _log.warning(warning)
    return warning
