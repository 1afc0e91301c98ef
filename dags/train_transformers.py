# SPDX-License-Identifier: Apache-2.0
"""Train a small vision transformer from nothing with the Trainer of transformers, and fetch it as safetensors.

Needs ``scripts/`` and ``rows/`` beside it, and the connection ``jobapi_default``.

A retry continues from the Trainer's last checkpoint. The job downloads no weights and no data.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from airflow.sdk import dag

from airflow_provider_jobapi.operators.model import FetchModelOperator
from airflow_provider_jobapi.operators.training import SubmitTrainingOperator


@dag(schedule=None, params={"epochs": 10, "models": f"file://{Path.home()}/models/transformers"}, tags=["jobapi"])
def train_transformers():
    train = SubmitTrainingOperator(
        task_id="train",
        script="scripts/transformers_digits.py",
        requirements=["transformers[torch]>=4.44", "numpy"],
        env={"EPOCHS": "{{ params.epochs }}"},
        data_input=[Path("rows/*.csv")],
        config="{{ dag_run.conf | tojson }}",
        retries=2,
        retry_delay=timedelta(minutes=1),
        deferrable=True,
    )
    FetchModelOperator(task_id="fetch", job=train.output, kind="safetensors", destination="{{ params.models }}")


train_transformers()
