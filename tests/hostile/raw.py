# SPDX-License-Identifier: Apache-2.0
"""Bytes to a server as nobody's HTTP library would send them, and the answers that came back."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

LAST = b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
"""An honest request that ends the connection: whoever still understands the stream answers it and closes."""


@dataclass
class Answer:
    """One answer."""

    status: int
    headers: dict[str, str]
    body: bytes


def exchange(
    port: int, data: bytes, more: Callable[[socket.socket], None] | None = None, wait: float = 20
) -> list[Answer]:
    """Send bytes, and read answers until the server closes the connection.

    :param more: Sends more, after the bytes.
    :param wait: Seconds of silence after which the test fails: the server neither answered nor closed.
    """
    with socket.create_connection(("127.0.0.1", port), timeout=wait) as connection:
        received = b""
        try:
            connection.sendall(data)
            if more:
                more(connection)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it has had enough, and may have said so
        try:
            while piece := connection.recv(65_536):
                received += piece
        except ConnectionResetError:
            pass
        except TimeoutError:
            raise AssertionError(f"The server did not close; so far it said {received[:500]!r}") from None
    return parse(received)


def parse(received: bytes) -> list[Answer]:
    """The answers in a stream; each has its length."""
    answers = []
    while received:
        head, separator, rest = received.partition(b"\r\n\r\n")
        assert separator, f"half an answer: {received[:300]!r}"
        lines = head.decode("latin-1").split("\r\n")
        assert lines[0].startswith("HTTP/1.1 "), lines[0]
        headers = {
            name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])
        }
        # The answer to a request that cannot be read is ended by the connection's end.
        length = int(headers.get("content-length", len(rest)))
        answers.append(Answer(int(lines[0].split()[1]), headers, rest[:length]))
        received = rest[length:]
    return answers


def statuses(port: int, data: bytes, more: Callable[[socket.socket], None] | None = None) -> list[int]:
    """The statuses of the answers to some bytes."""
    return [answer.status for answer in exchange(port, data, more)]


def flood(seconds: float, piece: bytes) -> Callable[[socket.socket], None]:
    """Send a piece again and again until the server stops it; fails when it did not within some seconds."""

    def send(connection: socket.socket) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            connection.sendall(piece)
        raise AssertionError(f"The server took bytes for {seconds:g} s that nobody wants.")

    return send
