# SPDX-License-Identifier: Apache-2.0
"""Train a model on the job service, fetch its SavedModel, and check it on rows that it has never seen.

Needs ``scripts/`` beside it, and the connection ``jobapi_default``.
"""

from __future__ import annotations

from pathlib import Path

from airflow.sdk import dag, task

from airflow_provider_jobapi.operators.model import FetchSavedModelOperator
from airflow_provider_jobapi.operators.training import SubmitTrainingOperator

TENSORFLOW = "tensorflow-cpu==2.21.0"


@dag(schedule=None, params={"models": f"file://{Path.home()}/models/digits"}, tags=["jobapi"])
def train_and_fetch():
    @task.virtualenv(requirements=["scikit-learn==1.7.2"], multiple_outputs=True)
    def prepare():
        """1,797 handwritten digits, which ship inside scikit-learn; a tenth is held out."""
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        digits = load_digits()
        lines = [
            ",".join(f"{value:.0f}" for value in (*pixels, digit))
            for pixels, digit in zip(digits.data, digits.target, strict=True)
        ]
        training, held_out = train_test_split(lines, test_size=0.1, random_state=1, stratify=digits.target)
        return {"training": {"rows/digits.csv": "\n".join(training)}, "held_out": "\n".join(held_out)}

    @task.virtualenv(requirements=[TENSORFLOW])
    def evaluate(model: str, held_out: str) -> dict[str, float]:
        import numpy as np
        import tensorflow as tf

        rows = np.loadtxt(held_out.splitlines(), delimiter=",")
        pixels, digits = rows[:, :64].astype("float32"), rows[:, 64].astype(int)
        classifier = tf.saved_model.load(model)
        guesses = np.argmax(classifier.serve(pixels), axis=1)
        accuracy = float((guesses == digits).mean())
        majority = float(np.bincount(digits).max() / len(digits))
        print(f"Held-out accuracy: {accuracy:.1%}. Always guessing the commonest digit: {majority:.1%}.")
        if accuracy <= majority:
            raise ValueError("The model has learned nothing.")
        return {"accuracy": accuracy, "majority": majority}

    data = prepare()
    train = SubmitTrainingOperator(
        task_id="train",
        script="scripts/digits.py",
        env=[{"name": "EPOCHS", "value": 20}],
        requirements=TENSORFLOW,
        job_resources={"cpus": 1, "gpus": 0, "memory": 4096},
        data_input=data["training"],
        deferrable=True,
    )
    fetch = FetchSavedModelOperator(task_id="fetch", job=train.output, destination="{{ params.models }}")
    evaluate(fetch.output, data["held_out"])


train_and_fetch()
