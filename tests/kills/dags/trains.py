# SPDX-License-Identifier: Apache-2.0
"""The DAGs of the kill matrix whose training is a train in a container; ``kills.py`` has the others."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG

from airflow_provider_jobapi.operators.train_container import RunTrainOperator
from airflow_provider_jobapi.operators.training import SubmitTrainingOperator

COMMON = {
    "image": "localhost/numbered:1",
    "job_name": "{{ dag_run.conf['name'] }}",
    "env": "{{ dag_run.conf['env'] | tojson }}",
    "completion_time": "1h",
    "retries": 2,
    "retry_delay": timedelta(seconds=1),
    "patience": 300,
    "deferrable": True,
}

for name in ("plain", *(f"way_{number}" for number in range(1, 5))):
    with DAG(f"trains_{name}", schedule=None, max_active_runs=50):
        SubmitTrainingOperator(task_id="train", conn_id=f"kills_{name}", **COMMON)

for number in range(1, 5):
    with DAG(f"trains_whole_{number}", schedule=None):
        RunTrainOperator(
            task_id="train",
            conn_id=f"kills_way_{number}",
            repository="{{ dag_run.conf['repository'] }}",
            tags=["{{ dag_run.conf['name'] }}"],
            **COMMON | {"image": "localhost/whole:1"},
        )

with DAG("trains_timeout", schedule=None):
    SubmitTrainingOperator(task_id="train", conn_id="kills_plain", timeout=8, **COMMON | {"retries": 0})

with DAG("trains_execution_timeout", schedule=None):
    SubmitTrainingOperator(
        task_id="train", conn_id="kills_plain", execution_timeout=timedelta(seconds=12), **COMMON | {"retries": 0}
    )
