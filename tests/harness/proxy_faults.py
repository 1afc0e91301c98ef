# SPDX-License-Identifier: Apache-2.0
"""The fault proxy with a hand on each request: holds it or its answer while a test kills who waits; shifts clocks.

::

    with ScriptedProxy(server.port) as network:
        with network.hold("^POST /api/v2/jobs/", Point.ANSWER) as held:
            exchange = held.wait()                       # the server has the job, the worker does not know
            os.kill(exchange.pid(), signal.SIGKILL)
        with network.always(Canned(503), "^GET .*/logs"):
            ...
"""

from __future__ import annotations

import asyncio
import re
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, Self

import psutil

from tests.harness import proxy
from tests.harness.proxy import BlackHole, Broken, BrokenUpload, Canned, FaultProxy
from tests.harness.waiting import PATIENCE


class Point(Enum):
    """Where on its way a request is held."""

    REQUEST = "the server has nothing of it"
    ANSWER = "the server has done it, and nobody knows"


@dataclass
class Exchange:
    """One request on its way, and the answer when there is one.

    :ivar line: ``METHOD /target``.
    :ivar port: The client's end of the connection.
    """

    line: str
    port: int
    request: bytes
    answer: bytes = b""
    at: float = field(default_factory=time.monotonic)
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def status(self) -> int:
        """The answer's status; 0 before there is one."""
        return int(self.answer.split(b" ", 2)[1]) if self.answer else 0

    def pid(self) -> int:
        """The process that sent the request and waits for its answer."""
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if any(each.laddr and each.laddr.port == self.port for each in process.net_connections("tcp")):
                    return process.pid
        raise AssertionError(f"Nobody waits for {self.line} any more.")


class Hold:
    """Keeps a request or its answer until the test lets it go; a context manager that lets it go at its end.

    :ivar exchanges: What came.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, point: Point, when: str) -> None:
        self.point = point
        self.exchanges: list[Exchange] = []
        self._when = when
        self._loop = loop
        self._arrived = threading.Event()
        self._let_go = asyncio.Event()
        self._cut = False

    async def keep(self, exchange: Exchange) -> None:
        """Called in the proxy's thread: return when the exchange may go on.

        :raises ConnectionResetError: when it may not.
        """
        self.exchanges.append(exchange)
        self._arrived.set()
        await self._let_go.wait()
        if self._cut:
            raise ConnectionResetError

    def wait(self, seconds: float = 60.0) -> Exchange:
        """Wait until a request is held; ``seconds`` on an idle machine, see :data:`PATIENCE`."""
        seconds *= PATIENCE
        assert self._arrived.wait(seconds), f"No {self._when} came within {seconds:g} s."
        return self.exchanges[0]

    def wait_for_hangup(self, seconds: float = 20.0) -> None:
        """Wait until the one whose request is held has hung up, as one that is killed does."""
        assert self.exchanges[0].over.wait(seconds * PATIENCE), f"The one that sent {self._when} is still there."

    def release(self) -> None:
        """Let it go on."""
        self._loop.call_soon_threadsafe(self._let_go.set)

    def drop(self) -> None:
        """Cut its connection."""
        self._cut = True
        self.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


@dataclass(frozen=True)
class Drip:
    """Sends the answer a byte at a time: a slow loris in the server's place."""

    pause: float = 1.0


Fault = proxy.Fault | Hold | Drip


