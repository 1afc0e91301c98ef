# SPDX-License-Identifier: Apache-2.0
"""Remove the containers of a station's jobs that ended some days ago, and the copies of data that they hold.

What a job has left can be fetched until then. A record of how it ended stays, so no job runs a second time.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from airflow_provider_jobapi.exceptions import TrainingError
from airflow_provider_jobapi.services.train_container import names
from airflow_provider_jobapi.services.train_container.engine import Engine
from airflow_provider_jobapi.services.train_container.states import ContainerState, read_container

EVERY = 3_600.0
"""Seconds between two looks of a process at the containers of a station."""

MOST = 100
"""Containers that are removed at a time, so that no submit waits for long."""

_looked: dict[tuple[str, str], float] = {}


def is_due(engine: Engine, station: str) -> bool:
    """Whether this process has not looked for a while; if so, it is noted that it does now."""
    key, now = (engine.where, station), time.monotonic()
    if now - _looked.get(key, float("-inf")) < EVERY:
        return False
    _looked[key] = now
    return True


def sweep(
    engine: Engine, station: str, days: float, release: Callable[[ContainerState], None], log: logging.Logger
) -> int:
    """Release the jobs that ended more than so many days ago; returns how many. Errors are logged only.

    :param release: Records how a job ended, and removes its container.
    """
    before, count = datetime.now(UTC) - timedelta(days=days), 0
    try:
        for each in engine.containers(f"{names.STATION}={station}"):
            if each.get("State") != "exited" or count >= MOST:
                continue
            container = read_container(engine.inspect(str(each["Id"])) or {})
            if not is_job(container):
                continue
            if container.ended and container.finished is not None and container.finished < before:
                release(container)
                count += 1
    except TrainingError as error:
        log.warning(f"The containers of station {station!r} that ended long ago cannot be removed: {error}")
    if count:
        log.info(f"Removed {count:,} containers of station {station!r} that ended more than {days:g} days ago.")
    return count


def is_job(container: ContainerState) -> bool:
    """Whether a container is that of a job.

    One that somebody runs of a successor image by hand has the labels of a job as well, but another name.
    """
    job_id = container.labels.get(names.JOB_ID)
    return job_id is not None and container.name == names.container_name(job_id)
