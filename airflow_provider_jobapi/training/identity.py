# SPDX-License-Identifier: Apache-2.0
"""Derive the id of a job from its task, so that every try finds the job of the tries before.

A *clear cycle* is the life of a task instance from one user clear to the next. Within a cycle the first job has
generation 0, and every job that failed is followed by one of the next generation. Looking up the generations from 0
on shows, after any crash, whether there is a job to adopt or one to submit, without a state store.
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
"""The namespace of the version 5 UUIDs. It must never change: existing jobs are found by it."""

GENERATIONS = 1_000
"""Generations that are looked up at most; a service that says of each that it is used is broken."""


class Generations(Protocol):
    """Anything with a job id for every generation."""

    def job_id(self, generation: int) -> str:
        """Return the id of the job of this generation."""


@dataclass(frozen=True, slots=True)
class Content:
    """Identifies a job that has no task by its client and its content.

    :ivar client_id: The client that submits it.
    :ivar digest: The SHA-256 of the canonical job file, which names the SHA-256 of each input.
    """

    client_id: str
    digest: str

    def job_id(self, generation: int) -> str:
        """Return the id of the job of this generation."""
        return _id_of(["content", self.client_id, self.digest, generation])

    def key(self) -> str:
        """Return what the jobs of all generations have in common."""
        return _id_of(["content", self.client_id, self.digest])


@dataclass(frozen=True, slots=True)
class Cycle:
    """Identifies one clear cycle of a task instance, also among several Airflows that share a service.

    ``max_tries`` is written only when a user clears the task, so it identifies the cycle, and no edit of ``retries`` in
    the DAG file changes it. ``run_start`` distinguishes two Airflows, and a run that was deleted and created again.
    """

    dag_id: str
    run_id: str
    run_start: datetime | None
    task_id: str
    map_index: int
    max_tries: int

    def job_id(self, generation: int) -> str:
        """Return the id of the job of this generation."""
        return _id_of([*self._parts(), generation])

    def key(self) -> str:
        """Return what the jobs of all generations have in common: under it a service keeps their checkpoints."""
        return _id_of(self._parts())

    def _parts(self) -> list[object]:
        start = None if self.run_start is None else self.run_start.astimezone(UTC).isoformat(timespec="microseconds")
        return [self.dag_id, self.run_id, start, self.task_id, self.map_index, self.max_tries]

    def earlier(self) -> Iterator[Cycle]:
        """Return the cycles that a clear may have ended before this one.

        A clear sets ``max_tries`` to the tries so far plus ``retries``, so it only grows (unless ``retries`` was
        lowered).
        """
        return (replace(self, max_tries=tries) for tries in range(self.max_tries))


def _id_of(key: list[object]) -> str:
    return str(uuid.uuid5(NAMESPACE, json.dumps(key, ensure_ascii=False, separators=(",", ":"))))


@dataclass(frozen=True, slots=True)
class Place:
    """The job of this try: to be submitted where ``state`` is None, else to be adopted."""

    generation: int
    job_id: str
    state: JobState | None


def walk(cycle: Generations, look_up: Callable[[str], JobState]) -> Place:
    """Look up the generations of a cycle, from 0 on, until one is free, active or successful.

    :param cycle: The cycle of the task instance, or the content of a job without a task.
    :param look_up: Returns the state of the job of an id, STOPPED for one that is being stopped; raises
        :class:`JobNotFound` for an id that was never used and :class:`JobGone` for one whose job is gone.
    :raises BrokenContract: when the service says of every id that it is used.
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
        f"The service says of {GENERATIONS:,} job ids of this task that their jobs failed, which cannot be true. "
        "Check that the connection's host is the address of the job service."
    )
