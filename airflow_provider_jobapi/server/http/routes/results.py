# SPDX-License-Identifier: Apache-2.0
"""The routes of what an ended job left: the files of its model, and those in its working directory."""

from __future__ import annotations

import os
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, Field

from airflow_provider_jobapi.server.errors import JobStillActive
from airflow_provider_jobapi.server.http.downloads import BYTES, BYTES_HEADERS, download
from airflow_provider_jobapi.server.http.problems import documented
from airflow_provider_jobapi.server.http.routes.dependencies import (
    JOB_ERRORS,
    PREFIX,
    ClientId,
    Components,
    JobId,
    ServerComponents,
    authenticated,
)
from airflow_provider_jobapi.server.store import kept_work, model_listing
from airflow_provider_jobapi.server.store.job_record import Job
from airflow_provider_jobapi.training.status import write_time

router = APIRouter(prefix=f"{PREFIX}/jobs", tags=["jobs"], dependencies=[authenticated])


class ModelFile(BaseModel):
    """A file of a model."""

    path: str = Field(description="relative to the model's directory")
    size: int = Field(description="bytes")
    sha256: str = Field(description="of the bytes, in hex")
    key: str = Field(description="the key of the object with its bytes")


class Model(BaseModel):
    """The model of a job."""

    kind: str = Field(
        description=(
            "`saved_model`, `mlflow`, `safetensors`, `onnx`, `torch`, `keras`, `xgboost`, `lightgbm`, `pickle`, or "
            "`files` for anything else"
        )
    )
    root: str = Field(description="its directory, relative to the job's working directory")
    path: str = Field(description="the same, for clients of the first version")
    prefix: str = Field(description="what the keys of its files begin with")
    unsafe: bool = Field(
        default=False, description="true, and only then sent, where to load it can run code that is in its files"
    )
    files: list[ModelFile]


class ModelAnswer(BaseModel):
    """The model of a job, or null."""

    job_id: str
    model: Model | None
    next: str | None = Field(
        default=None, description="of a page: the `after` of the next page of files; null at the end"
    )


class WorkFile(BaseModel):
    """A file in the working directory of a job."""

    path: str = Field(description="relative to the working directory")
    size: int = Field(description="bytes")


class Work(BaseModel):
    """The working directory of a job that has ended."""

    files: list[WorkFile]
    count: int = Field(description="how many files it has, on all pages")
    size: int = Field(description="the bytes of all of them")
    leftOut: int = Field(  # noqa: N815 -- the wire's spelling
        description="how many entries are not listed: links, special files, names that not every system can write"
    )
    until: str | None = Field(description="when it is removed at the latest (RFC 3339)")


class WorkAnswer(BaseModel):
    """The working directory of a job, or null where it is gone or empty."""

    job_id: str
    work: Work | None
    next: str | None = Field(description="the `after` of the next page of files; null at the end")


After = Annotated[str | None, Query(max_length=1024, description="The `next` of the page before")]
_LIMIT = Query(ge=1, le=model_listing.PAGE_FILES, description="The most files of one page")
Kind = Annotated[
    str | None,
    Query(
        max_length=40,
        description=(
            "Where the model is a SavedModel and `MODEL_DIR` has other files, `files` returns all of `MODEL_DIR`, and "
            "so does the kind that it is as a whole, such as `mlflow`"
        ),
    ),
]


def _ended(server: ServerComponents, client: str, job_id: str, what: str) -> Job:
    job = server.registry.get(client, job_id)
    if not job.state.ended:
        raise JobStillActive(f"The job {job_id} is {job.state}: get its {what} after it has ended.")
    return job


def _page_of(job_id: str, what: str, listing: dict[str, Any] | None, after: str | None, limit: int) -> JSONResponse:
    """Answer with a page of the files that a job left; with null where it left none."""
    following = None
    if listing is not None:
        listing["files"], following = model_listing.page(listing["files"], after, limit)
    return JSONResponse({"job_id": job_id, what: listing, "next": following})


@router.get(
    "/{job_id}/model",
    summary="Get the model of a job",
    description=(
        "Lists its files, sorted by path: all of them, or a page where the request has `limit`. Their bytes are read "
        "from the storage, by their keys."
    ),
    response_model=ModelAnswer,
    response_description="The files of the model, or null",
    responses=documented(**JOB_ERRORS, s409="The job has not ended"),
)
def get_model(
    server: Components,
    client: ClientId,
    job_id: JobId,
    kind: Kind = None,
    after: After = None,
    limit: Annotated[int | None, _LIMIT] = None,
) -> JSONResponse:
    """Return the model of a job that has ended."""
    job = _ended(server, client, job_id, "model")
    model = job.model and model_listing.read(job.directory, job.model, kind)
    if limit is None:
        return JSONResponse({"job_id": job_id, "model": model})
    return _page_of(job_id, "model", model, after, limit)


@router.get(
    "/{job_id}/work",
    summary="List the working directory of an ended job",
    description=(
        "The working directory of a job that was not successful, or wrote no model, stays for a while. A page of its "
        "files, sorted by path."
    ),
    response_model=WorkAnswer,
    response_description="The files of the working directory, or null",
    responses=documented(**JOB_ERRORS, s409="The job has not ended"),
)
def get_work(
    server: Components,
    client: ClientId,
    job_id: JobId,
    after: After = None,
    limit: Annotated[int, _LIMIT] = model_listing.PAGE_FILES,
) -> JSONResponse:
    """List the files that an ended job left in its working directory."""
    job = _ended(server, client, job_id, "working directory")
    found = kept_work.listing(job.directory)
    kept = min(server.settings.work_retention, server.settings.retention)
    work = (
        None
        if found is None
        else {
            "files": [{"path": path, "size": size} for path, size in found.files],
            "count": len(found.files),
            "size": sum(size for _, size in found.files),
            "leftOut": found.left_out,
            "until": write_time(job.kept_from and job.kept_from + kept),
        }
    )
    return _page_of(job_id, "work", work, after, limit)


@router.get(
    "/{job_id}/work/{path:path}",
    summary="Read a file of the working directory of an ended job",
    response_class=StreamingResponse,
    responses=documented(
        s404="There is no such job, or no such file",
        s409="The job has not ended",
        s410="The job is gone",
        s416="The range is outside of the file",
        s422="The id is no UUID",
    )
    | {
        200: {"description": "The bytes", "content": BYTES},
        206: {"description": "The bytes of the Range header", "content": BYTES},
    },
)
def get_work_file(
    request: Request,
    server: Components,
    client: ClientId,
    job_id: JobId,
    path: Annotated[str, Path(description="The path of the file, relative to the working directory")],
) -> Response:
    """Return the bytes of a file of the working directory, or of one range of it."""
    job = _ended(server, client, job_id, "working directory")
    handle = kept_work.open_file(job.directory, path)
    return download(request, handle, os.fstat(handle).st_size, BYTES_HEADERS)
