# SPDX-License-Identifier: Apache-2.0
"""What the calls share: the components of the server, who asks, the body, and how errors are documented."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Depends, Path, Request, Security
from fastapi.concurrency import run_in_threadpool
from fastapi.security import OAuth2
from pydantic import BaseModel, Field

from airflow_provider_jobapi.server.config import Settings
from airflow_provider_jobapi.server.http.log_reader import LogWatcher
from airflow_provider_jobapi.server.http.oauth import TokenEndpoint, TokenVerifier, bearer
from airflow_provider_jobapi.server.http.problems import MEDIA_TYPE, Problem
from airflow_provider_jobapi.server.run.housekeeping import Housekeeper
from airflow_provider_jobapi.server.run.runner import Runner
from airflow_provider_jobapi.server.store.clients import ClientRegistry
from airflow_provider_jobapi.server.store.jobs import JobRegistry
from airflow_provider_jobapi.server.store.objects import ClientStorage, Storages

PREFIX = "/api/v2"
_JOB_ID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"


@dataclass(frozen=True, slots=True)
class ServerComponents:
    """The components of a running server."""

    settings: Settings
    clients: ClientRegistry
    tokens: TokenEndpoint
    verifier: TokenVerifier
    storages: Storages
    registry: JobRegistry
    runner: Runner
    housekeeper: Housekeeper
    log_watcher: LogWatcher


async def components(request: Request) -> ServerComponents:
    """Return the components of the running server. Asynchronous, since a hop to a thread costs more than the look."""
    found: ServerComponents = request.app.state.components
    return found


async def client_id(request: Request, server: Components) -> str:
    """The client that asks.

    :raises Problem: 401.
    """
    token = bearer(request.headers.get("authorization"))
    known = server.verifier.recall(token)
    return await run_in_threadpool(server.verifier.verify, token) if known is None else known


async def storage(server: Components, client: ClientId) -> ClientStorage:
    """Return the storage of the client that sent the request."""
    return server.storages.of(client)


async def job_id(
    job_id: Annotated[str, Path(description="A UUID in small letters, chosen by the client")],
) -> str:
    """The job's id.

    :raises Problem: 422, when it is no UUID.
    """
    if not re.fullmatch(_JOB_ID, job_id):
        raise Problem(
            422,
            "invalid-job",
            f"A job cannot have the id {job_id[:80]!r}: it is a UUID in small letters, such as "
            "1b4e28ba-2fa1-11d2-883f-0016d3cca427.",
            field="job_id",
        )
    return job_id


async def body(request: Request) -> bytes:
    """The whole body of a request; its size is bounded by ``limits``."""
    return await request.body()


_scheme = OAuth2(
    scheme_name="clientCredentials",
    description="A token from /oauth/token, sent as `Authorization: Bearer …`.",
    flows={"clientCredentials": {"tokenUrl": "/oauth/token", "scopes": {}}},
    auto_error=False,
)

Components = Annotated[ServerComponents, Depends(components)]
ClientId = Annotated[str, Depends(client_id)]
CallerStorage = Annotated[ClientStorage, Depends(storage)]
JobId = Annotated[str, Depends(job_id)]
Body = Annotated[bytes, Depends(body)]
authenticated = Security(_scheme)


class ProblemBody(BaseModel):
    """An error: RFC 9457 problem details."""

    type: str = Field(description="`about:blank`, or `/problems/<word>` for the errors that programs tell apart")
    title: str = Field(description="what kind of error it is")
    status: int = Field(description="the HTTP status")
    detail: str = Field(description="one sentence: what happened and what to do")
    field: str = Field(default="", description="the field of the job file that is to blame, where there is one")


def errors(**meanings: str) -> dict[int | str, dict[str, Any]]:
    """The errors of a call for the OpenAPI document, such as ``errors(s404="There is no such job")``."""
    schema = {"$ref": "#/components/schemas/ProblemBody"}
    known = {"s401": "No token, or one that is not accepted (any more)"} | meanings
    return {
        int(status[1:]): {"description": text, "content": {MEDIA_TYPE: {"schema": schema}}}
        for status, text in sorted(known.items())
    }


def now() -> str:
    """The server's clock for the ``Job-Time`` header: RFC 3339, UTC, microseconds."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
