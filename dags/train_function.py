# SPDX-License-Identifier: Apache-2.0
"""Train with a function of this file: it is shipped to the job service, with what it uses and its arguments.

Needs the connection ``jobapi_default``.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from airflow.sdk import dag, task

from airflow_provider_jobapi.operators.model import FetchSavedModelOperator

HIDDEN = 64


def network(width: int):
    """Shipped too, since train uses it; so is HIDDEN."""
    import keras

    return keras.Sequential(
        [keras.Input((1,)), keras.layers.Dense(width, activation="relu"), keras.layers.Dense(1)],
    )


@dag(
    schedule=None,
    params={"epochs": 30, "models": f"file://{Path.home()}/models/parabola"},
    default_args={"retries": 2, "retry_delay": timedelta(minutes=5)},
    tags=["jobapi"],
)
def train_function():
    @task
    def rows() -> list[list[float]]:
        return [[x / 50, (x / 50) ** 2] for x in range(-50, 51)]

    @task.training(
        requirements=["tensorflow-cpu==2.21.0"],
        job_resources={"cpus": 1, "gpus": 0, "memory": 4096},
        deferrable=True,
    )
    def train(rows, width=HIDDEN, params=None):
        """Learn a parabola."""
        import os

        import numpy as np

        pairs = np.array(rows)
        model = network(width)
        model.compile("adam", "mse")
        history = model.fit(pairs[:, :1], pairs[:, 1:], epochs=params["epochs"], verbose=2)
        model.export(os.environ["MODEL_DIR"])
        return {"loss": history.history["loss"][-1]}

    FetchSavedModelOperator(task_id="fetch", job=train(rows()), destination="{{ params.models }}")


train_function()
