# SPDX-License-Identifier: Apache-2.0
"""An event loop whose clock jumps to the next timer, so that a test of hours takes milliseconds."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

MOST_TURNS = 100_000
"""Turns of the loop at one moment, after which something waits without a pause."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop with a clock of its own, which begins at 0 seconds and stands still while anything can run.

    :raises RuntimeError: out of ``run``, where something that waits lets no time pass.
    """

    def __init__(self) -> None:
        self._now = 0.0
        self._turns = 0
        super().__init__()

    def time(self) -> float:
        """The seconds so far."""
        return self._now

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:  # type: ignore[attr-defined]
            when = self._scheduled[0]._when  # type: ignore[attr-defined]
            self._turns = 0 if when > self._now else self._turns
            self._now = max(self._now, when)
        self._turns += 1
        if self._turns > MOST_TURNS:
            raise RuntimeError(f"{MOST_TURNS:,} turns of the event loop at {self._now} seconds: a wait has no pause.")
        super()._run_once()  # type: ignore[misc]


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on a :class:`VirtualLoop`."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
