# SPDX-License-Identifier: Apache-2.0
"""Answer a request with the bytes of a file, or with one range of them."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Mapping
from typing import Any

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse

from airflow_provider_jobapi.server.http.problems import Problem

PIECE = 2**18
"""Bytes of a file that a connection holds in memory, also while its client sends or reads nothing."""

BYTES = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
"""The content of the answer, for the OpenAPI document."""

BYTES_HEADERS = {
    "Accept-Ranges": "bytes",
    "Content-Type": "application/octet-stream",
    "X-Content-Type-Options": "nosniff",
}


def download(request: Request, handle: int, size: int, headers: Mapping[str, str]) -> StreamingResponse:
    """Answer with the bytes of a file, or with the range that the request asks for. Closes the file at the end.

    :param handle: The file descriptor.
    :param size: The bytes of the file.
    :param headers: More headers of the answer. A range is kept to the version of the file that ``ETag`` names.
    :raises Problem: 416, when the range is outside of the file.
    """
    try:
        part = _requested_range(request, size, headers.get("ETag"))
    except Problem:
        os.close(handle)
        raise
    start, end = part or (0, size)
    more = {"Content-Length": str(end - start)}
    if part:
        more["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    return _Download(_pieces(handle, start, end), 206 if part else 200, {**headers, **more}, handle)


class _Download(StreamingResponse):
    """Send the bytes of a file and close it, also when the client disconnects."""

    def __init__(self, content: AsyncIterator[bytes], status: int, headers: dict[str, str], handle: int) -> None:
        super().__init__(content, status, headers=headers, media_type="application/octet-stream")
        self._handle = handle

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            os.close(self._handle)


async def _pieces(handle: int, start: int, end: int) -> AsyncIterator[bytes]:
    while start < end:
        piece = await run_in_threadpool(os.pread, handle, min(PIECE, end - start), start)
        if not piece:
            raise OSError("A file has fewer bytes than were announced")
        start += len(piece)
        yield piece


def _requested_range(request: Request, size: int, tag: str | None) -> tuple[int, int] | None:
    """Return the start and the end of the requested range, or None for the whole file.

    RFC 9110 lets a server ignore a Range header that it does not understand.
    """
    condition = request.headers.get("if-range")
    matched = re.fullmatch(r"bytes=(\d{0,18})-(\d{0,18})", request.headers.get("range", "").strip())
    if matched is None or matched[0] == "bytes=-" or condition not in {None, tag}:
        return None
    first, last = matched[1], matched[2]
    if first and last and int(last) < int(first):
        return None
    start = int(first) if first else max(0, size - int(last))
    end = min(int(last) + 1, size) if first and last else size
    if start >= end:
        raise Problem(
            416,
            None,
            f"The range {matched[0]!r} is outside of the object, which has {size} bytes.",
            headers={"Content-Range": f"bytes */{size}"},
        )
    return start, end
