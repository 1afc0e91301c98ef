# SPDX-License-Identifier: Apache-2.0
"""How long to wait before the next try of a training, by its error; as a ``retry_policy`` on Airflow 3.3 and newer.

No retry ever trains twice what runs or has succeeded, so a retry is cheap: it finds the job, or begins the next
generation. An error that no retry can change is an ``AirflowFailException`` on every Airflow: an invalid job, a
completion time that is over, a job that a user stopped, a model that was not written. For all others the task's
``retries`` says how often, and this module how long to wait.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from airflow_provider_jobapi.exceptions import (
    BrokenContract,
    ConnectionProblem,
    JobFailed,
    QuotaReached,
    ServiceUnavailable,
)
from airflow_provider_jobapi.training.status import Reason

if TYPE_CHECKING:
    from airflow.sdk import Context, RetryPolicy, RetryRule

TRANSIENT = timedelta(minutes=1)
"""After an outage, which the task has waited for with its own patience before, or a machine that lost its job."""

CONNECTION = timedelta(minutes=10)
"""While a person corrects the connection or the service; until then, each try costs one request."""

QUOTA = timedelta(hours=1)
"""Until other jobs end, or files are deleted."""


@dataclass(frozen=True, slots=True)
class Wait:
    """How long to wait before the next try, and why."""

    delay: timedelta
    reason: str


def wait_after(error: BaseException) -> Wait | None:
    """How long to wait after an error; None for the task's own ``retry_delay``, as after an error of the script.

    A service that asks for more time by Retry-After gets it.
    """
    reason = error.reason if isinstance(error, JobFailed) else None
    if isinstance(error, ServiceUnavailable):
        delay = max(TRANSIENT, timedelta(seconds=error.retry_after or 0))
        why = "The job service cannot be reached or is busy; the next try goes on with the job, if one was submitted."
        return Wait(delay, why)
    if reason == Reason.LOST:
        return Wait(TRANSIENT, "The job service lost the job; the next try trains again.")
    if isinstance(error, QuotaReached) or reason == Reason.STORAGE_FULL:
        return Wait(QUOTA, "The job service has no room; free some, or ask for more.")
    if isinstance(error, ConnectionProblem):
        return Wait(CONNECTION, "The job service refuses the connection; the next try reads it again.")
    if isinstance(error, BrokenContract):
        return Wait(CONNECTION, "The job service's answer is invalid; check the connection, or ask its operator.")
    return None


def training_retry_policy(*rules: RetryRule) -> RetryPolicy:
    """The ``retry_policy`` for the tasks of this provider, on Airflow 3.3 or newer.

    :param rules: Rules of your own, which win over :func:`wait_after`.
    :raises RuntimeError: on an Airflow without retry policies.
    """
    policy = globals().get("TrainingRetryPolicy")
    if policy is None:
        from airflow import __version__

        raise RuntimeError(
            f"Retry policies came with Airflow 3.3, and this is {__version__}: leave retry_policy out, and retries and "
            "retry_delay hold for every error that is tried again."
        )
    made: RetryPolicy = policy(list(rules))
    return made


try:
    from airflow.sdk import ExceptionRetryPolicy, RetryDecision
except ImportError:  # before Airflow 3.3
    pass
else:

    class TrainingRetryPolicy(ExceptionRetryPolicy):
        """The rules of the DAG's author; where none of them matches, :func:`wait_after`."""

        def evaluate(
            self, exception: BaseException, try_number: int, max_tries: int, context: Context | None = None
        ) -> RetryDecision:
            """How long to wait before the next try; only ``retries`` says how many there are."""
            if any(rule.matches(exception) for rule in self.rules):
                return super().evaluate(exception, try_number, max_tries, context)
            wait = wait_after(exception)
            return RetryDecision.default() if wait is None else RetryDecision.retry(wait.delay, wait.reason)
