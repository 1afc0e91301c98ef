# SPDX-License-Identifier: Apache-2.0
"""A real HTTP server that answers what a test tells it to: for services that are hostile, broken, or not ours.

::

    with Tiny({"GET /api/v2/storage": reply({"protocol": "gopher"})}) as tiny:
        ...  # requests to tiny.url; tokens are at tiny.url/oauth/token unless a route says otherwise
"""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


@dataclass(frozen=True)
class Reply:
    """An answer."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True)
class Asked:
    """A request."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes


Route = Reply | Callable[[Asked], Reply]


def reply(content: Any, status: int = 200, **headers: str) -> Reply:
    """A JSON answer; underscores in names of headers become hyphens."""
    kind = "application/problem+json" if status >= 400 else "application/json"
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status, {"Content-Type": kind, **named}, json.dumps(content).encode())


TOKEN = reply({"access_token": "tiny-token", "token_type": "Bearer", "expires_in": 3600})


class Tiny:
    """The server; a context manager.

    :param routes: By the beginning of ``METHOD /target``; the longest that fits answers, and none is a 404.
    :param context: TLS, for https.
    :ivar asked: Every request that came, tokens included.
    """

    def __init__(self, routes: Mapping[str, Route] | None = None, context: ssl.SSLContext | None = None) -> None:
        self.routes: dict[str, Route] = {"POST /oauth/token": TOKEN, **(routes or {})}
        self.asked: list[Asked] = []
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        if context is not None:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._scheme = "http" if context is None else "https"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return f"{self._scheme}://localhost:{self.port}"

    def count(self, part: str) -> int:
        """How many requests came whose ``METHOD /target`` holds ``part``."""
        return sum(part in f"{each.method} {each.target}" for each in self.asked)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join(10)
        self._server.server_close()

    def answer(self, asked: Asked) -> Reply:
        """What a request is answered."""
        self.asked.append(asked)
        line = f"{asked.method} {asked.target}"
        fitting = [begin for begin in self.routes if line.startswith(begin)]
        if not fitting:
            return reply({"detail": f"nothing at {asked.target}"}, 404)
        route = self.routes[max(fitting, key=len)]
        return route if isinstance(route, Reply) else route(asked)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is what many tests are about."""


def _handler(tiny: Tiny) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            answer = tiny.answer(Asked(self.command, self.path, dict(self.headers), body))
            self.send_response(answer.status)
            for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.body)

        do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = do_CONNECT = handle_any  # noqa: N815 -- http.server's names

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    return Handler
