# SPDX-License-Identifier: Apache-2.0
"""Follow a job in a terminal, with the loop that the trigger uses."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from airflow_provider_jobapi.services.follow import follow as follow_job
from airflow_provider_jobapi.training.metrics.progress import Progress

if TYPE_CHECKING:
    from airflow_provider_jobapi.services.base import LogFollower
    from airflow_provider_jobapi.training.logs import LogChunk, LogLine


async def follow(
    make_follower: Callable[[], LogFollower],
    cursor: Any,
    show: Callable[[LogChunk], None],
    *,
    patience: float,
    warn: Callable[[str], None],
) -> None:
    """Show a job's log until the job is over and its log complete.

    :param cursor: Where to begin; None for the beginning.
    :param show: Takes what each read brought.
    :param patience: Seconds for which a service that does not answer is waited for.
    :param warn: Called when the service stops to answer, and when it answers again.
    :raises TrainingError: the last error, when the patience is over, and one that no waiting cures.
    """

    async def open_follower() -> LogFollower:
        return make_follower()

    async def start(_: LogFollower) -> Any:
        return cursor

    async def take(chunk: LogChunk, _: LogFollower) -> None:
        show(chunk)

    followed = await follow_job(open_follower, start=start, take=take, patience=patience, warn=warn, fail_early=True)
    if followed.error is not None:
        raise followed.error


class Milestones:
    """Says how far a job is that is followed: at each tenth, at most once a minute.

    :param whole: Whether its log is followed from the beginning.
    :param clock: Seconds, from any start.
    """

    pause = 60.0
    """Seconds from one sentence to the next at least, and to the first one."""

    def __init__(self, *, whole: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._progress = Progress(whole=whole)
        self._clock = clock
        self._next = clock() + self.pause
        self._said = 0

    def read(self, lines: Iterable[LogLine], came: float | None = None) -> str | None:
        """Read the next lines; returns how far the job is, such as ``45 %, about 12 min left``, where that is due."""
        written = None
        for line in lines:
            written = line.time.timestamp() if came is None else came
            self._progress.read(line.text, written)
        estimate = None if written is None else self._progress.estimate(written)
        if estimate is None or self._clock() < self._next:
            return None
        tenth = int(estimate.progress * 10)
        if tenth <= self._said or estimate.progress >= 1:
            return None
        self._said, self._next = tenth, self._clock() + self.pause
        return str(estimate)
