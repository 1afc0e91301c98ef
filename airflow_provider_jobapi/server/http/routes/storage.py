# SPDX-License-Identifier: Apache-2.0
"""The routes of ``/api/v2/storage``: its address and state, and the objects of a client."""

from __future__ import annotations

import base64
import re
from email.utils import format_datetime
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, Field

from airflow_provider_jobapi.server.http.audit import audit
from airflow_provider_jobapi.server.http.downloads import BYTES, BYTES_HEADERS, PIECE, download
from airflow_provider_jobapi.server.http.problems import Problem, documented
from airflow_provider_jobapi.server.http.routes.dependencies import (
    PREFIX,
    CallerStorage,
    ClientId,
    Components,
    authenticated,
)
from airflow_provider_jobapi.server.store.objects import ObjectWriter, StoredObject
from airflow_provider_jobapi.training.job_features import features_of, to_header
from airflow_provider_jobapi.training.job_file import JobFile
from airflow_provider_jobapi.training.status import write_time

router = APIRouter(prefix=f"{PREFIX}/storage", tags=["storage"], dependencies=[authenticated])

Key = Annotated[str, Path(description="A relative path, such as jobs/train-1b4e28ba-…/train.py")]


class Storage(BaseModel):
    """The storage of a client, with the fields of SAP's service."""

    endpoint: str = Field(description="the address of the storage")
    accessKey: str = Field(description="empty, since this storage accepts the token")  # noqa: N815 -- the wire's spelling
    secretKey: str = Field(description="empty, since this storage accepts the token")  # noqa: N815
    bucket: str = Field(description="always `data`")
    protocol: str = Field(description="`http` for the routes below; a service with an S3 storage has `s3`")
    region: str = Field(description="empty; an S3 storage has one")
    status: str = Field(description="`READY` after a write and a read have worked, otherwise `ERROR`")
    message: str = Field(description="the reason, in one sentence")


class StoredAnswer(BaseModel):
    """An object that was written."""

    key: str
    size: int = Field(description="bytes")
    sha256: str = Field(description="of the bytes, in hex")


class ListedObject(StoredAnswer):
    """An object in a list."""

    modified: str = Field(description="when it was written (RFC 3339)")


class ObjectPage(BaseModel):
    """A page of objects, sorted by key."""

    objects: list[ListedObject]
    next: str | None = Field(description="the `after` of the next page; null at the end")


_LIMITS = {
    "description": (
        "What one job may ask for, so that a client can check it before the upload, such as `cpus=8, gpus=1, "
        "memory=32000, python=3`: memory in MB, and the major version of the only Python"
    ),
    "schema": {"type": "string"},
}
_FEATURES = {
    "description": "What this server understands beyond the first version of the contract, such as `resume-from`",
    "schema": {"type": "string"},
}


@router.get(
    "",
    summary="Get the address of the storage",
    description="The status is `READY` after a write and a read have worked.",
    response_model=Storage,
    response_description="The address of the storage, and whether it works",
    responses=documented() | {200: {"headers": {"Job-Limits": _LIMITS, "Job-Features": _FEATURES}}},
)
def get_storage(request: Request, response: Response, server: Components, storage: CallerStorage) -> Storage:
    """Return the address of the storage, and whether a write and a read work."""
    response.headers["Job-Limits"] = server.registry.limits.to_header()
    response.headers["Job-Features"] = to_header(features_of(JobFile))
    probe = storage.probe()
    return Storage(
        endpoint=f"{server.settings.url.rstrip('/') or _address(request)}{PREFIX}/storage",
        accessKey="",
        secretKey="",
        bucket="data",
        protocol="http",
        region="",
        status="READY" if probe.ok else "ERROR",
        message=probe.message,
    )


def _address(request: Request) -> str:
    """Return the address at which the request reached this server, of which no header of it says anything."""
    host, port = request.scope["server"]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@router.get(
    "/objects",
    summary="List objects",
    response_model=ObjectPage,
    response_description="A page of objects",
    responses=documented(s422="A parameter is wrong"),
)
def list_objects(
    storage: CallerStorage,
    prefix: Annotated[str, Query(max_length=1024, description="Only keys that begin with this")] = "",
    after: Annotated[str, Query(max_length=1024, description="Only keys after this one")] = "",
    limit: Annotated[int, Query(ge=1, le=1000, description="The most objects of one page")] = 1000,
) -> ObjectPage:
    """List objects."""
    page, following = storage.page(prefix, after, limit)
    listed = [
        ListedObject(key=each.key, size=each.size, sha256=each.sha256, modified=write_time(each.modified) or "")
        for each in page
    ]
    return ObjectPage(objects=listed, next=following)


_DIGEST = {
    "name": "Content-Digest",
    "in": "header",
    "description": "`sha-256=:<base64>:` (RFC 9530): the bytes are compared with it; `Repr-Digest` works too",
    "schema": {"type": "string"},
}