class ScriptedProxy(FaultProxy):
    """A fault proxy whose faults are meant for regular expressions over ``METHOD /target``.

    :param shift: How far the server's clock is ahead of ours, as far as its clients can see.
    :param tls: For a server that speaks TLS as ``localhost``; the clients of the proxy do not.
    :param streams: The requests whose answer is passed on as it comes, where no fault is meant for them.
    :ivar exchanges: Every request that came.
    """

    def __init__(
        self,
        target_port: int,
        *,
        shift: timedelta = timedelta(),
        tls: ssl.SSLContext | None = None,
        streams: str | None = None,
    ) -> None:
        super().__init__(target_port)
        self._tls, self._streams = tls, streams
        self.exchanges: list[Exchange] = []
        self._shift = shift
        self._standing: list[tuple[str, Fault]] = []

    def hold(self, when: str, point: Point = Point.REQUEST) -> Hold:
        """Hold the next request of that kind."""
        hold = Hold(self._loop, point, when)
        self.next(hold, when=when)  # type: ignore[arg-type]
        return hold

    @contextmanager
    def always(self, fault: Fault, when: str = "") -> Iterator[None]:
        """Give every request of that kind this fault."""
        self._standing = [(when, fault), *self._standing]
        try:
            yield
        finally:
            self._standing = [each for each in self._standing if each != (when, fault)]

    def sent(self, when: str, since: float = 0.0) -> list[Exchange]:
        """The requests of that kind that came so far."""
        return [each for each in self.exchanges if each.at >= since and re.search(when, each.line)]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        line = head.split(b" HTTP/", 1)[0].decode()
        body = await _body(reader, head)
        exchange = Exchange(line, writer.get_extra_info("peername")[1], _closing(head) + body)
        self.seen.append(line)
        self.exchanges.append(exchange)
        work = asyncio.create_task(self._work(exchange, self._script(line), writer))
        gone = asyncio.create_task(reader.read(1))
        try:
            # A client that hangs up takes its request along, as it would without a proxy.
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
        finally:
            for task in (work, gone):
                task.cancel()
            await asyncio.gather(work, gone, return_exceptions=True)
            exchange.over.set()

    def _script(self, line: str) -> Fault | None:
        for index, (when, fault) in enumerate(self._faults):
            if re.search(when, line):
                del self._faults[index]
                return fault
        return next((fault for when, fault in self._standing if re.search(when, line)), None)

    async def _work(self, exchange: Exchange, fault: Fault | None, writer: asyncio.StreamWriter) -> None:
        assert not isinstance(fault, BrokenUpload), "the plain proxy breaks uploads"
        if isinstance(fault, Canned):
            await proxy._answer(fault, writer)
            return
        if isinstance(fault, BlackHole):
            await asyncio.Event().wait()
        try:
            if fault is None and self._streams and re.search(self._streams, exchange.line):
                await self._stream(exchange, writer)
                return
            if isinstance(fault, Hold) and fault.point is Point.REQUEST:
                await fault.keep(exchange)
            exchange.answer = await self._ask(exchange.request)
            if isinstance(fault, Hold) and fault.point is Point.ANSWER:
                await fault.keep(exchange)
        except ConnectionError:
            proxy._reset(writer)
            return
        await _send(exchange.answer, fault, writer)

    async def _stream(self, exchange: Exchange, client: asyncio.StreamWriter) -> None:
        reader, writer = await self._connect()
        try:
            writer.write(exchange.request)
            while piece := await reader.read(65_536):
                exchange.answer += piece
                client.write(piece)
                await client.drain()
        finally:
            writer.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        name = None if self._tls is None else "localhost"
        return await asyncio.open_connection("127.0.0.1", self._target_port, ssl=self._tls, server_hostname=name)

    async def _ask(self, request: bytes) -> bytes:
        reader, writer = await self._connect()
        try:
            writer.write(request)
            await writer.drain()
            answer = await reader.read(-1)
        finally:
            writer.close()
        if not answer:
            raise ConnectionResetError
        return self._shifted(answer) if self._shift else answer

    def _shifted(self, answer: bytes) -> bytes:
        """Every time that the server tells, as a server with another clock would tell it; no length changes."""

        def shift(found: re.Match[bytes]) -> bytes:
            precision: Any = "microseconds" if len(found[0]) > len("2026-01-01T00:00:00.000Z") else "milliseconds"
            moment = datetime.fromisoformat(found[0].decode()) + self._shift
            return moment.isoformat(timespec=precision).replace("+00:00", "Z").encode()

        return re.sub(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.(\d{6}|\d{3})Z", shift, answer)


async def _send(answer: bytes, fault: Fault | None, writer: asyncio.StreamWriter) -> None:
    if isinstance(fault, Drip):
        for byte in answer:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(fault.pause)
        return
    writer.write(answer[: fault.after] if isinstance(fault, Broken) else answer)
    await writer.drain()
    if isinstance(fault, Broken):
        proxy._reset(writer)


def _closing(head: bytes) -> bytes:
    """The request's head with one request a connection."""
    lines = [line for line in head[:-4].split(b"\r\n") if not line.lower().startswith((b"connection:", b"expect:"))]
    return b"\r\n".join([*lines, b"Connection: close", b"", b""])


async def _body(reader: asyncio.StreamReader, head: bytes) -> bytes:
    """The request's body in its own framing."""
    headers = {
        name.strip().lower(): value.strip().lower()
        for name, _, value in (line.partition(b":") for line in head.split(b"\r\n")[1:])
    }
    if headers.get(b"transfer-encoding") != b"chunked":
        return await reader.readexactly(int(headers.get(b"content-length", b"0")))
    parts: list[bytes] = []
    while True:
        size = await reader.readuntil(b"\r\n")
        length = int(size.split(b";")[0], 16)
        parts += [size, await reader.readexactly(length + 2)]
        if length == 0:
            return b"".join(parts)
