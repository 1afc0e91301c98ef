# SPDX-License-Identifier: Apache-2.0
"""Train a folder: a package, a configuration and a requirements.txt, as they lie beside this file.

Needs ``project/`` and ``rows/`` beside it, and the connection ``jobapi_default``.
"""

from __future__ import annotations

from pathlib import Path

from airflow.sdk import dag

from airflow_provider_jobapi.operators.training import SubmitTrainingOperator


@dag(schedule=None, params={"epochs": 30, "models": f"file://{Path.home()}/models/softmax"}, tags=["jobapi"])
def train_folder():
    SubmitTrainingOperator(
        task_id="train",
        source="project",  # train.py of it is run
        arguments={"epochs": "{{ params.epochs }}"},
        data_input=[Path("rows/*.csv")],
        destination="{{ params.models }}",
        deferrable=True,
    )


train_folder()
