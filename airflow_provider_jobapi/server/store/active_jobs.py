# SPDX-License-Identifier: Apache-2.0
"""Keep in memory the jobs that have not ended, and the states of jobs, which are asked for all the time."""

from __future__ import annotations

from collections.abc import Iterable
from threading import Lock
from typing import Self

from airflow_provider_jobapi.server.store.job_record import Job, JobKey
from airflow_provider_jobapi.training.status import JobState

_RANK = {state: 2 if state.ended else int(state is JobState.RUNNING) for state in JobState}


class ActiveJobs:
    """The jobs that wait and the jobs that are placed, each in the order of their submission.

    They are loaded once, by the only process that changes them, and kept true by each change, which the registry
    applies in the order of the commits.

    :ivar loaded: Whether they were loaded; the database alone knows the jobs before.
    :ivar changes: How often a job was changed; another number means that it is worth a new look.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._waiting: dict[JobKey, Job] = {}
        self._placed: dict[JobKey, Job] = {}
        self.loaded = False
        self.changes = 0

    def load(self, jobs: Iterable[Job]) -> Self:
        """Begin with the jobs that have not ended, while nothing is committed; returns the object."""
        self._waiting.clear()
        self._placed.clear()
        self.loaded = True
        for job in jobs:
            self.put(job)
        return self

    def put(self, job: Job) -> None:
        """Record a job as it was committed; one that has ended is forgotten."""
        with self._lock:
            self.changes += 1
            if not self.loaded:
                return
            is_placed = not (job.waits or job.state.ended)
            for place, belongs in ((self._waiting, job.waits), (self._placed, is_placed)):
                if belongs:
                    place[job.key] = job
                else:
                    place.pop(job.key, None)

    def get(self, key: JobKey) -> Job | None:
        """Return a job that has not ended, or None. Never blocks."""
        return self._placed.get(key) or self._waiting.get(key)

    def waiting(self) -> list[Job]:
        """Return the jobs that are not placed, in the order of their submission."""
        with self._lock:
            return list(self._waiting.values())

    def placed(self) -> list[Job]:
        """Return the jobs that are placed, in the order of their submission."""
        with self._lock:
            found = list(self._placed.values())
        return sorted(found, key=lambda job: job.number)


class JobStates:
    """The last known states of jobs. States only go forward."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._states: dict[JobKey, JobState] = {}

    def get(self, key: JobKey) -> JobState | None:
        """Return the state of a job, or None where it is not known. Never blocks."""
        return self._states.get(key)

    def begin(self, key: JobKey) -> None:
        """Record a new job. A client of the same name that was removed may have had one of its id."""
        with self._lock:
            self._states[key] = JobState.PENDING

    def remember(self, key: JobKey, state: JobState) -> None:
        """Record a state that was read, maybe a while ago: an older one does not replace a later one."""
        with self._lock:
            if _RANK[state] >= _RANK[self._states.get(key, JobState.PENDING)]:
                self._states[key] = state

    def forget(self, key: JobKey) -> None:
        """Forget a job that was deleted."""
        with self._lock:
            self._states.pop(key, None)
