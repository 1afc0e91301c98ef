# SPDX-License-Identifier: Apache-2.0
"""Refuse requests whose headers or body are too large or too slow, before a route sees them."""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from starlette.types import ASGIApp, Receive, Scope, Send

from airflow_provider_jobapi.server.http.bodies import BodyBound, BoundedBody
from airflow_provider_jobapi.server.http.problems import Problem

HEADER_LIMIT = 32 * 1024
"""The most bytes of the request line and the headers together."""


class RequestLimits:
    """ASGI middleware that refuses requests whose headers or body are too large or too slow."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it with 400, 408, 413, 422 or 431."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            bound = _checked(scope)
        except Problem as problem:
            await problem.response()(scope, receive, send)
            return
        await self._app(scope, BoundedBody(receive, bound), send)


def _checked(scope: Scope) -> BodyBound:
    """Check the headers of a request, and return the bound of its body."""
    size = len(scope.get("raw_path") or b"") + len(scope["query_string"])
    length, chunked = -1, False
    for name, value in scope["headers"]:
        size += len(name) + len(value)
        if name == b"content-length" and value.isdigit():
            length = int(value)
        chunked = chunked or name == b"transfer-encoding"
    if size > HEADER_LIMIT:
        raise Problem(431, None, f"The headers have {size} bytes; at most {HEADER_LIMIT} are allowed.")
    if chunked and length >= 0:  # RFC 9112, 6.1: where two servers read it differently, one request hides another
        detail = "The request has a Content-Length and a Transfer-Encoding; send one of them."
        raise Problem(400, None, detail, headers={"Connection": "close"})
    bound = BodyBound.of(scope)
    bound.refuse_size(length)
    for part, sent in (("path", scope.get("raw_path") or b""), ("query", scope["query_string"])):
        if not _is_utf8(unquote_to_bytes(sent)):  # two of them would be read as the same text
            raise Problem(422, None, f"The {part} of the address is not UTF-8; keys and ids are.")
    if re.search(r"[\x00-\x1f\x7f]", scope["path"]):  # the matching of paths would drop a line break at the end
        raise Problem(422, None, "The path of the address has a control character; keys and ids have none.")
    return bound


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
