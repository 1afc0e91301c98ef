# SPDX-License-Identifier: Apache-2.0
"""What one connection may cost before and after its request is served: time for the headers, bytes nobody reads."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEADERS_WAIT = 30.0
"""Seconds from the first byte of a request, or from the connection on, to the end of its headers."""

LEFTOVER = 8 * 2**20
LEFTOVER_OF_UPLOAD = 2**30
"""Bytes of a body that are taken after the answer was given. Many clients read no answer before they have sent all, and
one whose upload was refused should see why; but none may send for ever.
"""


class Protocol(H11Protocol):
    """HTTP/1.1 as uvicorn has it, with an end to what a client may hold us up with."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._late: asyncio.TimerHandle | None = None
        self._leftover = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._wait_no_longer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes, and look what they are for."""
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete:
            self._count(len(data))
        else:
            self._leftover = 0
            self._wait_no_longer()

    def _count(self, size: int) -> None:
        if self.conn.their_state is not h11.SEND_BODY:
            self._wait()
            return
        self._leftover += size
        upload = self.cycle is not None and self.cycle.scope["method"] == "PUT"
        if self._leftover > (LEFTOVER_OF_UPLOAD if upload else LEFTOVER):
            self.transport.close()

    def _wait(self) -> None:
        if self._late is None:
            self._late = self.loop.call_later(HEADERS_WAIT, self.transport.close)

    def _wait_no_longer(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None
