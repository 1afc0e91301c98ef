# SPDX-License-Identifier: Apache-2.0
"""A DAG that a test edits while its task is deferred."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG

from airflow_provider_jobapi.operators.training import SubmitTrainingOperator

with DAG("kills_edited", schedule=None):
    SubmitTrainingOperator(
        task_id="train",
        conn_id="kills_plain",
        script="numbered.py",
        job_name="{{ dag_run.conf['name'] }}",
        env="{{ dag_run.conf['env'] | tojson }}",
        deferrable=True,
        retries=1,
        retry_delay=timedelta(seconds=1),
    )
