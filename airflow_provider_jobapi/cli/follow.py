# SPDX-License-Identifier: Apache-2.0
"""Follows a job in a terminal, with the follower that the triggerer uses."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from airflow_provider_jobapi.exceptions import JobGone, ServiceUnavailable, TrainingError
from airflow_provider_jobapi.services.retry import Outage

if TYPE_CHECKING:
    from airflow_provider_jobapi.services.base import LogFollower
    from airflow_provider_jobapi.training.logs import LogChunk

DRAIN = 30.0
"""Seconds without a line after which the log of a job that is over is taken as complete."""


async def follow(
    follower: LogFollower,
    cursor: Any,
    show: Callable[[LogChunk], None],
    *,
    patience: float,
    tell: Callable[[str], None],
) -> None:
    """Show what comes until the job is over and its log complete.

    Once the service has answered, whatever it says is waited for as long as the patience lasts: while it is restarted,
    a proxy before it may say anything. A read that failed is repeated at the same cursor: no line is lost or doubled.

    :param cursor: Where to begin; None for the beginning.
    :param patience: Seconds.
    :param tell: Told when contact is lost and when it is back.
    :raises TrainingError: the last error, when patience is over, and one that no patience cures.
    """
    outage = Outage(patience, tell)
    answered, ended_at = False, None
    async with follower:
        while True:
            try:
                chunk = await follower.read(cursor)
            except TrainingError as error:
                cured_by_time = isinstance(error, ServiceUnavailable) or (answered and not isinstance(error, JobGone))
                pause = outage.failed(error) if cured_by_time else None
                if pause is None:
                    raise
                await asyncio.sleep(pause)
                continue
            outage.succeeded()
            answered = True
            show(chunk)
            cursor = chunk.cursor
            if chunk.complete:
                return
            # A service that never calls a log complete must not hold us.
            ended_at = (ended_at or time.monotonic()) if _is_quiet_end(chunk) else None
            if ended_at is not None and time.monotonic() - ended_at > DRAIN:
                return


def _is_quiet_end(chunk: LogChunk) -> bool:
    return chunk.state is not None and chunk.state.ended and not chunk.lines
