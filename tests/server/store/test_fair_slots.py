# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import threading
from collections.abc import Callable

from airflow_provider_jobapi.server.store.fair_slots import FairSlots
from tests.harness.server import poll


def holder(slots: FairSlots, client: str, order: list[str], leave: threading.Event) -> threading.Thread:
    def work() -> None:
        with slots.turn(client):
            order.append(client)
            leave.wait(30)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def waits(slots: FairSlots, count: int) -> Callable[[], bool]:
    return lambda: sum(map(len, slots._waiting.values())) == count


def test_one_client_never_has_all_slots():
    slots, order, leave = FairSlots(4), [], threading.Event()
    threads = [holder(slots, "large", order, leave) for _ in range(6)]
    poll(waits(slots, 3), 10, "three that wait")
    assert order == ["large"] * 3
    with slots.turn("small"):
        pass
    leave.set()
    for thread in threads:
        thread.join(10)
    assert order == ["large"] * 6


def test_clients_that_wait_get_slots_in_turn():
    slots, order, leave = FairSlots(1), [], threading.Event()
    threads = [holder(slots, "first", order, leave)]
    poll(lambda: bool(order), 10, "the first")
    for number, client in enumerate(["a", "a", "a", "b", "b", "c"], 1):
        threads.append(holder(slots, client, order, leave))
        poll(waits(slots, number), 10, "one more")
    leave.set()
    for thread in threads:
        thread.join(10)
    assert order == ["first", "a", "b", "c", "a", "b", "a"]


def test_a_slot_is_given_back_after_an_error():
    slots = FairSlots(1)
    for _ in range(3):
        try:
            with slots.turn("a"):
                raise KeyError
        except KeyError:
            pass
