# SPDX-License-Identifier: Apache-2.0
"""Serves the files of the Training tab from Airflow's API server. They hold no data, so everybody may read them."""

from __future__ import annotations

from pathlib import Path

from starlette.responses import HTMLResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from airflow_provider_jobapi.ui.recognised import NAME, page


class Files(StaticFiles):
    """The files, which a browser asks about each time, so that those of two versions never meet in one page."""

    def __init__(self) -> None:
        super().__init__(directory=Path(__file__).parent / "static")

    async def get_response(self, path: str, scope: Scope) -> Response:
        """One file, or that it has not changed."""
        response = HTMLResponse(page()) if path == NAME else await super().get_response(path, scope)
        response.headers["Cache-Control"] = "no-cache"
        return response
