# SPDX-License-Identifier: Apache-2.0
"""The retry policy itself, which only Airflow 3.3 and newer can import; see :mod:`airflow_provider_jobapi.retries`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import ExceptionRetryPolicy, RetryDecision

from airflow_provider_jobapi.training.waits import wait_after

if TYPE_CHECKING:
    from airflow.sdk import Context


class TrainingRetryPolicy(ExceptionRetryPolicy):
    """The rules of the DAG's author; where none of them matches, what
    :func:`~airflow_provider_jobapi.training.waits.wait_after` says.
    """

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Context | None = None
    ) -> RetryDecision:
        """How long to wait before the next try; ``retries`` alone says how many there are."""
        if any(rule.matches(exception) for rule in self.rules):
            return super().evaluate(exception, try_number, max_tries, context)
        wait = wait_after(exception)
        return RetryDecision.default() if wait is None else RetryDecision.retry(wait.delay, wait.reason)
