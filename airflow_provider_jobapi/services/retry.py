# SPDX-License-Identifier: Apache-2.0
"""The one way to try again, synchronous and asynchronous, on tenacity.

:class:`Retry` repeats one call, :class:`Outage` paces a loop that follows a job for hours, and :func:`testing` lets
tests run both without waiting.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_jobapi.exceptions import ConnectionProblem, ServiceUnavailable, describe

if TYPE_CHECKING:
    from tenacity import RetryCallState

Result = TypeVar("Result")

FIRST_WAIT = 0.5
"""Seconds before the second attempt, at the most, where the service does not ask for more."""

LONGEST_WAIT = 30.0
"""Seconds between two attempts, at the most, where the service does not ask for more."""

SHORTEST_WAIT = 0.05
"""Seconds between two attempts of a call, at the least, even where the service asks for none."""

TESTING_WAIT = 0.01
"""Seconds that :class:`Outage` has its loop wait under :func:`testing`, so that the loop does not spin."""


@dataclass(frozen=True, slots=True)
class _Testing:
    """What :func:`testing` sets. ``attempts`` is the most attempts of a call, None for as many as in production."""

    attempts: int | None


_testing: _Testing | None = None


@contextmanager
def testing(*, attempts: int | None = None) -> Iterator[None]:  # noqa: PT028 -- no test, but for tests
    """Let nothing in this process wait before it tries again; a context manager for tests.

    :param attempts: The most attempts of one call; by default as many as in production.
    """
    global _testing  # noqa: PLW0603 -- one switch for a process is the point of it
    before, _testing = _testing, _Testing(attempts)
    try:
        yield
    finally:
        _testing = before


def is_testing() -> bool:
    """Whether :func:`testing` is active."""
    return _testing is not None


def sleep(seconds: float) -> None:
    """Sleep in a worker's thread; returns at once under :func:`testing`."""
    if not is_testing() and seconds > 0:
        time.sleep(seconds)


async def sleep_async(seconds: float) -> None:
    """Sleep in an event loop; returns at once under :func:`testing`."""
    if not is_testing() and seconds > 0:
        await asyncio.sleep(seconds)


def backoff(failures: int, *, first: float = FIRST_WAIT, longest: float = LONGEST_WAIT) -> float:
    """Seconds to wait after so many failures in a row.

    The wait doubles with each failure. It is drawn from the upper half of that time, so that a thousand callers of a
    service that restarts do not come back at the same moment.

    :param failures: At least 1.
    :param first: Seconds after the first failure, at the most.
    :param longest: Seconds, at the most, however many failures there were.
    """
    most = min(longest, first * 2.0 ** min(failures - 1, 20))
    return random.uniform(most / 2, most)  # noqa: S311 -- spreads load, guards nothing


