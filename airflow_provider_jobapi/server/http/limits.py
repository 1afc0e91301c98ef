# SPDX-License-Identifier: Apache-2.0
"""Bounds on what a request may bring, checked before anybody reads it. Objects have their own bound, the storage's."""

from __future__ import annotations

import re

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from airflow_provider_jobapi.server.http.problems import Problem
from airflow_provider_jobapi.training.units import size_text

BODY_LIMIT = 8 * 2**20
"""The most bytes of a request's body, except for an object's: a job file with ten thousand inputs has 2 MB."""

HEADER_LIMIT = 32 * 1024
"""The most bytes of a request's line and headers together."""

OBJECTS = "/api/v2/storage/objects/"


class RequestLimits:
    """An ASGI layer that answers 413 and 431."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through that keeps the bounds."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if problem := _refusal(scope):
            await problem.response()(scope, receive, send)
            return
        bounded = _Bounded(receive, None if _is_upload(scope) else BODY_LIMIT)
        await self._app(scope, bounded, send)


class _Bounded:
    def __init__(self, receive: Receive, limit: int | None) -> None:
        self._receive = receive
        self._limit = limit
        self._size = 0

    async def __call__(self) -> Message:
        message = await self._receive()
        self._size += len(message.get("body", b""))
        if self._limit is not None and self._size > self._limit:
            raise _body_too_large()
        return message


def _is_upload(scope: Scope) -> bool:
    return bool(scope["method"] == "PUT" and scope["path"].startswith(OBJECTS))


def _refusal(scope: Scope) -> Problem | None:
    size = len(scope.get("raw_path") or b"") + len(scope["query_string"])
    length, chunked = -1, False
    for name, value in scope["headers"]:
        size += len(name) + len(value)
        if name == b"content-length" and value.isdigit():
            length = int(value)
        chunked = chunked or name == b"transfer-encoding"
    if size > HEADER_LIMIT:
        return Problem(431, None, f"The headers have {size} bytes; at most {HEADER_LIMIT} are read.")
    if chunked and length >= 0:  # RFC 9112, 6.1: where two parties read it differently, one request hides another
        detail = "The request has a Content-Length and a Transfer-Encoding; send one of them."
        return Problem(400, None, detail, headers={"Connection": "close"})
    if length > BODY_LIMIT and not _is_upload(scope):
        return _body_too_large()
    if re.search(r"[\x00-\x1f\x7f]", scope["path"]):  # a line break at its end would be lost where paths are matched
        return Problem(422, None, "The address has a control character in it, which no key and no id has.")
    return None


def _body_too_large() -> Problem:
    return Problem(
        413,
        None,
        f"The body is larger than {size_text(BODY_LIMIT)}, the most that is read here; bring files to the storage and "
        "name them in the job.",
    )
