# SPDX-License-Identifier: Apache-2.0
"""The provider info that Airflow reads at its start."""

from __future__ import annotations

from typing import Any

from folder_training.connection import FolderConnection


def get_provider_info() -> dict[str, Any]:
    """Describe the provider."""
    return {
        "package-name": "airflow-provider-folder-training",
        "name": "Folder training",
        "description": "Runs training jobs as processes of this machine, in a folder.",
        "connection-types": [
            {
                "connection-type": "folder_training",
                "hook-name": "Folder training",
                "hook-class-name": "folder_training.hook.FolderHook",
                "conn-fields": FolderConnection.conn_fields(),
                "ui-field-behaviour": FolderConnection.field_behaviour(),
            }
        ],
    }
