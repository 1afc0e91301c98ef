# SPDX-License-Identifier: Apache-2.0
"""Train on ModelArts: the operators of every other training, with the connection of another service."""

from __future__ import annotations

from pathlib import Path

from airflow.sdk import ObjectStoragePath, dag, task

from airflow_provider_jobapi.operators.model import FetchSavedModelOperator
from airflow_provider_jobapi.operators.training import SubmitTrainingOperator

SERVICE = "modelarts_default"


@dag(
    schedule=None,
    params={"rows": f"file://{Path.home()}/rows", "models": f"file://{Path.home()}/models/digits"},
    tags=["jobapi"],
)
def train_on_modelarts():
    @task
    def files(params):
        return {f"rows/{file.name}": file for file in ObjectStoragePath(params["rows"]).glob("*.csv")}

    train = SubmitTrainingOperator(
        task_id="train",
        conn_id=SERVICE,
        script="scripts/digits.py",
        image="tensorflow/tensorflow:2.1.0",
        data_input=files(),
        config="{{ dag_run.conf | tojson }}",
        deferrable=True,
    )
    FetchSavedModelOperator(task_id="fetch", conn_id=SERVICE, job=train.output, destination="{{ params.models }}")


train_on_modelarts()
