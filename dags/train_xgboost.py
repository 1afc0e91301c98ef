# SPDX-License-Identifier: Apache-2.0
"""Train with XGBoost, and fetch the model with its version.

Needs ``scripts/`` and ``rows/`` beside it, and the connection ``jobapi_default``.

A retry continues after the last tree that was saved.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from airflow.sdk import dag

from airflow_provider_jobapi.operators.model import FetchModelOperator
from airflow_provider_jobapi.operators.training import SubmitTrainingOperator


@dag(schedule=None, params={"rounds": 30, "models": f"file://{Path.home()}/models/xgboost"}, tags=["jobapi"])
def train_xgboost():
    train = SubmitTrainingOperator(
        task_id="train",
        script="scripts/xgboost_digits.py",
        requirements="xgboost-cpu==3.2.0",
        env={"ROUNDS": "{{ params.rounds }}"},
        data_input=[Path("rows/*.csv")],
        config="{{ dag_run.conf | tojson }}",
        retries=2,
        retry_delay=timedelta(minutes=1),
        deferrable=True,
    )
    FetchModelOperator(task_id="fetch", job=train.output, kind="xgboost", destination="{{ params.models }}")


train_xgboost()
