# SPDX-License-Identifier: Apache-2.0
"""The ration of XCom writes: fair, bounded, the newest value wins."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections import Counter

import pytest

from airflow_provider_jobapi.triggers import xcom_writer
from airflow_provider_jobapi.triggers.xcom_writer import XComWriter
from tests.harness.loops import until


class Sink:
    def __init__(self) -> None:
        self.writes: list[tuple[str, object, float]] = []

    def __call__(self, key: str, value: object) -> None:
        self.writes.append((key, value, time.monotonic()))

    @property
    def keys(self) -> Counter[str]:
        return Counter(key for key, _, _ in self.writes)


def run(test) -> Sink:
    sink = Sink()
    asyncio.run(test(XComWriter(), sink))
    return sink


def test_the_newest_value_wins(monkeypatch):
    monkeypatch.setattr(XComWriter, "least_pause", 0.3)

    async def test(writer, sink):
        slot = writer.open(sink, "a")
        for number in range(100):
            writer.offer(slot, lambda number=number: number)
            await asyncio.sleep(0.001)
        await asyncio.wait_for(slot.idle.wait(), 10)

    begin = time.monotonic()
    values = [value for _, value, _ in run(test).writes]
    assert values[-1] == 99
    assert len(values) <= 2 + (time.monotonic() - begin) / 0.3


def test_a_value_waits_for_its_turn_and_what_is_urgent_does_not(monkeypatch):
    monkeypatch.setattr(XComWriter, "least_pause", 60)

    async def test(writer, sink):
        slow, fast = writer.open(sink, "slow"), writer.open(sink, "fast")
        for slot in (slow, fast):
            writer.offer(slot, lambda: 1)
        await until(lambda: len(sink.writes) == 2)
        writer.offer(slow, lambda: 2)
        writer.offer(fast, lambda: 2, urgent=True)
        await until(lambda: sink.keys["fast"] == 2)
        assert sink.keys["slow"] == 1

    run(test)


def test_a_process_writes_no_more_than_its_ration_and_shares_it_fairly(monkeypatch):
    monkeypatch.setattr(XComWriter, "least_pause", 0.05)

    async def test(writer, sink):
        slots = [writer.open(sink, str(number)) for number in range(10)]
        greedy = writer.open(sink, "greedy")
        until_then = time.monotonic() + 2.0
        while time.monotonic() < until_then:
            for slot in (*slots, greedy):
                writer.offer(slot, time.monotonic)
            for _ in range(5):
                writer.offer(greedy, time.monotonic)
            await asyncio.sleep(0.001)

    keys = run(test).keys
    assert keys.total() <= 2 * XComWriter.writes_per_second + 2
    assert len(keys) == 11
    assert max(keys.values()) - min(keys.values()) <= 1


def test_the_pause_grows_with_the_number_of_slots():
    async def test(writer, sink):
        slots = [writer.open(sink, "k") for _ in range(2_000)]
        assert writer.pause() == 100
        for slot in slots[4:]:
            writer.close(slot)
        assert (writer.pause(), writer.size) == (2.0, 4)

    run(test)


def test_a_closed_slot_is_not_written_and_blocks_nothing():
    async def test(writer, sink):
        first, second = writer.open(sink, "first"), writer.open(sink, "second")
        for slot in (first, second):
            writer.offer(slot, lambda: 1)
        writer.close(second)
        writer.offer(second, lambda: 2, urgent=True)
        await asyncio.wait_for(asyncio.gather(first.idle.wait(), second.idle.wait()), 10)

    assert run(test).keys == {"first": 1}


def test_a_failed_write_is_tried_again_with_the_newest_value_and_longer_pauses(monkeypatch):
    monkeypatch.setattr(XComWriter, "least_pause", 0.02)
    attempts = []

    async def test(writer, sink):
        def failing(key: str, value: object) -> None:
            attempts.append(slot.written_at)
            if len(attempts) < 4:
                raise ConnectionError("away")
            sink(key, value)

        slot = writer.open(failing, "a")
        writer.offer(slot, lambda: "old")
        await until(lambda: len(attempts) == 1)
        writer.offer(slot, lambda: "new", urgent=True)
        await asyncio.wait_for(slot.idle.wait(), 10)

    assert [value for _, value, _ in run(test).writes] == ["new"]
    for gap, least in zip(itertools.pairwise(attempts), (0.02, 0.04, 0.08), strict=True):
        assert gap[1] - gap[0] >= least * 0.99


@pytest.mark.parametrize("wait", [0.05])
def test_a_write_that_hangs_is_given_up(monkeypatch, wait):
    monkeypatch.setattr(XComWriter, "write_wait", wait)
    monkeypatch.setattr(XComWriter, "least_pause", 0.02)
    calls = []

    async def test(writer, sink):
        def hanging(key: str, value: object) -> None:
            calls.append(value)
            if len(calls) == 1:
                time.sleep(0.3)
            sink(key, value)

        slot = writer.open(hanging, "a")
        writer.offer(slot, lambda: 1)
        await until(lambda: len(sink.writes) >= 2)

    assert run(test).keys["a"] >= 2


class Stuck(Sink):
    """Does not come back until it may."""

    def __init__(self) -> None:
        super().__init__()
        self.may = threading.Event()

    def __call__(self, key: str, value: object) -> None:
        self.may.wait(20)
        super().__call__(key, value)


def threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("jobapi-xcom")}


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(XComWriter, "write_wait", 0.05)
    monkeypatch.setattr(XComWriter, "least_pause", 0.02)


@pytest.mark.usefixtures("impatient")
def test_a_write_that_never_returns_does_not_block_others(caplog):
    async def test(writer, sink):
        stuck = Stuck()
        first, second = writer.open(stuck, "stuck"), writer.open(sink, "b")
        writer.offer(first, lambda: 1)
        await until(lambda: writer._busy)
        for number in range(3):
            writer.offer(first, lambda: 2)
            writer.offer(second, lambda number=number: number)
            await asyncio.wait_for(second.idle.wait(), 5)
        stuck.may.set()
        await asyncio.wait_for(first.idle.wait(), 20)
        assert [value for _, value, _ in stuck.writes] == [1, 2], "what was late is not what stays"

    assert {value for _, value, _ in run(test).writes} == {0, 1, 2}
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [
        "An XCom was not written within 0.05 seconds; other XComs are written meanwhile."
    ]


@pytest.mark.usefixtures("impatient")
def test_few_threads_hang_and_all_of_them_end():
    before = threads()

    async def test(writer, sink):
        stuck = Stuck()
        slots = [writer.open(stuck, str(number)) for number in range(3 * xcom_writer.MOST_HANGING)]
        for slot in slots:
            writer.offer(slot, lambda: 1)
        await until(lambda: all(slot.failures for slot in slots))
        assert len(threads() - before) == xcom_writer.MOST_HANGING + 1
        stuck.may.set()
        await asyncio.wait_for(asyncio.gather(*(slot.idle.wait() for slot in slots)), 20)
        assert set(stuck.keys) == {slot.key for slot in slots}
        for slot in slots:
            writer.close(slot)
        await until(lambda: not threads() - before)

    run(test)


def test_each_event_loop_has_one_writer():
    async def one() -> XComWriter:
        assert xcom_writer.writer() is xcom_writer.writer()
        return xcom_writer.writer()

    assert asyncio.run(one()) is not asyncio.run(one())
