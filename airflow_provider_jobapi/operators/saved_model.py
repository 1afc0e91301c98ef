# SPDX-License-Identifier: Apache-2.0
"""The import path of :class:`FetchSavedModelOperator` in DAG files."""

from airflow_provider_jobapi.operators.model import FetchSavedModelOperator

__all__ = ["FetchSavedModelOperator"]
