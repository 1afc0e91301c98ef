# SPDX-License-Identifier: Apache-2.0
"""Train with PyTorch, and fetch the weights.

Needs ``scripts/`` and ``rows/`` beside it, and the connection ``jobapi_default``.

A retry continues after the last whole epoch. PyPI's torch brings CUDA on Linux, some gigabytes: where the server has an
index of CPU wheels by name (docs/server.md), add ``--extra-index-url`` to the requirements.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from airflow.sdk import dag

from airflow_provider_jobapi.operators.model import FetchModelOperator
from airflow_provider_jobapi.operators.training import SubmitTrainingOperator


@dag(schedule=None, params={"epochs": 10, "models": f"file://{Path.home()}/models/pytorch"}, tags=["jobapi"])
def train_pytorch():
    train = SubmitTrainingOperator(
        task_id="train",
        script="scripts/torch_digits.py",
        requirements=["torch>=2.4", "numpy"],
        env={"EPOCHS": "{{ params.epochs }}"},
        data_input=[Path("rows/*.csv")],
        config="{{ dag_run.conf | tojson }}",
        retries=2,
        retry_delay=timedelta(minutes=1),
        deferrable=True,
    )
    FetchModelOperator(task_id="fetch", job=train.output, kind="torch", destination="{{ params.models }}")


train_pytorch()
