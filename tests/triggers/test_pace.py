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
from airflow_provider_jobapi.triggers.pace import BATCH, MOST_UNREAD, Pace, unread
from tests.harness.virtual_time import run

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


@pytest.mark.parametrize("waits", ["the end of a trigger", "the lines of others"])
def test_an_end_that_is_waited_for_leaves_the_loop_free(monkeypatch: pytest.MonkeyPatch, waits: str) -> None:
    """On a clock that stands still while anything runs, a wait without a pause would never end."""
    turns: list[float] = []

    def unread_for_a_second() -> int:
        turns.append(asyncio.get_running_loop().time())
        assert len(turns) < 1_000, "the loop is not given back"
        return 1 if turns[-1] < 1 else 0

    async def write() -> None:
        pace, loop = Pace(), asyncio.get_running_loop()
        ending = asyncio.create_task(pace.drain())
        if waits == "the lines of others":
            await asyncio.sleep(0)
            await asyncio.wait_for(pace.step(), 5)
            assert loop.time() >= 1
        await ending
        assert 1 <= loop.time() < 1.1

    monkeypatch.setattr(paces, "unread", unread_for_a_second)
    run(write())


def test_a_parent_that_stops_reading_does_not_block_the_end(parent: Parent) -> None:
    parent.mine.sendall(LINE)
    begin = time.monotonic()
    asyncio.run(Pace(drain_wait=0.2).drain())
    assert 0.2 <= time.monotonic() - begin < 5


async def steps(pace: Pace, count: int) -> list[float]:
    """Write lines; returns the seconds that each waited, on the clock of the loop."""
    loop, waited = asyncio.get_running_loop(), []
    for _ in range(count):
        begin = loop.time()
        await pace.step()
        waited.append(loop.time() - begin)
    return waited


@pytest.mark.parametrize(("triggers", "lines"), [(1, 5_000), (2, 2_500), (49, 100), (500, 10)])
def test_the_lines_of_all_triggers_keep_the_rate(triggers: int, lines: int) -> None:
    async def write() -> float:
        pace = Pace(rate=1_000)
        await asyncio.gather(*(steps(pace, lines) for _ in range(triggers)))
        return asyncio.get_running_loop().time()

    seconds = run(write())
    assert triggers * lines / 1_000 - BATCH / 1_000 <= seconds <= triggers * lines / 1_000


def test_a_pace_without_haste_delays_no_line() -> None:
    async def write() -> list[float]:
        pace, waited = Pace(rate=1_000), []
        for _ in range(1_000):
            waited += await steps(pace, 1)
            await asyncio.sleep(0.002)
        return waited

    assert set(run(write())) == {0.0}


def test_a_job_with_many_lines_does_not_hold_those_of_others() -> None:
    """Each of the others waits for its own turn, and for as long as one batch takes; none for the lines of others."""

    async def write() -> list[float]:
        pace = Pace(rate=1_000)
        busy = [asyncio.create_task(steps(pace, 10**9)) for _ in range(3)]

        async def rarely(first: float) -> list[float]:
            waited = []
            for second in range(20):
                await asyncio.sleep(first + second - asyncio.get_running_loop().time())
                waited += await steps(pace, 1)
            return waited

        waited = await asyncio.gather(*(rarely(number / 200) for number in range(200)))
        for task in busy:
            task.cancel()
        return [each for lines in waited for each in lines]

    waited = run(write())
    assert len(waited) == 4_000
    assert max(waited) <= 2 * BATCH / 1_000 + 0.2


def test_lines_are_written_in_the_order_in_which_they_asked() -> None:
    async def write() -> list[int]:
        pace, order = Pace(rate=10), []
        await steps(pace, BATCH + 1)

        async def one(number: int) -> None:
            await pace.step()
            order.append(number)

        async with asyncio.TaskGroup() as group:
            for number in range(300):
                group.create_task(one(number))
        return order

    assert run(write()) == list(range(300))


def test_a_line_that_is_cancelled_while_it_waits_gives_its_turn_to_the_next() -> None:
    async def write() -> float:
        pace = Pace(rate=10)
        await steps(pace, BATCH)
        waiting = [asyncio.create_task(pace.step()) for _ in range(3)]
        await asyncio.sleep(0)
        for each in waiting[:2]:
            each.cancel()
        await waiting[2]
        return asyncio.get_running_loop().time()

    assert run(write()) < 2 * BATCH / 10


def test_many_lines_leave_the_loop_free() -> None:
    async def write() -> int:
        turns = 0

        async def count_turns() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0.001)

        other = asyncio.create_task(count_turns())
        await steps(Pace(rate=1_000), 1_000)
        other.cancel()
        return turns

    assert run(write()) > 900


def test_lines_that_wait_for_nothing_give_the_loop_back_after_each_batch() -> None:
    """Also where a line takes longer to write than the rate allows."""

    async def write() -> tuple[int, int]:
        pace, turns = Pace(rate=10**9), 0

        async def count_turns() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        other = asyncio.create_task(count_turns())
        await steps(pace, 10 * BATCH)
        other.cancel()
        return turns, pace._turns_of(asyncio.get_running_loop()).lines

    turns, lines = asyncio.run(write())
    assert lines == 10 * BATCH
    assert turns >= 10


def test_one_pace_serves_event_loops_one_after_another() -> None:
    pace = Pace(rate=1_000)
    for _ in range(3):
        seconds = run(steps(pace, 200))
        assert sum(seconds) >= 0.1


def test_a_socket_of_which_nothing_is_read_does_not_block_lines_for_ever(parent: Parent) -> None:
    while unread() <= MOST_UNREAD:
        parent.mine.sendall(LINE)
    begin = time.monotonic()
    asyncio.run(Pace(stall_wait=0.2).step())
    assert 0.2 <= time.monotonic() - begin < 5
