# SPDX-License-Identifier: Apache-2.0
"""A trigger's lines against a parent process that reads slowly, over a real socket."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_provider_jobapi.triggers import pace as paces
from airflow_provider_jobapi.triggers.pace import MOST_UNREAD, Pace, unread

LINE = b"x" * 399 + b"\n"


class Parent:
    """Reads 4 KiB at a time, as a triggerer's parent process does, and is slow about it."""

    def __init__(self, mine: socket.socket, theirs: socket.socket) -> None:
        self.mine = mine
        self._theirs = theirs
        self.read = 0
        self._thread = threading.Thread(target=self._work, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def join(self) -> None:
        self.mine.close()
        if self._thread.ident is not None:
            self._thread.join(30)
        self._theirs.close()

    def _work(self) -> None:
        while piece := self._theirs.recv(4096):
            self.read += len(piece)
            time.sleep(0.005)


@pytest.fixture
def parent() -> Iterator[Parent]:
    mine, theirs = socket.socketpair()
    paces._sockets.cache_clear()
    reader = Parent(mine, theirs)
    yield reader
    reader.join()
    paces._sockets.cache_clear()


def test_unread_bytes_are_counted(parent: Parent) -> None:
    assert unread() == 0
    parent.mine.sendall(LINE * 10)
    assert unread() >= len(LINE) * 10
    parent.start()
    until = time.monotonic() + 10
    while unread() and time.monotonic() < until:
        time.sleep(0.01)
    assert unread() == 0


def test_a_look_at_the_descriptors_leaves_them_as_they_are(parent: Parent) -> None:
    def kinds() -> dict[str, str]:
        listed = {entry.name: str(entry.readlink()) for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()}
        return {name: target for name, target in listed.items() if not target.startswith("/proc")}

    with Path(os.devnull).open() as file, socket.socket() as other:
        before = kinds()
        unread()
        assert kinds() == before
        assert not {file.fileno(), other.fileno()} & set(paces._sockets(os.getpid()))


def test_a_line_never_waits_for_a_full_socket_and_none_is_unread_at_the_end(parent: Parent) -> None:
    async def write() -> None:
        pace = Pace(rate=10**6)
        for _ in range(600):
            await pace.step()
            assert unread() <= MOST_UNREAD
            parent.mine.sendall(LINE)
        await pace.drain()

    parent.mine.setblocking(False)  # a write that would wait is an error
    parent.start()
    asyncio.run(write())
    assert unread() == 0


def test_while_one_trigger_ends_the_others_write_nothing(parent: Parent) -> None:
    async def both() -> list[str]:
        pace, order = Pace(), []
        parent.mine.sendall(LINE * 50)

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


def test_a_parent_that_stops_reading_does_not_block_the_end(parent: Parent) -> None:
    parent.mine.sendall(LINE)
    begin = time.monotonic()
    asyncio.run(Pace(drain_wait=0.2).drain())
    assert 0.2 <= time.monotonic() - begin < 5


def test_the_pace_holds_the_rate_and_leaves_the_loop_free() -> None:
    async def run() -> tuple[float, int]:
        turns = 0

        async def count_turns() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        other = asyncio.ensure_future(count_turns())
        pace, begin = Pace(rate=1_000), time.monotonic()
        await asyncio.gather(*(steps(pace, 150) for _ in range(2)))
        other.cancel()
        return time.monotonic() - begin, turns

    async def steps(pace: Pace, count: int) -> None:
        for _ in range(count):
            await pace.step()

    seconds, turns = asyncio.run(run())
    assert seconds >= 0.29
    assert turns > 10


def test_a_socket_of_which_nothing_is_read_does_not_block_lines_for_ever(parent: Parent) -> None:
    while unread() <= MOST_UNREAD:
        parent.mine.sendall(LINE)
    begin = time.monotonic()
    asyncio.run(Pace(stall_wait=0.2).step())
    assert 0.2 <= time.monotonic() - begin < 5
