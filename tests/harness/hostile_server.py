# SPDX-License-Identifier: Apache-2.0
"""A jobAPI that lies: honest by default, and on each route whatever a test tells it to answer, over real sockets.

::

    with HostileServer() as server:
        server.says("GET /api/v2/jobs/", Answer(200, body=b"[]"))
        server.says("/oauth/token", Endless(b"x" * 65536), Answer(500))   # one each, the last for ever
        server.seen                                                       # every request that came
"""

from __future__ import annotations

import hashlib
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self

TOKEN = "token-of-the-hostile-server"
SECRET = "secret-of-the-hostile-server"
CLIENT = "client"


@dataclass(frozen=True)
class Seen:
    """A request that came."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def line(self) -> str:
        return f"{self.method} {self.path}"


@dataclass(frozen=True)
class Answer:
    """An answer with a length, as HTTP has it."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    def send(self, connection: socket.socket, _server: HostileServer) -> None:
        named = {name.lower() for name in self.headers}
        lines = [f"HTTP/1.1 {self.status} Whatever", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        if not named & {"content-length", "transfer-encoding"}:
            lines.append(f"Content-Length: {len(self.body)}")
        connection.sendall("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + self.body)


@dataclass(frozen=True)
class Raw:
    """Bytes as they are, then the end of the connection."""

    data: bytes

    def send(self, connection: socket.socket, _server: HostileServer) -> None:
        connection.sendall(self.data)


@dataclass(frozen=True)
class Endless:
    """A body, or headers, that never end.

    :ivar head: What comes before, if not the head of a 200 without a length.
    """

    piece: bytes
    head: bytes = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"

    def send(self, connection: socket.socket, server: HostileServer) -> None:
        connection.sendall(self.head)
        while not server.closing.is_set():
            connection.sendall(self.piece)
            server.sent += len(self.piece)


@dataclass(frozen=True)
class Trickle:
    """An honest answer, one byte at a time, never silent for as long as a timeout."""

    data: bytes
    pause: float = 0.2

    def send(self, connection: socket.socket, server: HostileServer) -> None:
        for byte in self.data:
            connection.sendall(bytes([byte]))
            server.sent += 1
            if server.closing.wait(self.pause):
                return


@dataclass(frozen=True)
class Silence:
    """Nothing, until the client gives up."""

    def send(self, connection: socket.socket, server: HostileServer) -> None:
        while not server.closing.is_set():
            connection.settimeout(0.5)
            with suppress(TimeoutError):
                if not connection.recv(1):
                    return


@dataclass(frozen=True)
class Computed:
    """An answer that depends on the request."""

    make: Callable[[Seen], Answer | Raw | Endless]


Reply = Answer | Raw | Endless | Trickle | Silence | Computed


def as_json(content: Any, status: int = 200, **headers: str) -> Answer:
    """An answer in JSON."""
    return Answer(status, {"Content-Type": "application/json", **headers}, json.dumps(content).encode())


def records(*texts: str, stamp: str = "2026-01-01T00:00:00.000000Z") -> bytes:
    """Log records, all of one time."""
    return b"".join(f"{stamp} {text}\n".encode() for text in texts)


def log_page(body: bytes, offset: int, *, state: str = "RUNNING", complete: bool = False, **headers: str) -> Answer:
    """A page of a log as the contract has it."""
    end = offset + len(body)
    told = {"Job-Log-Next-Offset": str(end), "Job-Log-Size": str(end), "Job-Status": state}
    told |= {"Job-Log-Complete": "true" if complete else "false", "Content-Type": "text/plain; charset=utf-8"}
    return Answer(200, told | {name.replace("_", "-"): value for name, value in headers.items()}, body)


def now() -> str:
    """This machine's clock as ``Job-Time`` has it."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


MODEL = {"saved_model.pb": b"graph", "variables/variables.index": b"index" * 1000}
"""The model that the honest server has."""


def listing(files: Mapping[str, bytes] = MODEL, **changes: Any) -> dict[str, Any]:
    """How the model is listed; the changes hold for every file."""
    entries = [
        {"path": path, "size": len(content), "sha256": hashlib.sha256(content).hexdigest(), "key": f"m/{path}"}
        | changes
        for path, content in files.items()
    ]
    return {"job_id": "", "model": {"path": "model", "prefix": "m", "files": entries}}


class HostileServer:
    """The server; a context manager.

    :param tls: The TLS of the server, which is ``localhost`` then.
    :ivar seen: The requests that came, in their order.
    :ivar sent: Bytes that endless and slow answers have sent.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.seen: list[Seen] = []
        self.sent = 0
        self.closing = threading.Event()
        self._replies: list[tuple[str, list[Reply]]] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}" if self._tls is None else f"https://localhost:{self.port}"

    def says(self, part: str, *replies: Reply) -> None:
        """Answer requests whose line holds a text: with one reply each, and with the last one from then on."""
        self._replies.insert(0, (part, list(replies)))

    def count(self, part: str) -> int:
        """How many requests came whose line holds a text."""
        return sum(part in seen.line for seen in self.seen)

    def __enter__(self) -> Self:
        self._run(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()

    def _run(self, work: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._open.add(connection)
            self._run(self._serve, connection)

    def _serve(self, accepted: socket.socket) -> None:
        try:
            with accepted, self._secured(accepted) as connection:
                connection.settimeout(60)
                seen = _read(connection)
                if seen is not None:
                    self.seen.append(seen)
                    reply = self._reply(seen)
                    while isinstance(reply, Computed):
                        reply = reply.make(seen)
                    reply.send(connection, self)
                    _linger(connection)
        except OSError:
            pass  # the client has had enough
        finally:
            self._open.discard(accepted)

    def _secured(self, connection: socket.socket) -> socket.socket:
        return connection if self._tls is None else self._tls.wrap_socket(connection, server_side=True)

    def _reply(self, seen: Seen) -> Reply:
        for part, replies in self._replies:
            if part in seen.line:
                return replies.pop(0) if len(replies) > 1 else replies[0]
        return honest(seen)


def _read(connection: socket.socket) -> Seen | None:
    received = b""
    while b"\r\n\r\n" not in received:
        piece = connection.recv(65_536)
        if not piece:
            return None
        received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    method, path, _ = first.split(" ")
    while len(body) < int(headers.get("content-length", 0)):
        piece = connection.recv(65_536)
        if not piece:
            return None
        body += piece
    return Seen(method, path, headers, body)


def _linger(connection: socket.socket) -> None:
    """Close in a way that does not take away what was sent."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(1)
        while connection.recv(65_536):
            pass


_PAGES: dict[str, dict[str, Any]] = {
    "/api/v2/storage": {
        "endpoint": "", "accessKey": "", "secretKey": "", "bucket": "data", "protocol": "http", "region": "",
        "status": "READY", "message": "",
    },
    "/api/v2/storage/objects": {"objects": [], "next": None},
    "/api/v2/jobs": {"jobs": [], "next": None},
}  # fmt: skip


def honest(seen: Seen) -> Answer:
    """What a jobAPI would answer that keeps the contract: one job, which has ended and left a model."""
    place = seen.path.partition("?")[0]
    if place == "/oauth/token":
        return as_json({"access_token": TOKEN, "token_type": "Bearer", "expires_in": 3600})
    if seen.headers.get("authorization") != f"Bearer {TOKEN}":
        return as_json({"detail": "No token."}, 401)
    if place in _PAGES:
        return as_json(_PAGES[place])
    if place.startswith("/api/v2/storage/objects/"):
        return _object(seen, place.removeprefix("/api/v2/storage/objects/"))
    return _job(seen, place)


def _object(seen: Seen, key: str) -> Answer:
    if seen.method == "PUT":
        return as_json({"key": key, "size": len(seen.body), "sha256": hashlib.sha256(seen.body).hexdigest()}, 201)
    content = MODEL.get(key.removeprefix("m/"))
    return as_json({"detail": "None."}, 404) if content is None else Answer(200, {}, content)


def _job(seen: Seen, place: str) -> Answer:
    job_id, _, rest = place.removeprefix("/api/v2/jobs/").partition("/")
    if rest == "logs":
        offset = int(seen.path.partition("offset=")[2].partition("&")[0] or 0)
        body = records("hello", "world")
        return log_page(body[offset:], min(offset, len(body)), state="SUCCESSFUL", complete=True)
    if rest == "model":
        return as_json(listing() | {"job_id": job_id})
    told = {"job_id": job_id, "name": "test", "status": "SUCCESSFUL", "containerID": "", "message": "", "exitCode": 0}
    told |= {"submissionTime": now(), "startTime": now(), "finishTime": "2026-01-01T00:00:00.000Z", "reason": None}
    return as_json(told, **{"Job-Time": now()})


def wait_until(what: str, look: Callable[[], Any], seconds: float = 10.0) -> None:
    """Wait for something that the server sees."""
    deadline = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def secrets_in(texts: Iterable[str]) -> set[str]:
    """Which of the connection's secrets stand in some texts."""
    together = "\n".join(texts)
    return {secret for secret in (TOKEN, SECRET) if secret in together}
