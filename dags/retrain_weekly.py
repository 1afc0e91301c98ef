# SPDX-License-Identifier: Apache-2.0
"""Train a new version each week on all rows known by then.

A run that is late, by a backfill or a catch-up, trains on what was known in its own week and writes that week's
version: what the week itself would have given. TensorFlow Serving, which takes the highest version, is not set back.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from airflow.sdk import ObjectStoragePath, dag, task

from airflow_provider_jobapi.operators.saved_model import FetchSavedModelOperator
from airflow_provider_jobapi.operators.training import SubmitTrainingOperator


@dag(
    schedule="@weekly",
    start_date=datetime(2026, 1, 4, tzinfo=UTC),
    max_active_runs=1,
    params={"rows": f"file://{Path.home()}/rows", "models": f"file://{Path.home()}/models/weekly"},
    default_args={"retries": 2, "retry_delay": timedelta(minutes=5)},
    tags=["jobapi"],
)
def retrain_weekly():
    @task
    def rows_until_then(params, dag_run):
        """The files of days, named like 2026-01-04.csv, that were complete when the run was due."""
        days = sorted(ObjectStoragePath(params["rows"]).glob("*.csv"))
        return {f"rows/{day.name}": day for day in days if day.stem < f"{dag_run.run_after:%Y-%m-%d}"}

    train = SubmitTrainingOperator(
        task_id="train",
        script="scripts/digits.py",
        requirements="tensorflow-cpu==2.21.0",
        data_input=rows_until_then(),
        config="{{ dag_run.conf | tojson }}",
        timeout=timedelta(hours=12),
        deferrable=True,
    )
    FetchSavedModelOperator(
        task_id="fetch",
        job=train.output,
        destination="{{ params.models }}",
        version="{{ dag_run.run_after | ds_nodash }}",
    )


retrain_weekly()
