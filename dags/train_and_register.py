# SPDX-License-Identifier: Apache-2.0
"""Train with scikit-learn, fetch the model, and register it in MLflow as a version that says where it comes from.

Needs ``scripts/`` and ``rows/`` beside it, and the connections ``jobapi_default`` and ``mlflow_default``.

The model is a joblib file, a pickle: whoever loads it runs what is in it, so its version has a tag that says so.
"""

from __future__ import annotations

from pathlib import Path

from airflow.sdk import dag

from airflow_provider_jobapi.operators.register import RegisterModelOperator
from airflow_provider_jobapi.operators.training import SubmitTrainingOperator

ROWS = Path(__file__).parent / "rows"


@dag(schedule=None, params={"models": f"file://{Path.home()}/models/trees"}, tags=["jobapi"])
def train_and_register():
    train = SubmitTrainingOperator(
        task_id="train",
        script="scripts/trees.py",
        requirements="scikit-learn==1.7.2",
        data_input={f"rows/{file.name}": file for file in ROWS.glob("*.csv")},
        destination="{{ params.models }}",
        config="{{ dag_run.conf | tojson }}",
        deferrable=True,
    )
    RegisterModelOperator(task_id="register", job=train.output, name="digits", alias="candidate")


train_and_register()
