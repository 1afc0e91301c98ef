# SPDX-License-Identifier: Apache-2.0
"""A client of logs that costs little itself: plain requests on connections that are kept."""

from __future__ import annotations

import asyncio

from tests.benchmarks.log_server import LogServer

BUFFER = 8 * 2**20


class Connection:
    """One connection to a server of logs."""

    def __init__(self, server: LogServer) -> None:
        self._server = server
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(self, method: str, path: str, body: bytes = b"") -> tuple[dict[bytes, bytes], bytes]:
        """Send a request that waits for at most 25 seconds; returns the headers and the body of the answer."""
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._server.port, limit=BUFFER)
        reader, writer = self._streams
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {self._server.token}\r\n"
        head += f"Prefer: wait=25\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
        content = await reader.readexactly(int(headers[b"content-length"]))
        if b" 200 " not in first:
            raise RuntimeError(f"{method} {path}: {first!r} {content[:200]!r}")
        return headers, content

    def close(self) -> None:
        """Close the connection."""
        if self._streams is not None:
            self._streams[1].close()


async def follow_alone(server: LogServer, job_id: str, lines: list[int], pause: float) -> None:
    """Follow a job by requests of its own, and count its lines.

    :param lines: Its only number grows by one for each line.
    :param pause: The least seconds from a request to the next.
    """
    connection, offset, loop = Connection(server), 0, asyncio.get_running_loop()
    try:
        while True:
            begin = loop.time()
            headers, body = await connection.send("GET", f"/api/v2/jobs/{job_id}/logs?offset={offset}")
            offset, lines[0] = int(headers[b"job-log-next-offset"]), lines[0] + body.count(b"\n")
            await asyncio.sleep(max(0.0, begin + pause - loop.time()))
    finally:
        connection.close()
