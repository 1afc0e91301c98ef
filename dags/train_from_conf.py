# SPDX-License-Identifier: Apache-2.0
"""Train what the run's configuration says, in the words of the jobAPI.

For example ``{"jobName": "wide", "env": [{"name": "WIDTH", "value": 256}], "completionTime": "2h",
"resources": {"cpus": 2, "gpus": 0, "memory": 4096}, "data_input": {"rows/digits.csv": "0,0,5,13,…"}}``.
"""

from __future__ import annotations

from airflow.sdk import dag

from airflow_provider_jobapi.operators.training import SubmitTrainingOperator


@dag(schedule=None, tags=["jobapi"])
def train_from_conf():
    SubmitTrainingOperator(
        task_id="train",
        script="scripts/digits.py",
        requirements="tensorflow-cpu==2.21.0",
        config="{{ dag_run.conf | tojson }}",
        deferrable=True,
    )


train_from_conf()
