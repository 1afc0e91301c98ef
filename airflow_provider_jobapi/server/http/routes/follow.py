# SPDX-License-Identifier: Apache-2.0
"""The route ``POST /api/v2/follow``: follow the logs of many jobs by one request."""

from __future__ import annotations

from typing import Annotated, NoReturn, NotRequired

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

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
    parsed,
    wait_headers,
)
from airflow_provider_jobapi.server.store.job_record import JobKey
from airflow_provider_jobapi.training.status import JobState

MEDIA_TYPE = "application/vnd.jobapi.follow"

MOST_JOBS = 5_000
"""The most jobs of one request."""

router = APIRouter(prefix=PREFIX, tags=["jobs"], dependencies=[authenticated])


class FollowRequestJob(TypedDict):
    """A job, and what the client knows of it."""  # a dictionary, since an object takes twice the time

    job: Annotated[str, Field(pattern=f"^{JOB_ID}$", description="the id of the job")]
    offset: NotRequired[
        Annotated[
            int, Field(strict=True, ge=0, le=2**53, description="where its records begin, in bytes; by default 0")
        ]
    ]
    state: NotRequired[
        Annotated[
            StateWord | None,
            Field(description="the status that the client knows; any other one is news. By default the present one"),
        ]
    ]
    scalars: NotRequired[
        Annotated[
            bool,
            Field(
                strict=True,
                description="whether the client knows that the job has scalars; otherwise the first are news",
            ),
        ]
    ]


class FollowRequest(BaseModel):
    """The jobs that a client follows, each once."""

    jobs: list[FollowRequestJob] = Field(min_length=1, max_length=MOST_JOBS)


_STATES: dict[str | None, JobState | None] = {None: None} | {state.value: state for state in JobState}


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
    asked = parsed(FollowRequest, content).jobs
    jobs = [
        FollowedJob(
            JobKey(client, each["job"]),
            each.get("offset", 0),
            _STATES[each.get("state")],
            has_scalars=each.get("scalars", False),
        )
        for each in asked
    ]
    if len({each.key for each in jobs}) < len(jobs):
        _refuse_second([each["job"] for each in asked])
    return jobs


def _refuse_second(job_ids: list[str]) -> NoReturn:
    """Refuse a request that names a job twice."""
    place = next(place for place, job_id in enumerate(job_ids) if job_ids.index(job_id) < place)
    first = job_ids.index(job_ids[place])
    detail = f"jobs.{place}.job names the job {job_ids[place]}, as jobs.{first} does: name each job once."
    raise Problem(422, None, detail, field=f"jobs.{place}.job")
