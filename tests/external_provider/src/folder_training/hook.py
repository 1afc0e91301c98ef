# SPDX-License-Identifier: Apache-2.0
"""The hook of the connection type ``folder_training``.

Jobs run in the folder of this connection. Their logs are in the folder of a second connection.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from airflow_provider_jobapi.hooks.base import TrainingHook, read_connection
from folder_training.connection import FolderConnection

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from folder_training.service import FolderService


class FolderHook(TrainingHook):
    """Run jobs in a folder of this machine."""

    conn_type = "folder_training"
    hook_name = "Folder training"
    default_conn_name = "folder_training_default"

    @classmethod
    def settings_class(cls) -> type[FolderConnection]:
        """The model of the connection's fields."""
        return FolderConnection

    @classmethod
    def other_connections(cls, connection: Connection) -> Mapping[str, str]:
        """The connection whose folder has the logs."""
        logs = read_connection(FolderConnection, connection).logs_conn_id
        return {"logs": logs} if logs else {}

    @classmethod
    def build(
        cls,
        connection: Connection,
        patience: float | None = None,  # noqa: ARG003 -- a folder is always reachable
        others: Mapping[str, Connection] | None = None,
    ) -> FolderService:
        """Make the service from the two connections."""
        from folder_training.service import FolderService

        folder = read_connection(FolderConnection, connection).folder
        return FolderService(folder, others["logs"].extra_dejson["folder"] if others else folder)
