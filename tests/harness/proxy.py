# SPDX-License-Identifier: Apache-2.0
"""A network that breaks on command: a proxy before a real HTTP server, one request a connection.

::

    with FaultProxy(server.port) as network:
        network.next(Canned(503), Canned(429, {"Retry-After": "0"}), when="PUT ")
        ...  # requests to network.url; those that no fault is meant for come through
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Self


@dataclass(frozen=True)
class Canned:
    """Answers in the server's place."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True)
class Broken:
    """Lets so many bytes of the answer through, then resets the connection. 0 is a lost answer: the server did it."""

    after: int = 0


@dataclass(frozen=True)
class BrokenUpload:
    """Lets so many bytes of the request's body through, then resets both connections."""

    after: int = 0


@dataclass(frozen=True)
class BlackHole:
    """Takes the request and never says anything."""


Fault = Canned | Broken | BrokenUpload | BlackHole


class FaultProxy:
    """The proxy; a context manager.

    :ivar url: Its address.
    :ivar seen: The request lines that came, such as ``GET /api/v2/storage``.
    """

    def __init__(self, target_port: int) -> None:
        self.seen: list[str] = []
        self.port = 0
        self._target_port = target_port
        self._faults: list[tuple[str, Fault]] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def next(self, *faults: Fault, when: str = "") -> None:
        """Give the next requests whose line holds ``when`` these faults, one each."""
        self._faults += [(when, fault) for fault in faults]

    def count(self, part: str) -> int:
        """How many requests came whose line holds ``part``."""
        return sum(part in line for line in self.seen)

    def refuse(self) -> None:
        """Close the port: connections are refused."""
        self._run(self._close())

    def accept(self) -> None:
        """Open the port, the same one as before."""
        self._run(self._open())

    def hang_up(self) -> None:
        """Cut every connection that is open."""
        self._run(self._cut())

    def __enter__(self) -> Self:
        self._thread.start()
        self.accept()
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _run(self, work: object) -> None:
        future: Future[None] = asyncio.run_coroutine_threadsafe(work, self._loop)  # type: ignore[arg-type]
        future.result(10)

    async def _open(self) -> None:
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
        await self._cut()

    async def _cut(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._serve(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        line = head.split(b" HTTP/", 1)[0].decode()
        self.seen.append(line)
        fault = self._fault(line)
        if isinstance(fault, BlackHole):
            await asyncio.Event().wait()
        if isinstance(fault, Canned):
            await _drain(head, reader)
            await _answer(fault, writer)
            return
        # One request a connection, so that each one is seen here.
        upstream_reader, upstream = await asyncio.open_connection("127.0.0.1", self._target_port)
        try:
            upstream.write(head[:-2] + b"Connection: close\r\n\r\n")
            upload = asyncio.create_task(
                _pump(reader, upstream, fault.after if isinstance(fault, BrokenUpload) else None)
            )
            download = asyncio.create_task(
                _pump(upstream_reader, writer, fault.after if isinstance(fault, Broken) else None)
            )
            try:
                if isinstance(fault, BrokenUpload):
                    await upload
                    _reset(writer)
                    _reset(upstream)
                else:
                    await download
                    if isinstance(fault, Broken):
                        _reset(writer)
            finally:
                upload.cancel()
                download.cancel()
        finally:
            upstream.close()

    def _fault(self, line: str) -> Fault | None:
        for index, (when, fault) in enumerate(self._faults):
            if when in line:
                del self._faults[index]
                return fault
        return None


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, bound: int | None) -> None:
    left = bound
    while left is None or left > 0:
        piece = await reader.read(65_536 if left is None else min(65_536, left))
        if not piece:
            return
        if left is not None:
            left -= len(piece)
        writer.write(piece)
        await writer.drain()
    # What is to be lost must have been sent first.
    if bound == 0:
        await reader.read(1)


async def _drain(head: bytes, reader: asyncio.StreamReader) -> None:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            await reader.readexactly(int(value))


async def _answer(fault: Canned, writer: asyncio.StreamWriter) -> None:
    headers = {"Content-Length": str(len(fault.body)), "Connection": "close", **fault.headers}
    phrase = HTTPStatus(fault.status).phrase
    lines = [f"HTTP/1.1 {fault.status} {phrase}", *(f"{name}: {value}" for name, value in headers.items())]
    writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + fault.body)
    await writer.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    plain = writer.get_extra_info("socket")
    if plain is not None:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.close()
