# SPDX-License-Identifier: Apache-2.0
"""The link to the version that a task has registered in MLflow."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from airflow.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey

log = logging.getLogger(__name__)


class RegisteredModelLink(BaseOperatorLink):
    """Opens the page of the version in MLflow."""

    name = "MLflow"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002 -- Airflow's signature
        """The page's address; empty where the task has registered nothing."""
        from airflow.sdk.execution_time.xcom import XCom

        try:
            result = XCom.get_value(key="return_value", ti_key=ti_key)
        except Exception as error:  # noqa: BLE001 -- Airflow would log a traceback in a successful task
            log.debug("The task's result cannot be read: %r", error)
            return ""
        url = result.get("url") if isinstance(result, Mapping) else None
        return url if isinstance(url, str) and url.startswith(("https://", "http://")) else ""
