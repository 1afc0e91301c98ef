# SPDX-License-Identifier: Apache-2.0
"""A trigger's lines against a parent process that reads slowly, over a real socket."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from airflow_provider_jobapi.triggers import pace as paces
from airflow_provider_jobapi.triggers.pace import MOST_UNREAD, Pace, unread

LINE = b"x" * 399 + b"\n"


class Parent:
    """Reads 4 KiB at a time, as a triggerer's parent process does, and is slow about it."""

    def __init__(self, ours: socket.socket, theirs: socket.socket) -> None:
        self.ours = ours
        self._theirs = theirs
        self.read = 0
        self._thread = threading.Thread(target=self._work, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def join(self) -> None:
        self.ours.close()
        if self._thread.ident is not None:
            self._thread.join(30)
        self._theirs.close()

    def _work(self) -> None:
        while piece := self._theirs.recv(4096):
            self.read += len(piece)
            time.sleep(0.005)


@pytest.fixture
def parent() -> Iterator[Parent]:
    ours, theirs = socket.socketpair()
    paces._sockets.cache_clear()
    reader = Parent(ours, theirs)
    yield reader
    reader.join()
    paces._sockets.cache_clear()


def test_what_is_not_read_is_seen(parent: Parent) -> None:
    assert unread() == 0
    parent.ours.sendall(LINE * 10)
    assert unread() >= len(LINE) * 10
    parent.start()
    until = time.monotonic() + 10
    while unread() and time.monotonic() < until:
        time.sleep(0.01)
    assert unread() == 0


def test_a_line_never_waits_for_a_full_socket_and_none_is_unread_at_the_end(parent: Parent) -> None:
    async def write() -> None:
        pace = Pace(rate=10**6)
        for _ in range(600):
            await pace.step()
            assert unread() <= MOST_UNREAD
            parent.ours.sendall(LINE)
        await pace.drain()

    parent.ours.setblocking(False)  # a write that would wait is an error
    parent.start()
    asyncio.run(write())
    assert unread() == 0


def test_while_one_trigger_ends_the_others_write_nothing(parent: Parent) -> None:
    async def both() -> list[str]:
        pace, order = Pace(), []
        parent.ours.sendall(LINE * 50)

        async def end() -> None:
            await pace.drain()
            order.append("ended")

        async def write() -> None:
            await pace.step()
            order.append("wrote")

        ending = asyncio.create_task(end())
        await asyncio.sleep(0)
        writing = asyncio.create_task(write())
        parent.start()
        await asyncio.gather(ending, writing)
        return order

    assert asyncio.run(both()) == ["ended", "wrote"]


def test_a_parent_that_reads_no_more_does_not_hold_the_end_for_ever(parent: Parent) -> None:
    parent.ours.sendall(LINE)
    begin = time.monotonic()
    asyncio.run(Pace(drain_wait=0.2).drain())
    assert 0.2 <= time.monotonic() - begin < 5
