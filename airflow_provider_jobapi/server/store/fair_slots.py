# SPDX-License-Identifier: Apache-2.0
"""Divide a few slots for work on the disk among clients, so that a large job of one does not delay the others."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Lock


class FairSlots:
    """A number of slots. Clients that wait get them in turn, and one of them never has all.

    A job takes a slot for each file and gives it back, so the jobs of one client proceed side by side, too.

    :param count: How many threads may work at a time.
    """

    def __init__(self, count: int) -> None:
        self._free = count
        self._most = max(1, count - 1)
        self._lock = Lock()
        self._taken: Counter[str] = Counter()
        self._waiting: OrderedDict[str, deque[Event]] = OrderedDict()

    @contextmanager
    def turn(self, client_id: str) -> Iterator[None]:
        """Wait for a slot, and hold it."""
        granted = Event()
        with self._lock:
            self._waiting.setdefault(client_id, deque()).append(granted)
            self._grant()
        granted.wait()
        try:
            yield
        finally:
            with self._lock:
                self._free += 1
                self._taken[client_id] -= 1
                self._grant()

    def _grant(self) -> None:
        """Give the free slots to those that wait: one for each client, then from the first client again."""
        while self._free:
            client_id = next((each for each in self._waiting if self._taken[each] < self._most), None)
            if client_id is None:
                return
            waiting = self._waiting.pop(client_id)
            waiting.popleft().set()
            self._free -= 1
            self._taken[client_id] += 1
            if waiting:
                self._waiting[client_id] = waiting  # behind the others
