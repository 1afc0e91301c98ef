# SPDX-License-Identifier: Apache-2.0
"""The import path of :class:`NewDataTrigger` in DAG files and in the database of Airflow."""

from airflow_provider_jobapi.new_data.trigger import NewDataTrigger

__all__ = ["NewDataTrigger"]
