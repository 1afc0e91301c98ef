# SPDX-License-Identifier: Apache-2.0
"""The route ``POST /api/v2/follow``: follow the logs of many jobs by one request."""

from __future__ import annotations

from typing import Annotated, NoReturn

from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field, ValidationError

from airflow_provider_jobapi.server.http.follow import FollowedJob
from airflow_provider_jobapi.server.http.problems import Problem, documented
from airflow_provider_jobapi.server.http.routes.dependencies import (
    JOB_ID,
    PREFER,
    PREFIX,
    ClientId,
    Components,
    StateWord,
    Wait,
    authenticated,
    wait_headers,
)
from airflow_provider_jobapi.server.store.job_record import JobKey
from airflow_provider_jobapi.training.status import JobState

MEDIA_TYPE = "application/vnd.jobapi.follow"

MOST_JOBS = 5_000
"""The most jobs of one request."""

router = APIRouter(prefix=PREFIX, tags=["jobs"], dependencies=[authenticated])


class FollowRequestJob(BaseModel):
    """A job, and what the client knows of it."""

    job: str = Field(pattern=f"^{JOB_ID}$", description="the id of the job")
    offset: Annotated[int, Field(strict=True, ge=0, le=2**53)] = Field(
        default=0, description="where its records begin, in bytes"
    )
    state: StateWord | None = Field(
        default=None, description="the status that the client knows; any other one is news. By default the present one"
    )
    scalars: Annotated[bool, Field(strict=True)] = Field(
        default=False, description="whether the client knows that the job has scalars; otherwise the first are news"
    )


class FollowRequest(BaseModel):
    """The jobs that a client follows, each once."""

    jobs: list[FollowRequestJob] = Field(min_length=1, max_length=MOST_JOBS)


_HEADERS = {"Job-Time": "the time on the server", "Preference-Applied": "`wait=<seconds>`, where the request had one"}


@router.post(
    "/follow",
    summary="Follow the logs of many jobs",
    description=(
        "Answers as soon as at least one of the jobs has news: records after its offset, another status than `state`, "
        "the first scalars, the end of the log, or that the job cannot be followed. With `Prefer: wait=<seconds>` (RFC "
        "7240, at most 25) it waits for that; the body is empty when there is none. The body has an entry for each "
        'job with news, in the order of the request: a line of JSON, `{"job": …, "state": …, "next_offset": …, "size": '
        '…, "complete": …, "scalars": …, "length": …}`, and then exactly `length` bytes of whole records of its log, '
        'or `{"job": …, "problem": {"status": 404, …}, "length": 0}`, the problem that the route of its log would '
        "answer. An answer has at most 4 MiB of records, divided among the jobs with news, and at most 1 MiB of one "
        "job. Where there is no room for a job, its entry is missing: name it first in the next request."
    ),
    response_class=Response,
    response_description="The entries of the jobs with news, or an empty body",
    responses=documented(
        s413="The body is too large",
        s422="The body is wrong, or names a job twice",
        s503="The requests of the client need too much memory",
    )
    | {
        200: {
            "content": {MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}},
            "headers": {name: {"description": text, "schema": {"type": "string"}} for name, text in _HEADERS.items()},
        }
    },
    openapi_extra={
        "parameters": [PREFER],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/FollowRequest"}}},
        },
    },
)
async def follow_jobs(request: Request, server: Components, client: ClientId, wait: Wait) -> Response:
    """Return the entries of the jobs with news."""
    # The body counts to the memory of its client for as long as the jobs that were read from it are needed.
    async with server.bodies.read(request, client) as content:
        answer = await server.follow.news(request, _jobs(client, content), wait or 0.0)
    return Response(answer, headers=wait_headers(wait), media_type=MEDIA_TYPE)


def _jobs(client: str, content: bytes) -> list[FollowedJob]:
    """Read the body of a request."""
    try:
        asked = FollowRequest.model_validate_json(content).jobs
    except ValidationError as error:
        _refuse(error)
    places: dict[str, int] = {}
    for place, each in enumerate(asked):
        if places.setdefault(each.job, place) != place:
            detail = f"jobs.{place}.job names the job {each.job}, as jobs.{places[each.job]} does: name each job once."
            raise Problem(422, None, detail, field=f"jobs.{place}.job")
    return [
        FollowedJob(
            JobKey(client, each.job),
            each.offset,
            JobState(each.state) if each.state else None,
            has_scalars=each.scalars,
        )
        for each in asked
    ]


def _refuse(error: ValidationError) -> NoReturn:
    found = error.errors(include_url=False)[0]
    raise RequestValidationError([{**found, "loc": ("body", *found["loc"])}])
