# SPDX-License-Identifier: Apache-2.0
"""Write the XComs of all triggers of a process: rationed, in turn, the newest value of each.

A triggerer manages about 55 writes a second in all, and its first takes 4 seconds (seen on Airflow 3.3.2). So all
triggers share a budget: the XComs of a few jobs are written every 2 seconds, those of a thousand about once a minute,
urgent ones first. A value that was replaced before its turn is never written.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

from airflow_provider_jobapi.services.retry import backoff
from airflow_provider_jobapi.triggers import xcoms

log = logging.getLogger(__name__)

MOST_HANGING = 4
"""Threads that may be left behind with a write that does not return."""

_LONGEST_PAUSE = 60.0
"""Seconds from one write of a value to its next at most."""

_NEVER = float("-inf")

Sink = Callable[[str, Any], None]
"""Writes a key and a value; blocks, so it is called in a thread."""


def _thread() -> ThreadPoolExecutor:
    """Make a thread for writes only: one that never returns must not take a thread of the event loop's pool."""
    return ThreadPoolExecutor(1, thread_name_prefix="jobapi-xcom")


@dataclass(eq=False, slots=True)
class Slot:
    """One XCom of one task.

    :ivar pause: Seconds from one write to the next at least, unless the next is urgent.
    :ivar make: Makes the value, when its turn has come; None when there is no new value.
    :ivar failures: Writes that failed in a row.
    :ivar wait: Seconds from the last of them to the next write.
    :ivar thread: Where it was written last.
    :ivar idle: Set while no new value waits.
    """

    sink: Sink
    key: str
    pause: float
    make: Callable[[], Any] | None = None
    urgent: bool = False
    written_at: float = _NEVER
    failures: int = 0
    wait: float = 0.0
    thread: ThreadPoolExecutor | None = None
    idle: asyncio.Event = field(default_factory=asyncio.Event)

    def due(self) -> float:
        """Return when it may be written."""
        if self.failures:
            return self.written_at + self.wait
        return _NEVER if self.urgent else self.written_at + self.pause


class XComWriter:
    """Writes the XComs of all triggers of one event loop; see :func:`writer`."""

    least_pause: ClassVar[float] = 2.0
    """Seconds from one write of a value to its next at least, unless the next is urgent."""
    write_wait: ClassVar[float] = 30.0
    """Seconds that one write may take; then it counts as failed and is tried again."""
    writes_per_second: ClassVar[float] = 20
    """Writes of one process in a second at most."""

    def __init__(self) -> None:
        self._slots: set[Slot] = set()
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._thread = _thread()
        self._busy: set[ThreadPoolExecutor] = set()
        self._warned = False

    def open(self, sink: Sink, key: str) -> Slot:
        """Open an XCom to write to, until :meth:`close`."""
        slot = Slot(sink, key, self.least_pause)
        slot.idle.set()
        self._slots.add(slot)
        return slot

    def close(self, slot: Slot) -> None:
        """Write nothing more to a slot."""
        self._slots.discard(slot)
        slot.make = None
        slot.idle.set()
        self._news.set()

    def offer(self, slot: Slot, make: Callable[[], Any], *, urgent: bool = False) -> None:
        """Replace the value to be written.

        :param make: Makes what the sink writes; called on the event loop, so it must be quick.
        :param urgent: Whether it is written before its turn.
        """
        if slot not in self._slots:
            return
        slot.make = make
        slot.urgent = slot.urgent or urgent
        slot.idle.clear()
        self._news.set()
        if self._task is None or self._task.done():
            # In a context of its own: what is logged in a trigger's goes into that trigger's log.
            self._task = asyncio.get_running_loop().create_task(self._write_all(), context=Context())

    @property
    def size(self) -> int:
        """The number of open slots."""
        return len(self._slots)

    def pause(self) -> float:
        """Return the seconds in which each of the slots that are open now has one turn."""
        return max(self.least_pause, len(self._slots) / self.writes_per_second)

    async def _write_all(self) -> None:
        """Write while slots are open, then end; the next offer starts it again."""
        try:
            while self._slots:
                self._news.clear()
                now = time.monotonic()
                waiting = [slot for slot in self._slots if slot.make is not None]
                due = [slot for slot in waiting if slot.due() <= now]
                if due:
                    await self._write(min(due, key=lambda slot: (not slot.urgent, slot.written_at)))
                    await asyncio.sleep(now + 1 / self.writes_per_second - time.monotonic())
                else:
                    await self._rest(min((slot.due() - now for slot in waiting), default=_LONGEST_PAUSE))
        finally:
            if self._thread not in self._busy:
                self._thread.shutdown(wait=False)
                self._thread = _thread()

    async def _rest(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            pass

    async def _write(self, slot: Slot) -> None:
        make, slot.make, slot.urgent = slot.make, None, False
        if make is None:
            return
        slot.written_at = time.monotonic()
        try:
            if {slot.thread, self._thread} & self._busy:
                raise TimeoutError("An earlier write has not returned and may still overwrite this one.")
            slot.thread = self._thread
            async with asyncio.timeout(self.write_wait):
                await self._in_thread(slot, make())
            slot.failures = 0
        except Exception as error:  # noqa: BLE001 -- an XCom that cannot be written must not fail a training
            log.debug("The XCom %s could not be written: %r", slot.key, error)
            self._leave_thread_that_hangs()
            slot.failures += 1
            slot.wait = backoff(slot.failures, first=2 * slot.pause, longest=_LONGEST_PAUSE)
            if slot in self._slots:
                slot.make = slot.make or make
        if slot.make is None:
            slot.idle.set()

    async def _in_thread(self, slot: Slot, value: Any) -> None:
        from asgiref.sync import sync_to_async

        thread = self._thread

        def write() -> None:
            try:
                slot.sink(slot.key, value)
            finally:
                self._busy.discard(thread)

        self._busy.add(thread)
        await sync_to_async(write, thread_sensitive=False, executor=thread)()

    def _leave_thread_that_hangs(self) -> None:
        """Replace the thread where a write has not returned, which would block all others."""
        if self._thread in self._busy and len(self._busy) <= MOST_HANGING:
            self._thread.shutdown(wait=False)
            self._thread = _thread()
            if not self._warned:
                log.warning(
                    "An XCom was not written within %g seconds; other XComs are written meanwhile.", self.write_wait
                )
            self._warned = True


_WRITERS: WeakKeyDictionary[asyncio.AbstractEventLoop, XComWriter] = WeakKeyDictionary()


def writer() -> XComWriter:
    """Return the writer of the running event loop; a triggerer has one loop."""
    loop = asyncio.get_running_loop()
    if loop not in _WRITERS:
        _WRITERS[loop] = XComWriter()
    return _WRITERS[loop]


def sink_of(ti: Any) -> Sink:
    """Return a function that writes the XComs of a task instance.

    :param ti: Anything that has dag_id, task_id, run_id and map_index.
    """
    return partial(xcoms.write, ti)
