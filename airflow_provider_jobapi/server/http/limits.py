# SPDX-License-Identifier: Apache-2.0
"""Limit what a request may cost: the size of its headers and its body, and the time and bytes of a connection.

The size of an object is not limited here. The limit of the client's storage applies to it.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any

import h11
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from airflow_provider_jobapi.server.http.problems import Problem
from airflow_provider_jobapi.training.units import size_text

BODY_LIMIT = 8 * 2**20
"""The most bytes of the body of a request that is not an upload. A job file with 10,000 inputs has 2 MB."""

HEADER_LIMIT = 32 * 1024
"""The most bytes of the request line and the headers together."""

HEADER_TIMEOUT = 30.0
"""Seconds from the start of a connection, or from the first byte of a request, to the end of the headers."""

UNREAD_BODY_LIMIT = 8 * 2**20
UNREAD_UPLOAD_LIMIT = 2**30
"""The most bytes of a body that are received after the answer was sent. Many clients read no answer before they have
sent everything, and should see why an upload was refused, but no client may send without end.
"""

OBJECTS_PATH = "/api/v2/storage/objects/"


class RequestLimits:
    """ASGI middleware that refuses requests whose headers or body are too large."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it with 400, 413, 422 or 431."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if problem := _refusal(scope):
            await problem.response()(scope, receive, send)
            return
        if not _is_upload(scope):
            receive = _LimitedBody(receive)
        await self._app(scope, receive, send)


class _LimitedBody:
    """Receive the body of a request until it has too many bytes."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._size = 0

    async def __call__(self) -> Message:
        message = await self._receive()
        self._size += len(message.get("body", b""))
        if self._size > BODY_LIMIT:
            raise _body_too_large()
        return message


def _is_upload(scope: Scope) -> bool:
    return bool(scope["method"] == "PUT" and scope["path"].startswith(OBJECTS_PATH))


def _refusal(scope: Scope) -> Problem | None:
    size = len(scope.get("raw_path") or b"") + len(scope["query_string"])
    length, chunked = -1, False
    for name, value in scope["headers"]:
        size += len(name) + len(value)
        if name == b"content-length" and value.isdigit():
            length = int(value)
        chunked = chunked or name == b"transfer-encoding"
    if size > HEADER_LIMIT:
        return Problem(431, None, f"The headers have {size} bytes; at most {HEADER_LIMIT} are allowed.")
    if chunked and length >= 0:  # RFC 9112, 6.1: where two servers read it differently, one request hides another
        detail = "The request has a Content-Length and a Transfer-Encoding; send one of them."
        return Problem(400, None, detail, headers={"Connection": "close"})
    if length > BODY_LIMIT and not _is_upload(scope):
        return _body_too_large()
    if re.search(r"[\x00-\x1f\x7f]", scope["path"]):  # the matching of paths would drop a line break at the end
        return Problem(422, None, "The path of the address has a control character; keys and ids have none.")
    return None


def _body_too_large() -> Problem:
    return Problem(
        413,
        None,
        f"The body is larger than {size_text(BODY_LIMIT)}, the limit for this request; upload files to the storage "
        "and name them in the job.",
    )


class LimitedProtocol(H11Protocol):
    """Uvicorn's HTTP/1.1 protocol, which also closes connections that take too long or send too much."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._timeout: asyncio.TimerHandle | None = None
        self._unread = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the timeout for the first request."""
        super().connection_made(transport)
        self._start_timeout()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the timeout."""
        self._cancel_timeout()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse bytes, and count those that no request reads any more."""
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete:
            self._count_unread(len(data))
        else:
            self._unread = 0
            self._cancel_timeout()

    def _count_unread(self, size: int) -> None:
        if self.conn.their_state is not h11.SEND_BODY:
            self._start_timeout()
            return
        self._unread += size
        upload = self.cycle is not None and self.cycle.scope["method"] == "PUT"
        if self._unread > (UNREAD_UPLOAD_LIMIT if upload else UNREAD_BODY_LIMIT):
            self.transport.close()

    def _start_timeout(self) -> None:
        if self._timeout is None:
            self._timeout = self.loop.call_later(HEADER_TIMEOUT, self.transport.close)

    def _cancel_timeout(self) -> None:
        if self._timeout is not None:
            self._timeout.cancel()
            self._timeout = None
