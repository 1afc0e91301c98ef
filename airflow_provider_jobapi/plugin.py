# SPDX-License-Identifier: Apache-2.0
"""What Airflow's web server, scheduler and workers load from this provider at their start."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from airflow.plugins_manager import AirflowPlugin

from airflow_provider_jobapi.links.training import ROUTE

PREFIX = "/jobapi/ui"
"""Where the API server serves the files of the Training tab."""


class JobApiPlugin(AirflowPlugin):
    """The provider's place in the Airflow UI: the Training tab on the page of a task instance."""

    name = "jobapi"

    @cached_property
    def fastapi_apps(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """The tab's files; only the API server asks for them, and pays for the import."""
        from airflow_provider_jobapi.ui.files import Files

        return [{"name": "jobAPI", "app": Files(), "url_prefix": PREFIX}]

    @cached_property
    def react_apps(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """The tab. Its name is its title, and what its module calls the component."""
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
    """The path under which the UI is.

    Airflow 3.1 takes a relative address from its own script's place, and later ones from the page's base, so only an
    absolute path is right for both.
    """
    from urllib.parse import urlsplit

    from airflow_provider_jobapi._airflow import conf

    return urlsplit(conf.get("api", "base_url", fallback="") or "").path.rstrip("/")
