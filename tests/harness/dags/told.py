# SPDX-License-Identifier: Apache-2.0
"""Tasks that tell what a training tells, without one: whatever the run's configuration says, however hostile."""

from __future__ import annotations

import time
from pathlib import Path

from airflow.sdk import DAG, task

from airflow_provider_jobapi.operators.training import SubmitTrainingOperator


def tell(context) -> object:
    """Push XComs, wait for a gate, end as told."""
    conf = context["dag_run"].conf or {}
    for key, value in conf.get("xcoms", {}).items():
        context["ti"].xcom_push(key=key, value=value)
    for line in conf.get("lines", ()):
        print(line)
    while "gate" in conf and not Path(conf["gate"]).exists():
        time.sleep(0.1)
    if "error" in conf:
        raise RuntimeError(conf["error"])
    return conf.get("result")


with DAG("told", schedule=None):

    @task
    def train(**context):
        return tell(context)

    train() >> SubmitTrainingOperator(task_id="after", deferrable=True, script="print('never')")

with DAG("told_mapped", schedule=None):

    @task
    def train(number, **context):
        return tell(context)

    train.expand(number=[1, 2])
