# SPDX-License-Identifier: Apache-2.0
"""Train with scikit-learn, epoch by epoch, and fetch the joblib file.

Needs ``scripts/`` and ``rows/`` beside it, and the connection ``jobapi_default``.

A retry continues after the last whole epoch. The model is a pickle: whoever loads it runs what is in it.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from airflow.sdk import dag

from airflow_provider_jobapi.operators.training import SubmitTrainingOperator


@dag(schedule=None, params={"epochs": 20, "models": f"file://{Path.home()}/models/sklearn"}, tags=["jobapi"])
def train_sklearn():
    SubmitTrainingOperator(
        task_id="train",
        script="scripts/sklearn_digits.py",
        requirements="scikit-learn==1.7.2",
        env={"EPOCHS": "{{ params.epochs }}"},
        data_input=[Path("rows/*.csv")],
        destination="{{ params.models }}",
        config="{{ dag_run.conf | tojson }}",
        retries=2,
        retry_delay=timedelta(minutes=1),
        deferrable=True,
    )


train_sklearn()
