# SPDX-License-Identifier: Apache-2.0
"""``/healthz``: whether the server works, for whoever watches over it."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, Field

from airflow_provider_jobapi import __version__
from airflow_provider_jobapi.server.http.routes.common import Components

router = APIRouter(tags=["health"])


class Health(BaseModel):
    """The server works."""

    status: str = Field(description="always `ok`")
    version: str = Field(description="the server's version")


@router.get("/healthz", summary="Ask whether the server works", response_model=Health, response_description="It works")
def health(server: Components) -> Health:
    """Answer after a look into the database."""
    server.clients.all()
    return Health(status="ok", version=__version__)
