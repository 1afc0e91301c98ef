# SPDX-License-Identifier: Apache-2.0
"""Beside what is tested in an event loop: a heart that tells how long it was held, and a wait for what threads do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Self


class Heart:
    """Beats in the event loop within ``async with``, and knows its longest pauses.

    :ivar worked: Seconds of the loop's own thread, however loaded the machine is.
    :ivar waited: Seconds by the clock.
    """

    def __init__(self) -> None:
        self.worked = self.waited = 0.0

    async def __aenter__(self) -> Self:
        self._beating = asyncio.create_task(self._beat())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._beating.cancel()
        await asyncio.wait([self._beating])

    async def _beat(self) -> None:
        while True:
            worked, waited = time.thread_time(), time.monotonic()
            try:
                await asyncio.sleep(0.01)
            finally:  # a loop that was held to the end is told, too
                self.worked = max(self.worked, time.thread_time() - worked)
                self.waited = max(self.waited, time.monotonic() - waited)


async def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait for what a thread does."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 -- a thread does it
            await asyncio.sleep(0.005)
