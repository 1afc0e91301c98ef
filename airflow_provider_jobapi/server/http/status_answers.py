# SPDX-License-Identifier: Apache-2.0
"""Answer with the status of jobs that have not ended from memory, on the event loop.

A job in memory is another object after each change, so a body that was made for this object is still the answer.
"""

from __future__ import annotations

import json
from collections import OrderedDict

from airflow_provider_jobapi.server.http.progress_reader import ProgressReader
from airflow_provider_jobapi.server.store.job_record import Job, JobKey
from airflow_provider_jobapi.server.store.jobs import JobRegistry
from airflow_provider_jobapi.training.status import JobState

MOST_JOBS = 4_000
"""The most jobs whose answers are kept, the last asked for."""


class StatusAnswers:
    """The bodies of the answers of ``GET /api/v2/jobs/{job_id}``. Use it on the event loop only.

    :param progress: Reads the logs of running jobs, which may take long.
    """

    def __init__(self, registry: JobRegistry, progress: ProgressReader, most: int = MOST_JOBS) -> None:
        self._registry = registry
        self._progress = progress
        self._most = most
        self._bodies: OrderedDict[JobKey, tuple[Job, str, bool, bytes]] = OrderedDict()

    def recall(self, key: JobKey) -> bytes | None:
        """Return the body for a job in memory that does not run; None where :meth:`read` must make it.

        It costs one look at the directory of the job, which is gone where its client was removed.
        """
        job = self._registry.active.get(key)
        if job is None or job.state is JobState.RUNNING:
            self._bodies.pop(key, None)
            return None
        if not job.directory.exists():
            return None
        message = self._registry.why_waiting(key) or job.message if job.waits else job.message
        made = not job.waits and job.has_environment
        kept = self._bodies.get(key)
        if kept is not None and kept[0] is job and kept[1:3] == (message, made):
            return kept[3]
        body = encoded(self._registry.explained(job).status().to_wire())
        self._bodies[key] = (job, message, made, body)
        while len(self._bodies) > self._most:
            self._bodies.popitem(last=False)
        return body

    def read(self, key: JobKey) -> bytes:
        """Make the body from the database and the log.

        :raises UnknownJob: when the client never submitted it.
        :raises DeletedJob: when it was deleted.
        """
        (status,) = self._progress.statuses([self._registry.get(*key)])
        return encoded(status.to_wire())


def encoded(content: object) -> bytes:
    """Return JSON as the other routes write it."""
    return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
