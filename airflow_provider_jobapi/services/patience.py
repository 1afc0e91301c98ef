# SPDX-License-Identifier: Apache-2.0
"""How often and for how long something is tried again, and the switch with which no test waits for it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from airflow_provider_jobapi.exceptions import ServiceUnavailable

if TYPE_CHECKING:
    from tenacity import RetryCallState

Result = TypeVar("Result")

_waits = True


@contextmanager
def testing() -> Iterator[None]:
    """Within this context everything is tried again at once, as often as it would be otherwise."""
    global _waits  # noqa: PLW0603 -- one switch for a process is the point of it
    before, _waits = _waits, False
    try:
        yield
    finally:
        _waits = before


def pause(seconds: float) -> None:
    """Sleep, unless a test says that nothing waits."""
    if _waits:
        time.sleep(seconds)


def waits() -> bool:
    """Whether pauses are kept, which only :func:`testing` turns off."""
    return _waits


@dataclass(frozen=True, slots=True)
class Patience:
    """What is given to a service that cannot be reached or is busy.

    Only :class:`ServiceUnavailable` is tried again, and only work that is safe to repeat may be given to it. The
    service's own Retry-After is kept; where it asks for more time than is left, there is no further attempt.

    :param total: Seconds from the first attempt after which none begins.
    :param attempts: The most attempts.
    """

    total: float = 60.0
    attempts: int = 8

    @classmethod
    def lasting(cls, seconds: float) -> Patience:
        """Patience that ends with its time, not with the number of its attempts.

        :param seconds: From the first attempt.
        """
        return cls(total=seconds, attempts=8 + int(seconds / 3))

    def repeat(self, work: Callable[[], Result], log: logging.Logger | None = None) -> Result:
        """Do the work until it is done.

        :param log: Where each failed attempt leaves a line.
        :raises ServiceUnavailable: the last one, when patience is over.
        """
        from tenacity import (
            Retrying,
            retry_if_exception_type,
            stop_after_attempt,
            stop_before_delay,
            wait_random_exponential,
        )

        backoff = wait_random_exponential(multiplier=0.5, max=15)

        def wait(state: RetryCallState) -> float:
            asked = _asked(state)
            return backoff(state) if asked is None else max(asked, 0.05)

        def tell(state: RetryCallState) -> None:
            if log is not None and state.outcome is not None:
                seconds = 0.0 if state.next_action is None else state.next_action.sleep
                log.info(f"{state.outcome.exception()} Trying again in {seconds:.1f} seconds.")

        retrying = Retrying(
            sleep=pause,
            wait=wait,
            stop=stop_after_attempt(self.attempts) | stop_before_delay(self.total),
            retry=retry_if_exception_type(ServiceUnavailable),
            before_sleep=tell,
            reraise=True,
        )
        return retrying(work)


def _asked(state: RetryCallState) -> float | None:
    error = None if state.outcome is None else state.outcome.exception()
    return error.retry_after if isinstance(error, ServiceUnavailable) else None
