# SPDX-License-Identifier: Apache-2.0
"""The pace of log lines in a triggerer."""

from __future__ import annotations

import asyncio
import time

from airflow_provider_jobapi.triggers.log_pipe import unread

LINES_PER_SECOND = 1_000
"""The most log lines of one process in a second. A triggerer manages about 2,000 at best."""

BATCH = 50
"""Lines after which the event loop is given back."""

MOST_UNREAD = 64 * 1024
"""Bytes that may wait for the triggerer's parent process; a line beyond what its socket holds blocks the event loop."""

DRAIN_WAIT = 20.0
"""Seconds that the end of a trigger waits for its last lines to be read."""

_GLANCE = 0.02


class Pace:
    """Slows log lines down to what a process and its parent can carry; all triggers of a process share one."""

    def __init__(self, rate: int = LINES_PER_SECOND) -> None:
        self._rate = rate
        self._lines = 0
        self._due = 0.0
        self._draining = 0

    async def step(self) -> None:
        """Wait until the next line may be written, and count it."""
        self._lines += 1
        if self._lines % BATCH == 0:
            now = time.monotonic()
            self._due = max(self._due, now) + BATCH / self._rate
            await asyncio.sleep(self._due - now)
        while self._draining or unread() > MOST_UNREAD:  # noqa: ASYNC110 -- the kernel sets no event
            await asyncio.sleep(_GLANCE)

    async def drain(self) -> None:
        """Wait until every line so far was read; the other triggers of the process write none meanwhile."""
        until = time.monotonic() + DRAIN_WAIT
        self._draining += 1
        try:
            while unread() and time.monotonic() < until:  # noqa: ASYNC110 -- the kernel sets no event
                await asyncio.sleep(_GLANCE)
        finally:
            self._draining -= 1
