# SPDX-License-Identifier: Apache-2.0
"""Close connections that take too long or send too much, and the longest idle ones when there are too many."""

from __future__ import annotations

import asyncio
import json
import resource
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from airflow_provider_jobapi.server.http.problems import MEDIA_TYPE, Problem

HEADER_TIMEOUT = 30.0
"""Seconds from the start of a connection, or from the first byte of a request, to the end of the headers."""

UNREAD_BODY_LIMIT = 8 * 2**20
UNREAD_UPLOAD_LIMIT = 2**30
"""The most bytes of a body that are received after the answer was sent. Many clients read no answer before they have
sent everything, and should see why an upload was refused, but no client may send without end.
"""

STALL_SECONDS, STALL_RATE = 30.0, 1024
"""A connection is closed that moves fewer bytes a second than this for so many seconds: of an answer that its client
does not read, or of a body that no request reads any more.
"""

CONNECTION_LIMIT = 10_000
"""The most connections. Each waiting log request of a client is one; at most half of the open files are connections."""


_NO_LINGER = struct.pack("ii", 1, 0)


def connection_limit() -> int:
    """Return how many connections this process may have."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return CONNECTION_LIMIT if soft == resource.RLIM_INFINITY else min(CONNECTION_LIMIT, soft // 2)


class LimitedProtocol(H11Protocol):
    """Uvicorn's HTTP/1.1 protocol with bounds of time, bytes and connections."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._headers_timer: asyncio.TimerHandle | None = None
        self._unread_timer: asyncio.TimerHandle | None = None
        self._unsent_timer: asyncio.TimerHandle | None = None
        self._unread = 0
        self._active = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the timeout for the first request, or refuse the connection where there are too many."""
        super().connection_made(transport)
        self._active = self.loop.time()
        if len(self.connections) > connection_limit() and not self._close_longest_idle():
            self._refuse()
            return
        self._start_headers_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the timeouts."""
        for timer in (self._headers_timer, self._unread_timer, self._unsent_timer):
            _cancel(timer)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse bytes, and count those that no request reads any more."""
        self._active = self.loop.time()
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete:
            self._count_unread(len(data))
        else:
            self._unread = 0
            self._headers_timer = _cancel(self._headers_timer)

    def pause_writing(self) -> None:
        """Watch an answer that its client does not read."""
        super().pause_writing()
        if self._unsent_timer is None:
            self._watch_unsent()

    def resume_writing(self) -> None:
        """End the watch."""
        super().resume_writing()
        self._unsent_timer = _cancel(self._unsent_timer)

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection without requests, also where its client does not read the last answer."""
        super().timeout_keep_alive_handler()
        self._close()

    @property
    def waits_for_client(self) -> bool:
        """Whether the server waits for bytes of the client: a request, its headers or its body."""
        return self.cycle is None or self.cycle.response_complete or self.cycle.more_body

    @property
    def idle_since(self) -> float:
        """When the client last sent something, by the clock of the event loop."""
        return self._active

    def give_up(self) -> None:
        """Close the connection at once, with what was not sent: the system would keep that for minutes, too."""
        with suppress(OSError):  # already closed
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self.transport.abort()

    def _close_longest_idle(self) -> bool:
        """Close the connection that waits the longest for its client. Return False where none waits."""
        others = (each for each in self.connections if isinstance(each, LimitedProtocol) and each is not self)
        waiting = [each for each in others if each.waits_for_client and not each.transport.is_closing()]
        if not waiting:
            return False
        min(waiting, key=lambda each: each.idle_since).give_up()
        return True

    def _refuse(self) -> None:
        detail = "The server has as many connections as it can serve; repeat the request in a moment."
        body = json.dumps(Problem(503, None, detail).body()).encode()
        head = f"HTTP/1.1 503 Service Unavailable\r\nContent-Type: {MEDIA_TYPE}\r\nContent-Length: {len(body)}\r\n"
        self.transport.write(f"{head}Retry-After: 1\r\nConnection: close\r\n\r\n".encode() + body)
        self._close()

    def _count_unread(self, size: int) -> None:
        if self.conn.their_state is not h11.SEND_BODY:
            self._start_headers_timer()
            return
        if self._unread_timer is None:
            self._watch_unread()
        self._unread += size
        upload = self.cycle is not None and self.cycle.scope["method"] == "PUT"
        if self._unread > (UNREAD_UPLOAD_LIMIT if upload else UNREAD_BODY_LIMIT):
            self._close()

    def _watch_unread(self) -> None:
        before = self._unread

        def check() -> None:
            self._unread_timer = None
            if self.cycle.response_complete and self.conn.their_state is h11.SEND_BODY:
                self._close() if self._unread - before < STALL_SECONDS * STALL_RATE else self._watch_unread()

        self._unread_timer = self._later(check)

    def _watch_unsent(self) -> None:
        before = self.transport.get_write_buffer_size()

        def check() -> None:
            self._unsent_timer = None
            if before - self.transport.get_write_buffer_size() < STALL_SECONDS * STALL_RATE:
                self.give_up()
            else:
                self._watch_unsent()

        self._unsent_timer = self._later(check)

    def _start_headers_timer(self) -> None:
        if self._headers_timer is None:
            self._headers_timer = self.loop.call_later(HEADER_TIMEOUT, self._close)

    def _close(self) -> None:
        """Close the connection, and give it up where its client does not read what was sent."""
        self.transport.close()
        if self.transport.get_write_buffer_size():
            self._later(self.give_up)

    def _later(self, call: Callable[[], object]) -> asyncio.TimerHandle:
        return self.loop.call_later(STALL_SECONDS, call)


def _cancel(timer: asyncio.TimerHandle | None) -> asyncio.TimerHandle | None:
    """Cancel a timer, and return what takes its place."""
    if timer is not None:
        timer.cancel()
    return None
