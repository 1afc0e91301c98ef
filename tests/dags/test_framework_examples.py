# SPDX-License-Identifier: Apache-2.0
"""The examples of frameworks run as copied: the curves, the model, and a retry that continues.

Those of torch run under ``JOBAPI_TEST_FRAMEWORKS_PYTHON``, where that names a Python, else under this one.
"""

from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path

import pytest

from airflow_provider_jobapi.exceptions import JobFailed
from airflow_provider_jobapi.training.logs import parse_records
from airflow_provider_jobapi.training.metrics.definitions import Metrics
from tests.harness.python import under
from tests.harness.tries import Task

EXAMPLES = Path(__file__).parents[2] / "dags"
ROWS = {f"rows/{file.name}": file.read_text() for file in (EXAMPLES / "rows").glob("*.csv")}
PYTHON = os.environ.get("JOBAPI_TEST_FRAMEWORKS_PYTHON", sys.executable)
LOST = "\nsys.exit('The machine is lost.')\n"


def steps_of(log: str) -> dict[str, list[float]]:
    """The curves of a log, as a trigger reads them."""
    metrics = Metrics(None, time.thread_time, list)
    for line in parse_records(log.encode()):
        metrics.read(line, line.time.timestamp())
    return {name: curve["steps"] for name, curve in metrics.content("")["metrics"].items()}


def continued(server, example: str, script: str, argument: str, python: str = "") -> tuple[str, dict]:
    """Train with 3, fail, and let a retry train with 5: the log of the retry, and its result."""
    whole = (EXAMPLES / "scripts" / script).read_text()
    broken = whole + LOST
    requirements = re.search(
        r"requirements=[\"\[](.*)[\"\]],$", (EXAMPLES / f"{example}.py").read_text(), re.MULTILINE
    )[1]
    if python:
        whole, broken, requirements = under(python, whole), under(python, broken), ""
    train = Task(script=broken, env={argument: 3}, requirements=requirements, data_input=ROWS)
    with pytest.raises(JobFailed, match="The machine is lost"):
        train.run()
    train.parameters |= {"script": whole, "env": {argument: 5}}
    result = train.run()
    return server.job_log(train.job_id), result


@pytest.mark.slow
def test_train_sklearn(copied, connected, tmp_path):
    run = copied().run("train_sklearn")
    assert run.state == "success"
    result = run.xcom("train")
    steps = [*range(1, 21)]
    assert steps_of(connected.job_log(result["job_id"])) == {"loss": steps, "val_accuracy": steps}
    assert result["metrics"]["val_accuracy"] > 0.85
    assert (result["model_kind"], result["model_unsafe"]) == ("pickle", True)
    assert len([*tmp_path.glob("models/sklearn/*/network.joblib")]) == 1


def test_train_sklearn_continues(connected):
    log, result = continued(connected, "train_sklearn", "sklearn_digits.py", "EPOCHS")
    assert "Continues after 3 epochs." in log
    assert steps_of(log) == {"loss": [4, 5], "val_accuracy": [4, 5]}
    assert (result["model_kind"], result["model_unsafe"]) == ("pickle", True)


@pytest.mark.slow
def test_train_xgboost(copied, connected, tmp_path):
    run = copied().run("train_xgboost")
    assert run.state == "success"
    result = run.xcom("train")
    curves = {f"{part}-{name}" for part in ("train", "validation") for name in ("mlogloss", "merror")}
    assert steps_of(connected.job_log(result["job_id"])) == {each: [*range(30)] for each in curves}
    assert result["metrics"]["validation-merror"] < 0.2
    assert (result["model_kind"], result["model_unsafe"]) == ("xgboost", False)
    assert len([*tmp_path.glob("models/xgboost/*/digits.ubj")]) == 1


def test_train_xgboost_continues(connected):
    log, result = continued(connected, "train_xgboost", "xgboost_digits.py", "ROUNDS")
    assert "Continues after 3 rounds." in log
    assert steps_of(log)["train-mlogloss"] == [3, 4]
    assert (result["model_kind"], result["model_unsafe"]) == ("xgboost", False)


@pytest.mark.frameworks
def test_train_pytorch(copied, connected, tmp_path):
    run = copied(python=PYTHON).run("train_pytorch")
    assert run.state == "success"
    result = run.xcom("train")
    steps = [*range(1, 11)]
    assert steps_of(connected.job_log(result["job_id"])) == {"loss": steps, "val_accuracy": steps}
    assert result["metrics"]["val_accuracy"] > 0.8
    assert (result["model_kind"], result["model_unsafe"]) == ("torch", True)
    assert len([*tmp_path.glob("models/pytorch/*/digits.pt")]) == 1


@pytest.mark.frameworks
def test_train_pytorch_continues(connected):
    log, result = continued(connected, "train_pytorch", "torch_digits.py", "EPOCHS", PYTHON)
    assert "Continues after 3 epochs." in log
    assert steps_of(log) == {"loss": [4, 5], "val_accuracy": [4, 5]}
    assert result["model_kind"] == "torch"


@pytest.mark.frameworks
def test_train_transformers(copied, connected, tmp_path):
    run = copied(python=PYTHON).run("train_transformers")
    assert run.state == "success"
    result = run.xcom("train")
    curves = steps_of(connected.job_log(result["job_id"]))
    assert curves["loss"] == sorted(curves["loss"])
    assert len(curves["loss"]) == 30
    assert set(curves) <= {"loss", "learning_rate", "grad_norm", "train_loss", "eval_loss", "eval_accuracy"}
    assert result["metrics"]["eval_accuracy"] > 0.8
    assert (result["model_kind"], result["model_unsafe"]) == ("safetensors", False)
    (folder,) = tmp_path.glob("models/transformers/*")
    assert {"config.json", "model.safetensors"} <= {each.name for each in folder.iterdir()}


@pytest.mark.frameworks
def test_train_transformers_continues(connected):
    log, result = continued(connected, "train_transformers", "transformers_digits.py", "EPOCHS", PYTHON)
    assert min(steps_of(log)["loss"]) > 3, "epochs after those of the first job"
    assert result["model_kind"] == "safetensors"
