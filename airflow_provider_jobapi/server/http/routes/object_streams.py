# SPDX-License-Identifier: Apache-2.0
"""The routes ``/api/v2/storage/upload`` and ``/api/v2/storage/download``: many objects by one request."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Generator, Iterator, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from airflow_provider_jobapi.server.errors import ServerError
from airflow_provider_jobapi.server.http.downloads import PIECE
from airflow_provider_jobapi.server.http.problems import documented, problem_of
from airflow_provider_jobapi.server.http.routes.dependencies import (
    PREFIX,
    CallerStorage,
    ClientId,
    Components,
    authenticated,
    parsed,
)
from airflow_provider_jobapi.server.store.object_stream import MOST_OBJECTS, ObjectStream
from airflow_provider_jobapi.server.store.objects import ClientStorage, StoredObject

MEDIA_TYPE = "application/vnd.jobapi.objects"

_OPEN = 50
"""The most objects of an answer whose files are open at the same time."""

_READ_ON = 64 * 2**20
"""The most bytes that are read after an error, so that a client that sends the rest first gets the answer."""

_STREAM = {MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}}

router = APIRouter(prefix=f"{PREFIX}/storage", tags=["storage"], dependencies=[authenticated])


class Uploaded(BaseModel):
    """The objects that were written."""

    objects: int = Field(description="how many")
    size: int = Field(description="their bytes")


class Wanted(BaseModel):
    """The objects that a client reads."""

    keys: list[Annotated[str, Field(max_length=1024)]] = Field(
        min_length=1, max_length=MOST_OBJECTS, description="their keys"
    )


@router.post(
    "/upload",
    summary="Write many objects",
    description=(
        f"Writes up to {MOST_OBJECTS} objects, all of them or none. The body has an entry for each: a line of JSON, "
        '`{"key": …, "size": …, "sha256": …}`, and then exactly `size` bytes, whose SHA-256 is compared. The answer is '
        "sent when all are on the disk; until then, reads return the old ones. The same request can be repeated."
    ),
    response_model=Uploaded,
    response_description="All objects are written",
    responses=documented(
        s409="A key belongs to a job that has not ended",
        s410="A key belongs to a job that was deleted",
        s422="A key or a line is wrong, or the bytes of an object do not match its SHA-256",
        s507="The client's storage or the server's disk is full",
    ),
    openapi_extra={"requestBody": {"required": True, "content": _STREAM}},
)
async def upload_objects(request: Request, server: Components, client: ClientId, storage: CallerStorage) -> Uploaded:
    """Write many objects while their bytes are received."""
    stream = await run_in_threadpool(ObjectStream, storage, server.registry.check_write(client))
    try:
        await _receive(request, stream)
        stored = await run_in_threadpool(stream.commit)
    finally:
        await run_in_threadpool(stream.close)
    return Uploaded(objects=len(stored), size=sum(each.size for each in stored))


async def _receive(request: Request, stream: ObjectStream) -> None:
    pieces, body = bytearray(), request.stream()
    try:
        async for piece in body:
            pieces += piece
            if len(pieces) >= PIECE:
                await run_in_threadpool(stream.write, bytes(pieces))
                pieces.clear()
        await run_in_threadpool(stream.write, bytes(pieces))
    except ServerError:
        await run_in_threadpool(stream.close)
        left = _READ_ON
        async for piece in body:
            left -= len(piece)
            if left < 0:
                break
        raise


@router.post(
    "/download",
    summary="Read many objects",
    description=(
        f"Sends up to {MOST_OBJECTS} objects in the order of the request, with an entry for each: a line of JSON, "
        '`{"key": …, "size": …, "sha256": …}`, and then exactly `size` bytes, or `{"key": …, "problem": {"status": '
        '404, …}, "size": 0}`, the problem that the route of the object would answer.'
    ),
    response_class=Response,
    response_description="The entries of the objects",
    responses=documented(
        s413="The body is too large",
        s422="The body is wrong",
        s503="The requests of the client need too much memory",
    )
    | {200: {"content": _STREAM}},
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Wanted"}}},
        },
    },
)
async def download_objects(request: Request, server: Components, client: ClientId, storage: CallerStorage) -> Response:
    """Send many objects."""
    async with server.bodies.read(request, client) as content:
        wanted = parsed(Wanted, content)
    return StreamingResponse(_sent(storage, wanted.keys), media_type=MEDIA_TYPE)


async def _sent(storage: ClientStorage, keys: Sequence[str]) -> AsyncIterator[bytes]:
    pieces = _pieces(storage, keys)
    try:
        while piece := await run_in_threadpool(next, pieces, b""):
            yield piece
    finally:
        pieces.close()


def _pieces(storage: ClientStorage, keys: Sequence[str]) -> Generator[bytes, None, None]:
    """The entries of objects, small ones together."""
    held = bytearray()
    for start in range(0, len(keys), _OPEN):
        some = keys[start : start + _OPEN]
        opened = storage.open_all(some)
        try:
            for key in some:
                for part in _entry(storage, key, opened):
                    held += part
                    if len(held) >= PIECE:
                        yield bytes(held)
                        held.clear()
        finally:
            for _, handle in opened.values():
                os.close(handle)
    if held:
        yield bytes(held)


def _entry(storage: ClientStorage, key: str, opened: dict[str, tuple[StoredObject, int]]) -> Iterator[bytes]:
    try:
        stored, handle = opened.pop(key) if key in opened else storage.open(key)
    except ServerError as error:
        yield _line({"key": key, "problem": problem_of(error).body(), "size": 0})
        return
    try:
        yield _line({"key": key, "size": stored.size, "sha256": stored.sha256})
        left = stored.size
        while left:
            piece = os.read(handle, min(PIECE, left))
            if not piece:
                raise OSError("A file has fewer bytes than were announced")
            left -= len(piece)
            yield piece
    finally:
        os.close(handle)


def _line(content: dict[str, Any]) -> bytes:
    return json.dumps(content).encode() + b"\n"
