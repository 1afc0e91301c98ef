# SPDX-License-Identifier: Apache-2.0
"""Train when new rows come, and put the model into service only if it is better than the one that is there.

Needs ``scripts/`` and ``rows/`` beside it, and the connection ``jobapi_default``. ``ROWS`` is the folder or bucket into
which rows come: name your own.

Both are measured on the same held-out rows, by the training job itself, so that no worker needs the model's framework:
the script prints ``candidate_accuracy`` and ``in_service_accuracy``, and the result of the training has them. So the
model may be of any kind. The one in service is the highest version in ``<models>/serving``, which is what TensorFlow
Serving loads.
"""

from __future__ import annotations

from pathlib import Path

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import Asset, AssetWatcher, ObjectStoragePath, dag, task

from airflow_provider_jobapi.operators.model import FetchModelOperator
from airflow_provider_jobapi.operators.training import SubmitTrainingOperator
from airflow_provider_jobapi.triggers.new_data import NewDataTrigger

ROWS = f"file://{Path(__file__).parent}/rows"
new_rows = Asset("new_rows", watchers=[AssetWatcher(name="rows", trigger=NewDataTrigger(ROWS, pattern="*.csv"))])
digits_in_service = Asset("digits_in_service")


@dag(
    schedule=[new_rows],
    max_active_runs=1,
    params={"rows": ROWS, "models": f"file://{Path.home()}/models/digits", "approval": False},
    tags=["jobapi"],
)
def retrain_on_new_data():
    @task
    def files(params):
        """All rows, and the model in service to compare with."""
        rows = {f"rows/{file.name}": file for file in ObjectStoragePath(params["rows"]).glob("*.csv")}
        if not rows:
            raise FileNotFoundError(f"No *.csv is in {params['rows']}: name a folder with rows as the param 'rows'.")
        serving = ObjectStoragePath(params["models"]) / "serving"
        there = {each.name for each in serving.iterdir()} if serving.exists() else set()
        # In a bucket, a version that has a claim beside it is still being written.
        versions = [name for name in there if name.isdigit() and f".{name}.claim" not in there]
        if not versions:
            return rows
        newest = serving / max(versions, key=int)
        served = [file for file in newest.rglob("*") if file.is_file()]
        return rows | {f"in_service/{file.relative_to(newest)}": file for file in served}

    @task.branch
    def compare(result, params):
        """Goes on only when the new model is the better one; at equal quality the old one stays."""
        measured = result["metrics"]
        candidate, in_service = (measured.get(f"{name}_accuracy") for name in ("candidate", "in_service"))
        print(f"Right on the held-out rows: {candidate}; the model in service: {in_service}")
        if candidate is None:
            raise ValueError(
                "The result has no metric 'candidate_accuracy': let the script print candidate_accuracy=…."
            )
        if in_service is not None and candidate <= in_service:
            return []
        return "approve" if params["approval"] else "promote"

    train = SubmitTrainingOperator(
        task_id="train",
        script="scripts/measured_digits.py",
        requirements="tensorflow-cpu==2.21.0",
        data_input=files(),
        config="{{ dag_run.conf | tojson }}",
        deferrable=True,
    )
    fetch = FetchModelOperator(task_id="fetch", job=train.output, destination="{{ params.models }}/candidates")
    approve = ApprovalOperator(
        task_id="approve", subject="Put {{ task_instance.xcom_pull(task_ids='fetch') }} into service?"
    )
    promote = FetchModelOperator(
        task_id="promote",
        job=train.output,
        destination="{{ params.models }}/serving",
        outlets=[digits_in_service],
        trigger_rule="none_failed_min_one_success",
    )
    fetch >> compare(train.output) >> [approve, promote]
    approve >> promote


retrain_on_new_data()
