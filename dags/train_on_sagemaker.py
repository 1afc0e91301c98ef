# SPDX-License-Identifier: Apache-2.0
"""Train on Amazon SageMaker: the operators of every other training, with the connection of another service.

Needs ``scripts/`` and ``rows/`` beside it, and the connection ``sagemaker_default``, see docs/sagemaker.md.
"""

from __future__ import annotations

from pathlib import Path

from airflow.sdk import ObjectStoragePath, dag, task

from airflow_provider_jobapi.operators.model import FetchSavedModelOperator
from airflow_provider_jobapi.operators.training import SubmitTrainingOperator

SERVICE = "sagemaker_default"


@dag(
    schedule=None,
    params={"rows": f"file://{Path(__file__).parent}/rows", "models": f"file://{Path.home()}/models/digits"},
    tags=["jobapi"],
)
def train_on_sagemaker():
    @task
    def files(params):
        rows = {f"rows/{file.name}": file for file in ObjectStoragePath(params["rows"]).glob("*.csv")}
        if not rows:
            raise FileNotFoundError(f"No *.csv is in {params['rows']}: name a folder with rows as the param 'rows'.")
        return rows

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


train_on_sagemaker()
