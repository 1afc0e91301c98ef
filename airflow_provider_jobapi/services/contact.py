# SPDX-License-Identifier: Apache-2.0
"""Whoever follows a job keeps at it: the patience with a service that does not answer, told once when it begins."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from airflow_provider_jobapi.exceptions import ServiceUnavailable

_SHORTEST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0


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
