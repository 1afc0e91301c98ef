# SPDX-License-Identifier: Apache-2.0
"""The id of a job is derived, never invented: whoever asks again comes to the same job.

A *cycle* is the life of a task instance from one user clear to the next. Within a cycle the first job has generation
0, and every job that failed is followed by one of the next generation. Walking the generations from 0 tells, after
any crash, whether there is a job to adopt or one to submit, without a store of our own.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Protocol

from airflow_provider_jobapi.exceptions import BrokenContract, JobGone, JobNotFound
from airflow_provider_jobapi.training.status import JobState

NAMESPACE = uuid.UUID("6f2d9b0e-53b5-5c8e-9d0f-6a1f2f6f0c1a")
"""Our own namespace of version 5 UUIDs. It must never change: jobs are found again by it."""

GENERATIONS = 1_000
"""The longest walk; a service that calls every id used is broken."""


class Generations(Protocol):
    """What has a job of every generation."""

    def job_id(self, generation: int) -> str:
        """The id of the job of this generation."""


@dataclass(frozen=True, slots=True)
class Content:
    """What tells one job from every other where there is no task: whose it is, and what it is made of.

    :ivar client_id: The client that submits it.
    :ivar digest: The SHA-256 of the canonical job file, which names the SHA-256 of each input.
    """

    client_id: str
    digest: str

    def job_id(self, generation: int) -> str:
        """The id of the job of this generation."""
        return _id_of(["content", self.client_id, self.digest, generation])


@dataclass(frozen=True, slots=True)
class Cycle:
    """What tells one cycle from every other, on this Airflow and on any other that shares the service.

    ``max_tries`` is written only when a user clears the task, so it names the cycle and no edit of ``retries`` in the
    DAG file changes it. ``run_start`` tells apart two Airflows, and a run that was deleted and made again.
    """

    dag_id: str
    run_id: str
    run_start: datetime | None
    task_id: str
    map_index: int
    max_tries: int

    def job_id(self, generation: int) -> str:
        """The id of the job of this generation."""
        start = None if self.run_start is None else self.run_start.astimezone(UTC).isoformat(timespec="microseconds")
        return _id_of([self.dag_id, self.run_id, start, self.task_id, self.map_index, self.max_tries, generation])

    def earlier(self) -> Iterator[Cycle]:
        """The cycles that a clear may have ended before this one.

        A clear sets ``max_tries`` to the tries so far plus ``retries``, so it only grows (unless ``retries`` was
        lowered).
        """
        return (replace(self, max_tries=tries) for tries in range(self.max_tries))


def _id_of(key: list[object]) -> str:
    return str(uuid.uuid5(NAMESPACE, json.dumps(key, ensure_ascii=False, separators=(",", ":"))))


@dataclass(frozen=True, slots=True)
class Place:
    """Where the walk ended: the job to submit (``state`` is None) or to adopt."""

    generation: int
    job_id: str
    state: JobState | None


def walk(cycle: Generations, look_up: Callable[[str], JobState]) -> Place:
    """Walk the generations of a cycle to the job that this try is about.

    :param cycle: The cycle of the task instance, or the content of a job without one.
    :param look_up: Tells a job's state by its id, and STOPPED for one that is being stopped; raises
        :class:`JobNotFound` for an id that was never used and :class:`JobGone` for one whose job is gone.
    :raises BrokenContract: when no id is free, which no honest service says.
    """
    for generation in range(GENERATIONS):
        job_id = cycle.job_id(generation)
        try:
            state = look_up(job_id)
        except JobNotFound:
            return Place(generation, job_id, None)
        except JobGone:
            continue
        if state is JobState.SUCCESSFUL or not state.ended:
            return Place(generation, job_id, state)
    raise BrokenContract(
        f"The service calls {GENERATIONS} job ids of this task used and failed; that cannot be true. "
        "Check that the connection points to a jobAPI."
    )
