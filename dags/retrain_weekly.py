# SPDX-License-Identifier: Apache-2.0
"""Train a new version each week on all rows known by then.

Needs ``scripts/`` and ``rows/`` beside it, and the connection ``jobapi_default``. A file of rows has the name of a day.

A run that is late, by a backfill or a catch-up, trains on what was known in its own week and writes that week's
version: what the week itself would have given. TensorFlow Serving, which takes the highest version, is not set back.
With Airflow 3.2 and later each week is a partition. A run that takes longer than half a day raises an alert.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from airflow.sdk import Asset, ObjectStoragePath, dag, task
from airflow.sdk.definitions.deadline import AsyncCallback, DeadlineAlert, DeadlineReference

from airflow_provider_jobapi.alerts import slow_training
from airflow_provider_jobapi.operators.model import FetchSavedModelOperator
from airflow_provider_jobapi.operators.training import SubmitTrainingOperator

try:
    from airflow.sdk import CronPartitionTimetable

    weekly = CronPartitionTimetable("0 0 * * 0", timezone="UTC", key_format="%Y-%m-%d")
except ImportError:  # before Airflow 3.2
    weekly = "@weekly"

too_slow = DeadlineAlert(
    reference=DeadlineReference.DAGRUN_QUEUED_AT, interval=timedelta(hours=12), callback=AsyncCallback(slow_training)
)


@dag(
    schedule=weekly,
    start_date=datetime(2026, 1, 4, tzinfo=UTC),
    max_active_runs=1,
    params={"rows": f"file://{Path(__file__).parent}/rows", "models": f"file://{Path.home()}/models/weekly"},
    deadline=too_slow,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=5)},
    tags=["jobapi"],
)
def retrain_weekly():
    @task(retries=0)
    def rows_until_then(params, dag_run):
        """The files of days, named like 2026-01-04.csv, that were complete when the week began."""
        week = getattr(dag_run, "partition_key", None) or f"{dag_run.run_after:%Y-%m-%d}"
        days = sorted(ObjectStoragePath(params["rows"]).glob("*.csv"))
        known = {f"rows/{day.name}": day for day in days if day.stem < week}
        if not known:
            raise FileNotFoundError(
                f"No file with the name of a day before {week}, such as 2026-01-01.csv, is in {params['rows']}: name a "
                "folder with such files as the param 'rows'."
            )
        return known

    train = SubmitTrainingOperator(
        task_id="train",
        script="scripts/digits.py",
        requirements="tensorflow-cpu==2.21.0",
        data_input=rows_until_then(),
        config="{{ dag_run.conf | tojson }}",
        timeout=timedelta(days=1),
        deferrable=True,
    )
    FetchSavedModelOperator(
        task_id="fetch",
        job=train.output,
        destination="{{ params.models }}",
        version="{{ dag_run.partition_key | default(dag_run.run_after | ds, true) | replace('-', '') }}",
        outlets=[Asset("digits_of_the_week")],
    )


retrain_weekly()
