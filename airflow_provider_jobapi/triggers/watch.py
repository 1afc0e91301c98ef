# SPDX-License-Identifier: Apache-2.0
"""What following a job takes: the pace of its log lines, and the patience with a service that does not answer."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable

from airflow_provider_jobapi.exceptions import ServiceUnavailable
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
_SHORTEST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0


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


class Contact:
    """Whether the service answers: told once when contact is lost and once when it is back.

    :param patience: Seconds without one good answer after which there is no more waiting.
    :param tell: Writes one line into the task's log.
    """

    def __init__(self, patience: float, tell: Callable[[str], object]) -> None:
        self._patience = patience
        self._tell = tell
        self._lost_at: float | None = None
        self._failures = 0

    def lost(self, error: Exception) -> float | None:
        """Note a failure; answers the seconds to wait before the next attempt, or None when patience is over."""
        now = time.monotonic()
        if self._lost_at is None:
            self._lost_at = now
            self._tell(
                f"Contact with the job service is lost: {describe(error)} Trying again for {self._patience:g} seconds."
            )
        self._failures += 1
        left = self._lost_at + self._patience - now
        if left <= 0:
            return None
        return min(left, self._pause(error))

    def _pause(self, error: Exception) -> float:
        asked = error.retry_after if isinstance(error, ServiceUnavailable) else None
        if asked is not None:
            return max(asked, _SHORTEST_PAUSE)
        longest = min(_LONGEST_PAUSE, _SHORTEST_PAUSE * 2 ** min(self._failures - 1, 10))
        return random.uniform(longest / 2, longest)  # noqa: S311 -- spreads a thousand triggers, guards nothing

    def back(self) -> None:
        """Note a good answer."""
        if self._lost_at is not None:
            seconds = time.monotonic() - self._lost_at
            self._tell(f"Contact with the job service is back after {seconds:.0f} seconds.")
        self._lost_at = None
        self._failures = 0


def describe(error: BaseException) -> str:
    """An error as a sentence, with its kind where it brings no words of its own."""
    text = " ".join(str(error).split())
    if text.endswith((".", "!", "…")):
        return text
    return ": ".join(filter(None, (type(error).__name__, text))) + "."
