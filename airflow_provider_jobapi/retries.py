# SPDX-License-Identifier: Apache-2.0
"""The retry policy of this provider, ready to be given to a task: ``retry_policy=training_retry_policy()``."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow.sdk import RetryPolicy, RetryRule


def training_retry_policy(*rules: RetryRule) -> RetryPolicy:
    """The ``retry_policy`` for the tasks of this provider, on Airflow 3.3 or newer.

    :param rules: Rules of your own, which win over :func:`~airflow_provider_jobapi.training.waits.wait_after`.
    :raises RuntimeError: on an Airflow without retry policies.
    """
    try:
        from airflow_provider_jobapi._retry_policy import TrainingRetryPolicy
    except ImportError:
        from airflow import __version__

        raise RuntimeError(
            f"Retry policies came with Airflow 3.3, and this is {__version__}: leave retry_policy out, and retries and "
            "retry_delay hold for every error that is tried again."
        ) from None
    return TrainingRetryPolicy(list(rules))
