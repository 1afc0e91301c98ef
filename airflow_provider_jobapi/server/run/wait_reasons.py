# SPDX-License-Identifier: Apache-2.0
"""Say why jobs wait, when somebody asks for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from threading import Lock

from airflow_provider_jobapi.server.run.engines.base import Engine, PlacementRequest
from airflow_provider_jobapi.server.store.checkpoints import held_back
from airflow_provider_jobapi.server.store.job_record import Job, JobKey
from airflow_provider_jobapi.server.store.jobs import JobRegistry

_SHARE = 20
"""The reasons of all waiting jobs are made again only after this many times the time that it took to make them."""


class WaitReasons:
    """The reasons why the waiting jobs of a registry wait, made from memory when they are read.

    Those of thousands of jobs take some ten milliseconds, and may be older than the last change by a second then.

    :param occupying: Returns those of the placed jobs that occupy the engine.
    """

    def __init__(
        self, registry: JobRegistry, engine: Engine, occupying: Callable[[Iterable[Job]], Sequence[Job]]
    ) -> None:
        self._registry = registry
        self._engine = engine
        self._occupying = occupying
        self._lock = Lock()
        self._reasons: Mapping[JobKey, str] = {}
        self._seen: object = None
        self._not_before = 0.0

    def of(self, key: JobKey) -> str | None:
        """Return why a job waits; None where it does not, or where it was submitted just now."""
        with self._lock:
            began = time.monotonic()
            if began >= self._not_before:
                # Read before the jobs, so that no change after it is missed.
                changes = self._registry.active.changes
                placed = self._registry.placed()
                occupying = self._occupying(placed)
                seen = (changes, [job.key for job in occupying])
                if seen != self._seen:
                    self._reasons = self._make(placed, occupying)
                    self._seen = seen
                    now = time.monotonic()
                    self._not_before = now + _SHARE * (now - began)
            return self._reasons.get(key)

    def _make(self, placed: Sequence[Job], occupying: Sequence[Job]) -> Mapping[JobKey, str]:
        waiting = self._registry.waiting()
        held = held_back(waiting, placed)
        free = (PlacementRequest.of(job) for job in waiting if job.key not in held)
        return held | self._engine.admit(map(PlacementRequest.of, occupying), free).waits
