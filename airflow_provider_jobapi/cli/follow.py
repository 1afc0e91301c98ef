# SPDX-License-Identifier: Apache-2.0
"""Follow a job in a terminal, with the loop that the trigger uses."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from airflow_provider_jobapi.services.follow import follow as follow_job

if TYPE_CHECKING:
    from airflow_provider_jobapi.services.base import LogFollower
    from airflow_provider_jobapi.training.logs import LogChunk


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