@dataclass(frozen=True, slots=True)
class Retry:
    """How long and how often a call is repeated while its service is unavailable.

    Only :class:`~airflow_provider_jobapi.exceptions.ServiceUnavailable` is repeated, so the call must be safe to
    repeat. The service's own Retry-After is kept; where it asks for more time than is left, no further attempt is made.

    :param total: Seconds from the first attempt after which no other begins.
    :param attempts: The most attempts.
    :param longest_wait: Seconds between two attempts, at the most, where the service does not ask for more.
    :param only_if_asked: Whether a failure is repeated only where the service says after how many seconds.
    """

    total: float = 60.0
    attempts: int = 8
    longest_wait: float = 15.0
    only_if_asked: bool = False

    @classmethod
    def lasting(cls, seconds: float) -> Retry:
        """A retry that is limited by its time, not by its attempts.

        :param seconds: From the first attempt.
        """
        return cls(total=seconds, attempts=8 + int(seconds / 3))

    def call(self, work: Callable[[], Result], log: logging.Logger | None = None) -> Result:
        """Call a function until it succeeds.

        :param log: Gets one line for each failed attempt that is repeated.
        :raises ServiceUnavailable: from the last attempt.
        """
        from tenacity import Retrying

        return Retrying(sleep=sleep, **self._options(log))(work)

    async def call_async(self, work: Callable[[], Awaitable[Result]], log: logging.Logger | None = None) -> Result:
        """Call a coroutine function until it succeeds; like :meth:`call` otherwise."""
        from tenacity import AsyncRetrying

        async def once() -> Result:  # tenacity awaits only what it knows for a coroutine function, so no lambda
            return await work()

        return await AsyncRetrying(sleep=sleep_async, **self._options(log))(once)

    def _options(self, log: logging.Logger | None) -> dict[str, Any]:
        from tenacity import retry_if_exception, stop_after_attempt, stop_before_delay

        attempts = self.attempts
        if _testing is not None and _testing.attempts is not None:
            attempts = min(attempts, _testing.attempts)
        return {
            "wait": self._wait,
            "stop": stop_after_attempt(attempts) | stop_before_delay(self.total),
            "retry": retry_if_exception(self._is_repeated),
            "before_sleep": None if log is None else lambda state: _log_failure(log, state),
            "reraise": True,
        }

    def _wait(self, state: RetryCallState) -> float:
        error = None if state.outcome is None else state.outcome.exception()
        asked = error.retry_after if isinstance(error, ServiceUnavailable) else None
        if asked is not None:
            return max(asked, SHORTEST_WAIT)
        return backoff(state.attempt_number, longest=self.longest_wait)

    def _is_repeated(self, error: BaseException) -> bool:
        return isinstance(error, ServiceUnavailable) and (error.retry_after is not None or not self.only_if_asked)


def _log_failure(log: logging.Logger, state: RetryCallState) -> None:
    if state.outcome is not None and state.next_action is not None:
        log.info(f"{state.outcome.exception()} Trying again in {state.next_action.sleep:.1f} seconds.")


class Outage:
    """Tracks whether a service answers, for a loop that follows a job.

    One message says that contact is lost, and one that it is back. Between them one more says where the service refuses
    the connection: that is for the user to correct, and a network that failed before would hide it.

    :param patience: Seconds without a good answer after which the loop should give up.
    :param warn: Writes one line into the task's log.
    :param longest_wait: Seconds between two attempts, at the most; by default as long as the service asks for.
    """

    def __init__(self, patience: float, warn: Callable[[str], object], *, longest_wait: float = float("inf")) -> None:
        self._patience = patience
        self._warn = warn
        self._longest_wait = longest_wait
        self._began_at: float | None = None
        self._failures = 0
        self._refusal_said = False

    def failed(self, error: Exception) -> float | None:
        """Note a failure.

        :returns: Seconds to wait before the next attempt; None when the patience is over.
        """
        now = time.monotonic()
        if self._began_at is None:
            self._began_at = now
            self._warn(
                f"Contact with the job service is lost: {describe(error)} Trying again for {self._patience:g} seconds."
            )
        elif isinstance(error, ConnectionProblem) and not self._refusal_said:
            self._warn(f"Contact with the job service is still lost, now for another reason: {describe(error)}")
        self._refusal_said = self._refusal_said or isinstance(error, ConnectionProblem)
        self._failures += 1
        left = self._began_at + self._patience - now
        if left <= 0:
            return None
        return min(left, self._longest_wait, TESTING_WAIT if is_testing() else self._wait(error))

    def _wait(self, error: Exception) -> float:
        asked = error.retry_after if isinstance(error, ServiceUnavailable) else None
        return backoff(self._failures) if asked is None else max(asked, FIRST_WAIT)

    def succeeded(self) -> None:
        """Note a good answer."""
        if self._began_at is not None:
            seconds = time.monotonic() - self._began_at
            self._warn(f"Contact with the job service is back after {seconds:.0f} seconds.")
        self._began_at = None
        self._failures = 0
        self._refusal_said = False
