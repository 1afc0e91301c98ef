# SPDX-License-Identifier: Apache-2.0
"""Receive the bodies of requests within bounds of size, time and memory.

A body has three bounds: the size that its route needs, a pace, and the memory that the bodies of one client and those
of all clients may hold at the same time. Without them a few slow clients could fill the memory of the server.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from starlette.requests import Request
from starlette.types import Message, Receive, Scope

from airflow_provider_jobapi.server.http.problems import Problem
from airflow_provider_jobapi.training.units import size_text

JOB_FILE_LIMIT = 8 * 2**20
"""The most bytes of a job file. One with 10,000 inputs has 2 MB."""

FOLLOW_LIMIT = 2**20
"""The most bytes of a request that follows jobs, or names objects. One with 5,000 jobs has 600 KB."""

BODY_LIMIT = 16 * 1024
"""The most bytes of any other body that is not an upload, such as the form of a request for a token."""

UPLOAD_RATE, BODY_RATE = 1024, 16 * 1024
"""Bytes a second at which an upload, and any other body, must arrive on average."""

PATIENCE = 60.0
"""Seconds by which a body may fall behind that pace. So no body may pause for longer."""

MEMORY_OF_CLIENT, MEMORY = 2 * JOB_FILE_LIMIT, 8 * JOB_FILE_LIMIT
"""The most bytes of the bodies of one client, and of all clients, that are in memory at the same time."""

UPLOAD_PATH = "/api/v2/storage/upload"
DOWNLOAD_PATH = "/api/v2/storage/download"
OBJECTS_PATH = "/api/v2/storage/objects/"
JOBS_PATH = "/api/v2/jobs/"
FOLLOW_PATH = "/api/v2/follow"


@dataclass(frozen=True, slots=True)
class BodyBound:
    """What the body of a request may cost.

    :ivar size: The most bytes; None for an upload, to which the limit of the client's storage applies.
    :ivar rate: Bytes a second.
    """

    size: int | None
    rate: int

    @classmethod
    def of(cls, scope: Scope) -> BodyBound:
        """Return the bound of the route that a request is for."""
        method, path = scope["method"], scope["path"]
        if (method == "PUT" and path.startswith(OBJECTS_PATH)) or (method == "POST" and path == UPLOAD_PATH):
            return cls(None, UPLOAD_RATE)
        if method == "POST" and path.startswith(JOBS_PATH) and "/" not in path[len(JOBS_PATH) :]:
            return cls(JOB_FILE_LIMIT, BODY_RATE)
        if method == "POST" and path in {FOLLOW_PATH, DOWNLOAD_PATH}:
            return cls(FOLLOW_LIMIT, BODY_RATE)
        return cls(BODY_LIMIT, BODY_RATE)

    def refuse_size(self, size: int) -> None:
        """Refuse a body with too many bytes.

        :raises Problem: 413, when it has.
        """
        if self.size is not None and size > self.size:
            advice = "; upload files to the storage and name them in the job" if self.size == JOB_FILE_LIMIT else ""
            raise Problem(
                413, None, f"The body is larger than {size_text(self.size)}, the limit for this request{advice}."
            )


class BoundedBody:
    """Receive the body of a request, and refuse it when it is too large or too slow.

    Only the time in which the server waits for the client counts, so a slow disk of the server refuses nothing.
    """

    def __init__(self, receive: Receive, bound: BodyBound, patience: float = PATIENCE) -> None:
        self._receive = receive
        self._bound = bound
        self._patience = self._left = patience
        self._size = 0
        self._more = True

    async def __call__(self) -> Message:
        """Receive the next piece.

        :raises Problem: 408 or 413, when the body is too slow or too large.
        """
        if not self._more:  # what follows is the end of the connection, which may take as long as the answer
            return await self._receive()
        loop = asyncio.get_running_loop()
        begin = loop.time()
        try:
            async with asyncio.timeout(self._left):
                message = await self._receive()
        except TimeoutError:
            raise self._too_slow() from None
        piece = len(message.get("body", b""))
        self._left = min(self._patience, self._left - (loop.time() - begin) + piece / self._bound.rate)
        self._size += piece
        self._more = bool(message.get("more_body", False))
        self._bound.refuse_size(self._size)
        return message

    def _too_slow(self) -> Problem:
        return Problem(
            408,
            None,
            f"The body of the request did not arrive: {size_text(self._size)} came, and then less than "
            f"{size_text(self._bound.rate)} a second for {self._patience:.0f} seconds; send the request again.",
            headers={"Connection": "close"},
        )


class BodyMemory:
    """Bound the memory of bodies that are read as a whole, and parse one job file of a client at a time.

    :param of_client: The most bytes of one client's bodies.
    :param of_all: The most bytes of the bodies of all clients.
    """

    def __init__(self, of_client: int = MEMORY_OF_CLIENT, of_all: int = MEMORY) -> None:
        self._of_client = of_client
        self._of_all = of_all
        self._held: dict[str, int] = defaultdict(int)
        self._turns: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    @asynccontextmanager
    async def read(self, request: Request, client_id: str) -> AsyncIterator[bytes]:
        """Read the body of a request, whose bytes count until the end of the context.

        :raises Problem: 503, when the bodies of the client, or of all clients, hold too much memory.
        """
        body = bytearray()
        try:
            async for piece in request.stream():
                self._held[client_id] += len(piece)
                body += piece
                self._refuse_excess(client_id)
            yield bytes(body)
        finally:
            self._held[client_id] -= len(body)
            if not self._held[client_id]:
                del self._held[client_id]

    def _refuse_excess(self, client_id: str) -> None:
        mine, all_bytes = self._held[client_id], sum(self._held.values())
        if mine <= self._of_client and all_bytes <= self._of_all:
            return
        whose = "this client" if mine > self._of_client else "all clients"
        raise Problem(
            503,
            None,
            f"The requests of {whose} that are being sent fill the memory for them; send this one again in a moment, "
            "and fewer large ones at the same time.",
            headers={"Retry-After": "1", "Connection": "close"},
        )

    def turn(self, client_id: str) -> asyncio.Lock:
        """Return the lock that a client's job file is parsed under, since parsing needs many times its memory."""
        return self._turns[client_id]
