# SPDX-License-Identifier: Apache-2.0
"""The Airflow plugin that adds the Training tab to the UI. Airflow loads it in each of its processes."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from airflow.plugins_manager import AirflowPlugin

from airflow_provider_jobapi.links.training import ROUTE

PREFIX = "/jobapi/ui"
"""The path under which the API server serves the files of the Training tab."""


class JobApiPlugin(AirflowPlugin):
    """The Training tab on the page of a task instance."""

    name = "jobapi"

    @cached_property
    def fastapi_apps(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """The app that serves the tab's files. Only the API server reads this property and imports the app."""
        from airflow_provider_jobapi.ui.files import Files

        return [{"name": "jobAPI", "app": Files(), "url_prefix": PREFIX}]

    @cached_property
    def react_apps(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """The tab. Its name is its title and the name of the component in its module."""
        base = _base_path() + PREFIX
        return [
            {
                "name": "Training",
                "destination": "task_instance",
                "url_route": ROUTE,
                "bundle_url": f"{base}/training.js",
                "icon": f"{base}/icon.svg",
                "icon_dark_mode": f"{base}/icon_dark.svg",
            }
        ]


def _base_path() -> str:
    """The path of the UI.

    Airflow 3.1 resolves a relative address against its own script, and later versions against the page's base, so only
    an absolute path works in both.
    """
    from urllib.parse import urlsplit

    from airflow_provider_jobapi._airflow import conf

    return urlsplit(conf.get("api", "base_url", fallback="") or "").path.rstrip("/")
