# SPDX-License-Identifier: Apache-2.0
"""What Airflow's web server, scheduler and workers load from this provider at their start."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin


class JobApiPlugin(AirflowPlugin):
    """The provider's place in the Airflow UI."""

    name = "jobapi"
