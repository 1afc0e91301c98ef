# SPDX-License-Identifier: Apache-2.0
"""The tests' DAGs: each trains the stub, as the run's configuration says."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from airflow.sdk import DAG, task

from airflow_provider_jobapi.operators.model import FetchModelOperator, FetchSavedModelOperator
from airflow_provider_jobapi.operators.training import SubmitTrainingOperator
from airflow_provider_jobapi.training import jobapi_metrics

STUB = {"script": "scripts/stub.py", "config": "{{ dag_run.conf | tojson }}"}

with DAG("stub", schedule=None):
    train = SubmitTrainingOperator(task_id="train", deferrable=True, **STUB)
    fetch = FetchSavedModelOperator(
        task_id="fetch", job=train.output, destination="{{ dag_run.conf['models'] }}", version="7"
    )

with DAG("stub_any_kind", schedule=None):
    train = SubmitTrainingOperator(task_id="train", deferrable=True, **STUB)
    FetchModelOperator(task_id="fetch", job=train.output, destination="{{ dag_run.conf['models'] }}", version="7")

with DAG("stub_inline", schedule=None):
    SubmitTrainingOperator(task_id="train", deferrable=False, **STUB)

for name, deferrable in (("stub_mapped", True), ("stub_mapped_inline", False)):
    with DAG(name, schedule=None):
        SubmitTrainingOperator.partial(task_id="train", deferrable=deferrable, **STUB).expand(
            job_resources=[{"cpus": 1, "memory": 256}, {"cpus": 1, "memory": 512}]
        )

for name, deferrable in (("stub_timeout", True), ("stub_timeout_inline", False)):
    with DAG(name, schedule=None):
        SubmitTrainingOperator(task_id="train", deferrable=deferrable, timeout=2, **STUB)
        SubmitTrainingOperator(
            task_id="train_airflows_own", deferrable=deferrable, execution_timeout=timedelta(seconds=8), **STUB
        )

with DAG("stub_retry", schedule=None):
    SubmitTrainingOperator(task_id="train", deferrable=True, retries=1, retry_delay=timedelta(seconds=1), **STUB)

for name, deferrable in (("stub_metrics", True), ("stub_metrics_inline", False)):
    with DAG(name, schedule=None):
        SubmitTrainingOperator(
            task_id="train",
            deferrable=deferrable,
            script="scripts/measuring.py",
            config="{{ dag_run.conf | tojson }}",
            data_input={"jobapi_metrics.py": Path(jobapi_metrics.__file__), "rows.csv": "a,b\n1,2\n"},
            retries=1,
            retry_delay=timedelta(seconds=1),
        )

with DAG("stub_data", schedule=None):

    @task
    def rows():
        return {"rows/a.csv": "a,b\r\n{{ 1 }},2\r\n", "train.yaml": "x: 1\n"}

    SubmitTrainingOperator(
        task_id="train",
        deferrable=True,
        script="import pathlib\nfor p in sorted(pathlib.Path().rglob('*.*')): print(p, p.read_bytes())  # {{ {% {#\n",
        data_input=rows(),
    )

for name, deferrable in (("stub_secrets", True), ("stub_secrets_inline", False)):
    with DAG(name, schedule=None):
        SubmitTrainingOperator(
            task_id="train",
            conn_id="stub_secrets",
            deferrable=deferrable,
            script="scripts/telling.py",
            env={"API_TOKEN": "{{ var.value.api_token }}", "DB_PASSWORD": "{{ conn.w.password }}"},
            arguments=["{{ dag_run.conf['gate'] }}", "{{ dag_run.conf['next_gate'] }}"],
        )
