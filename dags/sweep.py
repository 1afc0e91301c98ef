# SPDX-License-Identifier: Apache-2.0
"""Train with many parameters, a few at a time, and keep the best model.

Needs ``scripts/`` and ``rows/`` beside it, and the connection ``jobapi_default``.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path

from airflow.sdk import ObjectStoragePath, dag, task

from airflow_provider_jobapi.operators.model import FetchModelOperator
from airflow_provider_jobapi.operators.training import SubmitTrainingOperator

POOL = "default_pool"
"""The jobAPI server starts as many trainings as it has room for. To bound them in Airflow, name a pool that counts
deferred tasks: ``airflow pools set --include-deferred trainings 2 "trainings at a time"``."""


@dag(
    schedule=None,
    params={
        "widths": [16, 64, 256],
        "epochs": [10, 30],
        "rows": f"file://{Path(__file__).parent}/rows",
        "models": f"file://{Path.home()}/models/sweep",
    },
    tags=["jobapi"],
)
def sweep():
    @task
    def combinations(params):
        return [{"WIDTH": width, "EPOCHS": epochs} for width, epochs in product(params["widths"], params["epochs"])]

    @task
    def files(params):
        rows = {f"rows/{file.name}": file for file in ObjectStoragePath(params["rows"]).glob("*.csv")}
        if not rows:
            raise FileNotFoundError(f"No *.csv is in {params['rows']}: name a folder with rows as the param 'rows'.")
        return rows

    @task(trigger_rule="all_done_min_one_success")
    def best(results):
        """Of the trainings that ended well, the one that was right most often on the held-out rows."""
        return max(results, key=lambda result: result["metrics"]["candidate_accuracy"])

    train = SubmitTrainingOperator.partial(
        task_id="train",
        script="scripts/measured_digits.py",
        requirements="tensorflow-cpu==2.21.0",
        data_input=files(),
        destination="{{ params.models }}/candidates/{{ dag_run.run_after | ts_nodash }}/{{ ti.map_index }}",
        config="{{ dag_run.conf | tojson }}",
        pool=POOL,
        map_index_template="{{ task.env }}",
        deferrable=True,
    ).expand(env=combinations())
    FetchModelOperator(task_id="keep", job=best(train.output), destination="{{ params.models }}/best")


sweep()
