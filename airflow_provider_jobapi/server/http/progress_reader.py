# SPDX-License-Identifier: Apache-2.0
"""Read how far running jobs are from their logs, when somebody asks for their status.

Each request goes on where the last one ended. A job that nobody asks about costs nothing, and all engines are alike,
since their logs are in the same place.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import datetime

from airflow_provider_jobapi.exceptions import BrokenContract
from airflow_provider_jobapi.server.http.log_reader import CHUNK_LIMIT, read_part
from airflow_provider_jobapi.server.http.problems import Problem
from airflow_provider_jobapi.server.store.job_record import Job, JobKey
from airflow_provider_jobapi.server.store.jobs import JobRegistry
from airflow_provider_jobapi.training.logs import parse_records
from airflow_provider_jobapi.training.metrics.progress import Estimate, Progress, with_progress
from airflow_provider_jobapi.training.status import JobState, JobStatus

MOST_BYTES = 8 * 1024 * 1024
"""The most bytes of logs that one request reads. Where there are more, the next request goes on."""

MOST_JOBS = 4_000
"""The most jobs whose progress is remembered, the last asked for."""


@dataclass(eq=False, slots=True)
class _Reading:
    """How far the log of a job is read."""

    submitted: datetime
    progress: Progress
    offset: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    last: Estimate | None = None


class ProgressReader:
    """Reads the progress of running jobs.

    :param registry: The jobs; those that end are forgotten.
    :param most: The most bytes of logs that one request reads.
    """

    def __init__(self, registry: JobRegistry, most: int = MOST_BYTES) -> None:
        self._registry = registry
        self._most = most
        self._lock = threading.Lock()
        self._readings: OrderedDict[JobKey, _Reading] = OrderedDict()
        registry.on_change(self._forget_ended)

    def statuses(self, jobs: list[Job]) -> list[JobStatus]:
        """Return the status objects of jobs, with the progress of those that run."""
        left, statuses = self._most, []
        for job in jobs:
            status = job.status()
            if job.state is JobState.RUNNING and job.storing is None:
                reading = self._reading_of(job)
                left -= self._read(job, reading, left)
                status = with_progress(status, reading.last)
            statuses.append(status)
        return statuses

    def _reading_of(self, job: Job) -> _Reading:
        with self._lock:
            reading = self._readings.get(job.key)
            if reading is None or reading.submitted != job.submitted:
                reading = _Reading(job.submitted, Progress(job.job_file.job.execution.command))
                self._readings[job.key] = reading
            self._readings.move_to_end(job.key)
            while len(self._readings) > MOST_JOBS:
                self._readings.popitem(last=False)
        return reading

    def _read(self, job: Job, reading: _Reading, most: int) -> int:
        """Read the new lines of a job, and return the bytes that were read; none while another request reads them."""
        if most <= 0 or not reading.lock.acquire(blocking=False):
            return 0
        begin = reading.offset
        try:
            complete = self._read_lines(job, reading, begin + most)
            reading.last = reading.progress.estimate(time.time()) if complete else None
        except (Problem, BrokenContract, OSError):  # a log that was cut or removed
            reading.last = None
        finally:
            reading.lock.release()
        return reading.offset - begin

    def _read_lines(self, job: Job, reading: _Reading, end: int) -> bool:
        """Read up to an offset; returns whether that is the end of the log."""
        while True:
            limit = min(CHUNK_LIMIT, end - reading.offset)
            if limit <= 0:
                return False
            part = read_part(job.directory / "log", reading.offset, limit, job.state)
            for line in parse_records(part.body):
                reading.progress.read(line.text, line.time.timestamp())
            reading.offset = part.next_offset
            if reading.offset >= part.size:
                return True

    def _forget_ended(self, key: JobKey) -> None:
        state = self._registry.state(key)
        if state is None or state.ended:
            with self._lock:
                self._readings.pop(key, None)
