# SPDX-License-Identifier: Apache-2.0
"""Train what the run's configuration says, in the words of the jobAPI.

Needs ``scripts/`` and ``rows/`` beside it, and the connection ``jobapi_default``. For example,
``{"jobName": "wide", "env": [{"name": "WIDTH", "value": 256}], "completionTime": "2h",
"resources": {"cpus": 2, "gpus": 0, "memory": 4096}, "data_input": {"rows/digits.csv": "0,0,5,13,…"}}``.
"""

from __future__ import annotations

from pathlib import Path

from airflow.sdk import dag

from airflow_provider_jobapi.operators.training import SubmitTrainingOperator

ROWS = Path(__file__).parent / "rows"


@dag(schedule=None, tags=["jobapi"])
def train_from_conf():
    SubmitTrainingOperator(
        task_id="train",
        script="scripts/digits.py",
        requirements="tensorflow-cpu==2.21.0",
        data_input={f"rows/{file.name}": file for file in ROWS.glob("*.csv")},
        config="{{ dag_run.conf | tojson }}",
        deferrable=True,
    )


train_from_conf()
