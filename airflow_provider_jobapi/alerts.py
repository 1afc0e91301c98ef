# SPDX-License-Identifier: Apache-2.0
"""Callbacks of a DAG's deadlines. Airflow imports them in the triggerer, where a DAG file cannot be imported."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

_log = logging.getLogger(__name__)


async def slow_training(context: Mapping[str, Any]) -> str:
    """Log a warning in the triggerer that a run has missed its deadline; its job goes on.

    For ``DeadlineAlert(…, callback=AsyncCallback(slow_training))``. Use one of Airflow's notifiers, such as
    ``SlackNotifier``, to send a message instead.

    :param context: Airflow's description of the run and of its deadline.
    :return: The warning.
    """
    run, deadline = context["dag_run"], context["deadline"]
    warning = (
        f"The run {run['dag_run_id']} of {run['dag_id']} has not ended by its deadline, {deadline['deadline_time']}. "
        "Its training goes on."
    )
    _log.warning(warning)
    return warning
