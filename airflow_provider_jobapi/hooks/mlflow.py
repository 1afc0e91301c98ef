# SPDX-License-Identifier: Apache-2.0
"""The hook of the connection type ``mlflow``."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from airflow.sdk import BaseHook

from airflow_provider_jobapi.hooks.base import SettingsHook, read_connection, summary

if TYPE_CHECKING:
    from airflow_provider_jobapi.services.checks import CheckResult
    from airflow_provider_jobapi.services.mlflow.client import MlflowClient
    from airflow_provider_jobapi.services.mlflow.connection import MlflowConnection
    from airflow_provider_jobapi.services.retry import Retry


class MlflowHook(SettingsHook):
    """Reach an MLflow server by its REST API. The fields of its connection are described in
    :class:`~airflow_provider_jobapi.services.mlflow.connection.MlflowConnection`.

    :param conn_id: The id of a connection of the type ``mlflow``.
    """

    conn_name_attr = "conn_id"
    conn_type = "mlflow"
    hook_name = "MLflow"
    default_conn_name = "mlflow_default"

    def __init__(self, conn_id: str | None = None, logger_name: str | None = None) -> None:
        super().__init__(logger_name=logger_name)
        self.conn_id = conn_id or self.default_conn_name

    @classmethod
    def settings_class(cls) -> type[MlflowConnection]:
        """The model of the connection's fields."""
        from airflow_provider_jobapi.services.mlflow.connection import MlflowConnection

        return MlflowConnection

    @cached_property
    def settings(self) -> MlflowConnection:
        """The connection's settings.

        :raises ConnectionProblem: naming the field that is wrong.
        """
        return read_connection(self.settings_class(), BaseHook.get_connection(self.conn_id))

    def get_conn(self, retry: Retry | None = None) -> MlflowClient:
        """The client, which holds the session."""
        from airflow_provider_jobapi.services.mlflow.client import MlflowClient

        return MlflowClient(self.settings, retry=retry, log=self.log)

    def test_connection(self) -> tuple[bool, str]:
        """Check that the server answers and lets this user read the registry."""
        return summary(self._checks)

    def _checks(self) -> list[CheckResult]:
        from airflow_provider_jobapi.services.checks import run_check

        client = self.get_conn()

        def server() -> str:
            clear = " (the password travels unencrypted: let the host begin with https://)"
            return f"MLflow {client.version()} answers{clear if self.settings.in_clear else ''}"

        def registry() -> str:
            client.get("registered-models/search", "the registered models", max_results=1)
            return "the registered models can be listed"

        return [run_check("Server", server), run_check("Registry", registry)]
