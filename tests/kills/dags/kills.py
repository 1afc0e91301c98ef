# SPDX-License-Identifier: Apache-2.0
"""The DAGs of the kill matrix: each run says by its configuration what the training does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG

from airflow_provider_jobapi.operators.model import FetchSavedModelOperator
from airflow_provider_jobapi.operators.training import SubmitTrainingOperator

CONNECTIONS = (
    "plain",
    "other_dialect",
    "ahead",
    "behind",
    "refused",
    "reset",
    "hole",
    "busy",
    "gateway",
    "loris",
    "lasting",
    "expiring",
    "rotated",
    "lost",
    "submitting",
    *(f"way_{number}" for number in range(1, 5)),
)
"""Each network fault has a connection of its own, ``kills_<fault>``, and so a DAG."""

COMMON = {
    "script": "numbered.py",
    "job_name": "{{ dag_run.conf['name'] }}",
    "env": "{{ dag_run.conf['env'] | tojson }}",
    "job_resources": "{{ dag_run.conf.get('resources', {}) | tojson }}",
    "data_input": "{{ dag_run.conf.get('data', {}) | tojson }}",
    "completion_time": "1h",
    "retries": 2,
    "retry_delay": timedelta(seconds=1),
    "patience": 300,
    "deferrable": True,
}

for name in CONNECTIONS:
    with DAG(f"kills_{name}", schedule=None, max_active_runs=50):
        SubmitTrainingOperator(task_id="train", conn_id=f"kills_{name}", **COMMON)

with DAG("kills_wrong", schedule=None):
    SubmitTrainingOperator(task_id="train", conn_id="kills_wrong", **COMMON | {"patience": 8, "retries": 0})

# While Airflow's API server is away each start of a try fails, within seconds.
with DAG("kills_outage_inline", schedule=None):
    SubmitTrainingOperator(task_id="train", conn_id="kills_plain", **COMMON | {"deferrable": False, "retries": 100})

with DAG("kills_outage", schedule=None):
    SubmitTrainingOperator(task_id="train", conn_id="kills_way_1", **COMMON | {"retries": 100})

with DAG("kills_noisy", schedule=None):
    SubmitTrainingOperator(task_id="train", conn_id="kills_plain", **COMMON | {"script": "noisy.py"})

with DAG("kills_timeout", schedule=None):
    SubmitTrainingOperator(task_id="train", conn_id="kills_plain", timeout=8, **COMMON | {"retries": 0})

with DAG("kills_execution_timeout", schedule=None):
    SubmitTrainingOperator(
        task_id="train", conn_id="kills_plain", execution_timeout=timedelta(seconds=12), **COMMON | {"retries": 0}
    )

with DAG("kills_slow_retry", schedule=None):
    SubmitTrainingOperator(
        task_id="train", conn_id="kills_plain", **COMMON | {"retry_delay": timedelta(minutes=10), "retries": 1}
    )

with DAG("kills_fetch", schedule=None):
    train = SubmitTrainingOperator(task_id="train", conn_id="kills_plain", **COMMON)
    FetchSavedModelOperator(
        task_id="fetch",
        conn_id="kills_plain",
        job=train.output,
        destination="{{ dag_run.conf['models'] }}",
        version="1",
        retries=100,  # the fault lasts until the test has seen it
        retry_delay=timedelta(seconds=1),
    )

with DAG("kills_fetch_itself", schedule=None):
    SubmitTrainingOperator(
        task_id="train",
        conn_id="kills_plain",
        destination="{{ dag_run.conf['models'] }}",
        version="1",
        **COMMON | {"retries": 100},
    )

with DAG("kills_mapped", schedule=None, max_active_tasks=64):
    SubmitTrainingOperator.partial(
        task_id="train",
        conn_id="kills_plain",
        max_active_tis_per_dag=64,
        **{k: v for k, v in COMMON.items() if k != "env"},
    ).expand(env=[{"LINES": str(3 * number + 3), "BURST": str(number + 1)} for number in range(50)])

with DAG(
    "kills_backfill", schedule="@daily", start_date=datetime(2026, 1, 1, tzinfo=UTC), catchup=False, max_active_runs=16
):
    SubmitTrainingOperator(
        task_id="train",
        conn_id="kills_plain",
        **COMMON | {"job_name": "backfill-{{ ds }}", "env": {"LINES": "20"}, "job_resources": None, "data_input": None},
    )