@router.put(
    "/objects/{key:path}",
    summary="Write an object",
    description="The answer is sent when the whole object is on the disk. Until then, reads return the old one.",
    response_model=StoredAnswer,
    status_code=201,
    response_description="The object is new",
    responses=documented(
        s409="The key belongs to a job that has not ended",
        s410="The key belongs to a job that was deleted",
        s415="The bytes have a Content-Encoding",
        s422="The key is invalid, or the bytes do not match Content-Digest",
        s507="The client's storage or the server's disk is full",
    )
    | {200: {"model": StoredAnswer, "description": "The object was replaced"}},
    openapi_extra={"requestBody": {"content": BYTES}, "parameters": [_DIGEST]},
)
async def put_object(
    request: Request, server: Components, client: ClientId, storage: CallerStorage, key: Key
) -> JSONResponse:
    """Write an object while its bytes are received."""
    digest = _digest_of(request)
    check = server.registry.check_write(client)
    writer = await run_in_threadpool(storage.writer, key, _length(request), check)
    try:
        await _receive(request, writer)
        if digest not in {None, writer.sha256}:
            raise Problem(
                422,
                "wrong-digest",
                f"The bytes that were received have SHA-256 {writer.sha256}, not {digest}: send them again.",
            )
        stored, new = await run_in_threadpool(writer.commit, check)
    finally:
        await run_in_threadpool(writer.close)
    content = {"key": stored.key, "size": stored.size, "sha256": stored.sha256}
    return JSONResponse(content, 201 if new else 200, headers={"ETag": f'"{stored.sha256}"'})


async def _receive(request: Request, writer: ObjectWriter) -> None:
    pieces = bytearray()
    async for piece in request.stream():
        pieces += piece
        if len(pieces) >= PIECE:
            await run_in_threadpool(writer.write, bytes(pieces))
            pieces.clear()
    await run_in_threadpool(writer.write, bytes(pieces))


_OBJECT_ERRORS = documented(
    s404="There is no such object", s416="The range is outside of the object", s422="The key is invalid"
)


@router.head(
    "/objects/{key:path}",
    summary="Get the headers of an object",
    response_class=Response,
    response_description="The headers of a GET, without the bytes",
    responses=documented(s404="There is no such object", s422="The key is invalid"),
)
def head_object(storage: CallerStorage, key: Key) -> Response:
    """Return the headers of a GET."""
    stored = storage.head(key)
    return Response(headers=_headers(stored) | {"Content-Length": str(stored.size)})


@router.get(
    "/objects/{key:path}",
    summary="Read an object",
    response_class=StreamingResponse,
    responses=_OBJECT_ERRORS
    | {
        200: {"description": "The bytes", "content": BYTES},
        206: {"description": "The bytes of the Range header", "content": BYTES},
    },
)
def get_object(request: Request, storage: CallerStorage, key: Key) -> Response:
    """Return the bytes of an object, or of one range of it."""
    stored, handle = storage.open(key)
    return download(request, handle, stored.size, _headers(stored))


@router.delete(
    "/objects/{key:path}",
    summary="Delete an object",
    status_code=204,
    response_description="The object is deleted",
    responses=documented(
        s404="There is no such object",
        s409="The key belongs to a job that has not ended",
        s410="The key belongs to a job that was deleted",
        s422="The key is invalid",
    ),
)
def delete_object(request: Request, server: Components, client: ClientId, storage: CallerStorage, key: Key) -> Response:
    """Delete an object."""
    storage.delete(key, server.registry.check_write(client))
    audit(request, "delete object", client, key=key)
    return Response(status_code=204)


def _headers(stored: StoredObject) -> dict[str, str]:
    digest = base64.b64encode(bytes.fromhex(stored.sha256)).decode()
    return {
        "ETag": f'"{stored.sha256}"',
        "Repr-Digest": f"sha-256=:{digest}:",
        "Last-Modified": format_datetime(stored.modified.replace(microsecond=0), usegmt=True),
        **BYTES_HEADERS,
    }


def _length(request: Request) -> int:
    length = request.headers.get("content-length", "")
    return int(length) if re.fullmatch(r"\d{1,18}", length) else 0


def _digest_of(request: Request) -> str | None:
    """Return the SHA-256 of the Content-Digest header in hex, or None without one."""
    if request.headers.get("content-encoding", "identity") != "identity":
        raise Problem(415, None, "Objects are stored as they are sent: send the bytes without a Content-Encoding.")
    for name in ("content-digest", "repr-digest"):
        if matched := re.search(r"(?:^|[,\s])sha-256=:([A-Za-z0-9+/]{43}=):", request.headers.get(name, "")):
            return base64.b64decode(matched[1]).hex()
        if name in request.headers:
            raise Problem(422, "wrong-digest", f"The {name} header has no SHA-256; write it as 'sha-256=:<base64>:'.")
    return None
