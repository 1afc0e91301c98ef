# SPDX-License-Identifier: Apache-2.0
"""The DAG whose trigger rows, XComs and log lines are recorded."""

from __future__ import annotations

from airflow.sdk import DAG

from airflow_provider_jobapi.operators.saved_model import FetchSavedModelOperator
from airflow_provider_jobapi.operators.training import SubmitTrainingOperator
from airflow_provider_jobapi.sensors.training import TrainingSensor

COMMON = {
    "script": "scripts/recorded.py",
    "image": "tensorflow/tensorflow:2.21.0",
    "completion_time": "1h",
    "job_resources": {"cpus": 1, "memory": 256},
}

with DAG("recorded", schedule=None):
    train = SubmitTrainingOperator(
        task_id="train",
        deferrable=True,
        env={"STEPS": 12, "PAUSE": 1},
        data_input={"rows.csv": "a,b\n1,2\n"},
        destination="{{ dag_run.conf['models'] }}",
        version="7",
        **COMMON,
    )
    FetchSavedModelOperator(task_id="fetch", job=train.output, destination="{{ dag_run.conf['models'] }}", version="8")
    TrainingSensor(task_id="watch", job=train.output, deferrable=True, timeout=3600)
    SubmitTrainingOperator(
        task_id="inline",
        deferrable=False,
        env={"STEPS": 3},
        metric_definitions=[{"name": "measured", "regex": "loss is ([0-9.]+)"}],
        **COMMON,
    )
    SubmitTrainingOperator.partial(task_id="mapped", deferrable=True, timeout=3600, **COMMON).expand(
        env=[{"STEPS": 1}, {"STEPS": 2}]
    )
