# SPDX-License-Identifier: Apache-2.0
"""The routes of ``/api/v2/jobs``: submit, list, get, stop and delete jobs, read the log and the scalars."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from airflow_provider_jobapi.server.errors import DeletedJob
from airflow_provider_jobapi.server.http.audit import audit
from airflow_provider_jobapi.server.http.log_reader import CHUNK_LIMIT, LogPart, read_part, size_of
from airflow_provider_jobapi.server.http.problems import documented
from airflow_provider_jobapi.server.http.routes.dependencies import (
    JOB_ERRORS,
    PREFER,
    PREFIX,
    ClientId,
    Components,
    Cycle,
    JobId,
    ServerComponents,
    StateWord,
    SubmittedJobFile,
    Wait,
    authenticated,
    job_time,
    wait_headers,
)
from airflow_provider_jobapi.server.http.watched_jobs import WatchedJob
from airflow_provider_jobapi.server.store.job_record import JobKey
from airflow_provider_jobapi.server.store.layout import job_directory
from airflow_provider_jobapi.training.status import JobState, JobStatus

router = APIRouter(prefix=f"{PREFIX}/jobs", tags=["jobs"], dependencies=[authenticated])


class JobPage(BaseModel):
    """A page of jobs, the newest first."""

    jobs: list[JobStatus]
    next: str | None = Field(description="the `after` of the next page; null at the end")


class Environment(BaseModel):
    """The Python environment of a job."""

    requirements: str = Field(description="a requirements.txt that makes it again")


class EnvironmentAnswer(BaseModel):
    """The Python environment of a job, or null."""

    job_id: str
    environment: Environment | None


_JOB_FILE = {"schema": {"$ref": "#/components/schemas/JobFile"}}


def _status_answer(status: JobStatus, code: int = 200) -> JSONResponse:
    return JSONResponse(status.to_wire(), code, headers={"Job-Time": job_time()})


@router.post(
    "/{job_id}",
    summary="Submit a job",
    description=(
        "The job file as YAML or JSON, under an id of the client's choice. To submit the same job under the same id "
        "again changes nothing and returns 200. The inputs, at most 10,000 files, are uploaded before, below "
        "`jobs/<name>-<job_id>/`; the job reads them as they are at the time of the submit, even if they are changed "
        "later. Where the job is refused for good, they are removed."
    ),
    response_model=JobStatus,
    status_code=201,
    response_description="The job is accepted",
    responses=documented(
        s409="The id belongs to another job, or an input is not the one that the job names",
        s410="The id was used",
        s413="The job file is too large",
        s422="A field is wrong, an input is missing, or the server could never run the job",
        s429="Too many jobs of the client wait",
        s507="The server's disk is full",
    )
    | {200: {"model": JobStatus, "description": "The job was submitted before"}},
    openapi_extra={
        "requestBody": {"required": True, "content": {"application/yaml": _JOB_FILE, "application/json": _JOB_FILE}}
    },
)
def submit_job(
    request: Request,
    server: Components,
    client: ClientId,
    job_id: JobId,
    job_file: SubmittedJobFile,
    cycle: Cycle,
) -> JSONResponse:
    """Accept a job, or find that it was accepted before."""
    job, new = server.registry.submit(client, job_id, job_file, cycle)
    audit(request, "submit", client, job=job_id, name=job_file.job.name, new=new)
    return _status_answer(job.status(), 201 if new else 200)


@router.get(
    "",
    summary="List jobs",
    response_model=JobPage,
    response_description="A page of jobs, the newest first",
    responses=documented(s404="There is no job of the id in `after`", s422="A parameter is wrong"),
)
def list_jobs(
    server: Components,
    client: ClientId,
    limit: Annotated[int, Query(ge=1, le=1000, description="The most jobs of one page")] = 100,
    after: Annotated[str | None, Query(description="The `next` of the page before")] = None,
    status: Annotated[StateWord | None, Query(description="Only jobs in this state")] = None,
) -> JSONResponse:
    """List jobs."""
    found = server.registry.page(client, limit + 1, after, JobState(status) if status else None)
    page = found[:limit]
    following = page[-1].key.job_id if len(found) > limit else None
    content = {"jobs": [status.to_wire() for status in server.progress.statuses(page)], "next": following}
    return JSONResponse(content, headers={"Job-Time": job_time()})


@router.get(
    "/{job_id}",
    summary="Get the status of a job",
    response_model=JobStatus,
    response_description="The status object",
    responses=documented(**JOB_ERRORS),
)
async def get_job(server: Components, client: ClientId, job_id: JobId) -> Response:
    """Return the status object of a job."""
    key = JobKey(client, job_id)
    body = server.status_answers.recall(key)
    if body is None:
        body = await run_in_threadpool(server.status_answers.read, key)
    return Response(body, headers={"Job-Time": job_time()}, media_type="application/json")


@router.post(
    "/{job_id}/stop",
    summary="Stop a job",
    description="A PENDING job is STOPPED at once. A RUNNING job gets SIGTERM, and SIGKILL after the grace period.",
    response_model=JobStatus,
    response_description="The job is stopping, or has ended",
    responses=documented(**JOB_ERRORS),
)
def stop_job(request: Request, server: Components, client: ClientId, job_id: JobId) -> JSONResponse:
    """Stop a job. A job that has ended does not change."""
    job = server.registry.request_stop(JobKey(client, job_id), by=f"client {client}")
    audit(request, "stop", client, job=job_id, status=job.state.value)
    return _status_answer(job.status())


@router.delete(
    "/{job_id}",
    summary="Delete an ended job",
    description="Removes the job with its log, its files and its objects. Its id stays used.",
    status_code=204,
    response_description="The job is deleted",
    responses=documented(**JOB_ERRORS, s409="The job has not ended"),
)
def delete_job(request: Request, server: Components, client: ClientId, job_id: JobId) -> Response:
    """Delete a job that has ended."""
    server.registry.delete(JobKey(client, job_id))
    audit(request, "delete job", client, job=job_id)
    return Response(status_code=204)


@router.get(
    "/{job_id}/environment",
    summary="Get the packages of a job",
    description=(
        "The packages that its Python environment has, as requirements that install the same. `environment` is null "
        "until it is made."
    ),
    response_model=EnvironmentAnswer,
    response_description="The packages, or null",
    responses=documented(**JOB_ERRORS),
)
def get_environment(server: Components, client: ClientId, job_id: JobId) -> JSONResponse:
    """Return the packages of a job."""
    text = server.registry.get(client, job_id).environment
    return JSONResponse({"job_id": job_id, "environment": None if text is None else {"requirements": text}})


def _records(stream: str, also: Mapping[str, str]) -> dict[int | str, dict[str, Any]]:
    """Describe an answer with records of a stream: ``Log`` or ``Scalars``."""
    headers = {
        f"Job-{stream}-Next-Offset": "the `offset` of the next request",
        f"Job-{stream}-Size": f"the size of the {stream.lower()} so far, in bytes",
        f"Job-{stream}-Complete": "`true` when the job has ended and no record follows",
        **also,
        "Job-Status": "the state of the job",
        "Job-Time": "the time on the server",
        "Preference-Applied": "`wait=<seconds>`, where the request had one",
    }
    described = {name: {"description": text, "schema": {"type": "string"}} for name, text in headers.items()}
    content = {"text/plain": {"schema": {"type": "string"}}}
    answer = {"description": "Whole records, or an empty body", "content": content, "headers": described}
    no_record = f"No record begins at this offset; Job-{stream}-Size says how large the {stream.lower()} is"
    return documented(**JOB_ERRORS, s416=no_record) | {200: answer}


_SCALARS_SIZE = "Job-Scalars-Size"

Offset = Annotated[int, Query(ge=0, le=2**53, description="Where the answer begins, in bytes")]
Limit = Annotated[int, Query(ge=1, description="The most bytes of the answer: at most 1 MiB, and at least one record")]
Known = Annotated[StateWord | None, Query(description="The status that the client knows; any other ends the wait")]


@router.get(
    "/{job_id}/logs",
    summary="Read the log of a job",
    description=(
        "Whole records, each `<RFC 3339 time with microseconds> <text>\\n`, from an offset on. Offsets never change. "
        "With `Prefer: wait=<seconds>` (RFC 7240, at most 25) the answer is sent when there is a new record or "
        "the status changes."
    ),
    response_class=Response,
    responses=_records("Log", {_SCALARS_SIZE: "the size of the scalars so far, in bytes"}),
    openapi_extra={"parameters": [PREFER]},
)
async def get_logs(
    server: Components,
    client: ClientId,
    job_id: JobId,
    wait: Wait,
    offset: Offset = 0,
    limit: Limit = CHUNK_LIMIT,
    known: Known = None,
) -> Response:
    """Return records of the log, with the status of the job in the headers."""
    return await _read_stream("Log", server, JobKey(client, job_id), wait, offset, limit, known)


@router.get(
    "/{job_id}/scalars",
    summary="Read the scalars of a job",
    description=(
        "The points that the job wrote into event files of TensorBoard, as records like those of the log, each with a "
        'line of JSON: `<time> {"jobapi_metrics": 1, "step": 3, "metrics": {"loss": 0.25}}\n`. Offsets and waiting '
        "are those of the log, whose answers say in `Job-Scalars-Size` whether there is anything to read."
    ),
    response_class=Response,
    responses=_records("Scalars", {}),
    openapi_extra={"parameters": [PREFER]},
)
async def get_scalars(
    server: Components,
    client: ClientId,
    job_id: JobId,
    wait: Wait,
    offset: Offset = 0,
    limit: Limit = CHUNK_LIMIT,
    known: Known = None,
) -> Response:
    """Return records of the scalars, with the status of the job in the headers."""
    return await _read_stream("Scalars", server, JobKey(client, job_id), wait, offset, limit, known)


async def _read_stream(
    stream: str,
    server: ServerComponents,
    key: JobKey,
    wait: float | None,
    offset: int,
    limit: int,
    known: StateWord | None,
) -> Response:
    job = await _watched(server, key)

    def read() -> LogPart:
        state = server.registry.state(key)
        if state is None:  # deleted while the request waited
            raise DeletedJob(key.job_id)
        path = job.log if stream == "Log" else job.scalars_file
        part = read_part(path, offset, min(limit, CHUNK_LIMIT), state, stream)
        return replace(part, scalars=size_of(job.scalars_file)) if stream == "Log" else part

    part = await server.log_watcher.wait_for_news(job, read, JobState(known) if known else None, wait or 0.0)
    headers = _record_headers(stream, part, wait)
    return Response(part.body, headers=headers, media_type="text/plain; charset=utf-8")


async def _watched(server: ServerComponents, key: JobKey) -> WatchedJob:
    """Return the watch of a job's files, after it was looked up where that is not certain to find it."""
    changes, job = server.clients.changes(), server.log_watcher.jobs.get(key)
    if job is None or job.checked != changes or server.registry.state(key) is None:
        home = job_directory(server.settings.root, *key)
        if server.registry.state(key) is None or not (home / "log").exists():
            await run_in_threadpool(server.registry.get, *key)
        job = server.log_watcher.jobs.watch(key, home)
        job.checked = changes
    return job


def _record_headers(stream: str, part: LogPart, wait: float | None) -> dict[str, str]:
    headers = {
        f"Job-{stream}-Next-Offset": str(part.next_offset),
        f"Job-{stream}-Size": str(part.size),
        f"Job-{stream}-Complete": "true" if part.complete else "false",
        "Job-Status": part.state.value,
    }
    if stream == "Log":
        headers[_SCALARS_SIZE] = str(part.scalars)
    return headers | wait_headers(wait)
