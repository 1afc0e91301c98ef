# SPDX-License-Identifier: Apache-2.0
"""The tests' DAGs of the retry policy, where Airflow has one."""

from __future__ import annotations

from datetime import timedelta

import airflow.sdk
from airflow.sdk import DAG

from airflow_provider_jobapi.exceptions import ConnectionProblem
from airflow_provider_jobapi.operators.training import SubmitTrainingOperator
from airflow_provider_jobapi.retries import training_retry_policy

if hasattr(airflow.sdk, "RetryPolicy"):  # from 3.3 on
    from airflow.sdk import RetryAction, RetryRule

    with DAG("retries", schedule=None, default_args={"script": "scripts/stub.py", "deferrable": True}):
        # As the provider says.
        SubmitTrainingOperator(
            task_id="train",
            conn_id="jobapi_refused",
            retries=5,
            retry_delay=timedelta(seconds=1),
            retry_policy=training_retry_policy(),
        )
        # With a rule of our own.
        SubmitTrainingOperator(
            task_id="train_once",
            conn_id="jobapi_refused",
            retries=5,
            retry_policy=training_retry_policy(
                RetryRule(ConnectionProblem, RetryAction.FAIL, reason="Somebody is on call for this."),
            ),
        )
        # What the policy leaves alone.
        SubmitTrainingOperator(
            task_id="code",
            env={"EXIT": 1, "LINES": 1},
            retries=1,
            retry_delay=timedelta(seconds=1),
            retry_policy=training_retry_policy(),
        )
        SubmitTrainingOperator(
            task_id="invalid",
            job_resources={"memory": "2 GB"},
            retries=5,
            retry_policy=training_retry_policy(),
        )
