# SPDX-License-Identifier: Apache-2.0
"""After which error of a training the next try waits, how long, and for what.

No retry ever trains twice what runs or has succeeded, so a retry is cheap: it finds the job, or begins the next
generation. An error that no retry can cure is an ``AirflowFailException`` already, on every Airflow: a job that cannot
be, a completion time that is over, a job that somebody stopped, a model that was not written. For all others the
task's ``retries`` say how often, and this module says how long to wait.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from airflow_provider_jobapi.exceptions import (
    BrokenContract,
    ConnectionProblem,
    JobFailed,
    QuotaReached,
    ServiceUnavailable,
)
from airflow_provider_jobapi.training.status import Reason

TRANSIENT = timedelta(minutes=1)
"""The task has waited for the service with its own patience before; the machine that lost a job has not."""

CONNECTION = timedelta(minutes=10)
"""Somebody has to put the connection or the service right; until then, each try costs one request."""

QUOTA = timedelta(hours=1)
"""Room becomes free when other jobs end or somebody deletes."""


@dataclass(frozen=True, slots=True)
class Wait:
    """How long to wait before the next try, and why."""

    delay: timedelta
    reason: str


def wait_after(error: BaseException) -> Wait | None:
    """What to wait for after an error; None where the task's own ``retry_delay`` is right, as after a script's error.

    A service that asks for more time by Retry-After gets it.
    """
    reason = error.reason if isinstance(error, JobFailed) else None
    if isinstance(error, ServiceUnavailable):
        delay = max(TRANSIENT, timedelta(seconds=error.retry_after or 0))
        return Wait(delay, "The job service cannot be reached or is busy; the next try goes on with the job.")
    if reason == Reason.LOST:
        return Wait(TRANSIENT, "The job service lost the job; the next try trains anew.")
    if isinstance(error, QuotaReached) or reason == Reason.STORAGE_FULL:
        return Wait(QUOTA, "The job service has no room; free some, or ask for more.")
    if isinstance(error, ConnectionProblem):
        return Wait(CONNECTION, "The job service refuses the connection; the next try reads it again.")
    if isinstance(error, BrokenContract):
        return Wait(CONNECTION, "The job service cannot be understood; check the connection, or tell its operator.")
    return None
