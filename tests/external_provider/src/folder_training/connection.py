# SPDX-License-Identifier: Apache-2.0
"""The fields of a connection. Airflow imports this module when it starts, so it imports nothing of Airflow."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_provider_jobapi.services.fields import ConnectionSettings, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderConnection(ConnectionSettings):
    """A connection to a folder of this machine."""

    folder: str = setting("Folder", "The folder in which jobs run.", required=True)
    logs_conn_id: str = setting("Logs", "The id of the connection whose extra names the folder of the logs.")
