# SPDX-License-Identifier: Apache-2.0
"""FastAPI dependencies of the routes: the server's components, the client, its storage, the job id, the job file."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Literal, TypeVar

from fastapi import Depends, Header, Path, Request, Security
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.security import OAuth2
from pydantic import BaseModel, ValidationError

from airflow_provider_jobapi.server.config import Settings
from airflow_provider_jobapi.server.http.audit import audit
from airflow_provider_jobapi.server.http.bodies import BodyMemory
from airflow_provider_jobapi.server.http.follow import Follow
from airflow_provider_jobapi.server.http.log_watcher import WAIT_LIMIT, LogWatcher
from airflow_provider_jobapi.server.http.oauth import TokenEndpoint, TokenVerifier, bearer_token
from airflow_provider_jobapi.server.http.problems import Problem
from airflow_provider_jobapi.server.http.progress_reader import ProgressReader
from airflow_provider_jobapi.server.http.status_answers import StatusAnswers
from airflow_provider_jobapi.server.run.housekeeping import Housekeeper
from airflow_provider_jobapi.server.run.runner import Runner
from airflow_provider_jobapi.server.store.clients import ClientRegistry
from airflow_provider_jobapi.server.store.jobs import JobRegistry
from airflow_provider_jobapi.server.store.objects import ClientStorage
from airflow_provider_jobapi.server.store.storages import Storages
from airflow_provider_jobapi.training.job_file import YAML_LIMIT, JobFile
from airflow_provider_jobapi.training.units import size_text

Body = TypeVar("Body", bound=BaseModel)

PREFIX = "/api/v2"
JOB_ERRORS = {"s404": "There is no such job", "s410": "The job is gone", "s422": "The id is no UUID"}
"""The errors of the routes of a job, for the OpenAPI document."""

JOB_ID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
"""The ids of jobs, as a regular expression."""

PREFER = {
    "name": "Prefer",
    "in": "header",
    "description": "How long to wait for a new record or another status",
    "schema": {"type": "string"},
    "example": "wait=25",
}
"""The header of a long poll, for the OpenAPI document."""

StateWord = Literal["PENDING", "RUNNING", "SUCCESSFUL", "FAILED", "STOPPED"]


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
    follow: Follow
    progress: ProgressReader
    status_answers: StatusAnswers
    bodies: BodyMemory


# All dependencies are asynchronous: running one in a thread would take longer than the dependency itself.


async def components(request: Request) -> ServerComponents:
    """Return the components of the server."""
    found: ServerComponents = request.app.state.components
    return found


async def client_id(request: Request, server: Components) -> str:
    """Return the id of the client that sent the request.

    :raises Problem: 401, when its token is missing or not accepted.
    """
    token = bearer_token(request.headers.get("authorization"))
    known = server.verifier.recall(token)
    try:
        client = await run_in_threadpool(server.verifier.verify, token) if known is None else known
    except Problem as problem:
        audit(request, "token refused", "", reason=problem.detail)
        raise
    request.state.client_id = client
    return client


async def storage(server: Components, client: ClientId) -> ClientStorage:
    """Return the storage of the client that sent the request."""
    return server.storages.of(client)


async def job_id(
    job_id: Annotated[str, Path(description="A UUID in small letters, chosen by the client")],
) -> str:
    """Return the job id of the path.

    :raises Problem: 422, when it is not a UUID.
    """
    if not re.fullmatch(JOB_ID, job_id):
        raise Problem(
            422,
            "invalid-job",
            f"A job cannot have the id {job_id[:80]!r}: it is a UUID in small letters, such as "
            "1b4e28ba-2fa1-11d2-883f-0016d3cca427.",
            field="job_id",
        )
    return job_id


async def cycle(
    given: Annotated[
        str | None,
        Header(
            alias="Job-Cycle",
            description=(
                "A UUID that the jobs for one task have in common, from its first try to its last retry. The job finds "
                "in `CHECKPOINT_DIR` what the one before it left there"
            ),
        ),
    ] = None,
) -> str | None:
    """Return the key that the jobs for one task have in common.

    :raises Problem: 422, when it is not a UUID.
    """
    if given is not None and not re.fullmatch(JOB_ID, given):
        raise Problem(
            422,
            "invalid-job",
            f"The header Job-Cycle cannot be {given[:80]!r}: it is a UUID in small letters that the jobs for one "
            "task have in common; leave it out where there is none.",
        )
    return given


async def wait(request: Request) -> float | None:
    """Return the seconds of ``Prefer: wait``. RFC 7240 says to ignore a preference that cannot be read."""
    for preferred in request.headers.getlist("prefer"):
        if matched := re.search(r"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,6})\"?", preferred, re.IGNORECASE):
            return min(float(matched[1]), WAIT_LIMIT)
    return None


def wait_headers(wait: float | None) -> dict[str, str]:
    """Return the headers of an answer to a request that may have waited."""
    headers = {"Job-Time": job_time(), "Cache-Control": "no-store"}
    return headers if wait is None else headers | {"Preference-Applied": f"wait={wait:.0f}"}


def job_time() -> str:
    """Return the time for the ``Job-Time`` header: RFC 3339, UTC, microseconds."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def parsed(model: type[Body], content: bytes) -> Body:
    """Parse the body of a request; one that is no JSON is refused like one with a wrong field.

    :raises RequestValidationError: when it is not what the model describes.
    """
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        found = error.errors(include_url=False)[0]
        raise RequestValidationError([{**found, "loc": ("body", *found["loc"])}]) from None


async def job_document(request: Request, server: Components, client: ClientId) -> AsyncIterator[bytes]:
    """Return the body of a request with a job file. Its bytes count to the memory of its client until the answer."""
    async with server.bodies.read(request, client) as content:
        yield content


async def job_file(server: Components, client: ClientId, document: JobDocument) -> JobFile:
    """Return the job file of a request.

    :raises Problem: 413, when it is in YAML and too large.
    :raises InvalidJob: when it is no job file.
    """
    if len(document) > YAML_LIMIT and not re.match(rb"\s*\{", document):
        limit = size_text(YAML_LIMIT)
        raise Problem(413, None, f"The job file is larger than {limit}, the limit for YAML; write it as JSON.")
    async with server.bodies.turn(client):
        return await run_in_threadpool(JobFile.parse, document)


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
Cycle = Annotated[str | None, Depends(cycle)]
Wait = Annotated[float | None, Depends(wait)]
JobDocument = Annotated[bytes, Depends(job_document)]
SubmittedJobFile = Annotated[JobFile, Depends(job_file)]
authenticated = Security(_scheme)
