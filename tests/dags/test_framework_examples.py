# SPDX-License-Identifier: Apache-2.0
"""The examples of frameworks run as copied: the curves, the model, and a retry that continues.

The example of PyTorch trains with a torch of numpy, and among the tests of frameworks with PyTorch itself. These run
under ``JOBAPI_TEST_FRAMEWORKS_PYTHON``, where that names a Python, else under this one.
"""

from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_jobapi.exceptions import JobFailed
from airflow_provider_jobapi.training.logs import parse_records
from airflow_provider_jobapi.training.metrics.definitions import Metrics
from tests.harness.packages import write_wheel
from tests.harness.python import under
from tests.harness.tries import Task

EXAMPLES = Path(__file__).parents[2] / "dags"
ROWS = {f"rows/{file.name}": file.read_text() for file in (EXAMPLES / "rows").glob("*.csv")}
TORCH_ON_NUMPY = (Path(__file__).parents[1] / "harness" / "torch_on_numpy.py").read_text()
PYTHON = os.environ.get("JOBAPI_TEST_FRAMEWORKS_PYTHON", sys.executable)
LOST = "\nsys.exit('The machine is lost.')\n"


def steps_of(log: str) -> dict[str, list[float]]:
    """The curves of a log, as a trigger reads them."""
    metrics = Metrics(None, time.thread_time, list)
    for line in parse_records(log.encode()):
        metrics.read(line, line.time.timestamp())
    return {name: curve["steps"] for name, curve in metrics.content("")["metrics"].items()}


def continued(server, script: str, argument: str, requirements: Any, python: str = "") -> tuple[str, dict]:
    """Train with 3, fail, and let a retry train with 5: the log of the retry, and its result."""
    whole = (EXAMPLES / "scripts" / script).read_text()
    broken = whole + LOST
    if python:
        whole, broken, requirements = under(python, whole), under(python, broken), ""
    train = Task(script=broken, env={argument: 3}, requirements=requirements, data_input=ROWS)
    with pytest.raises(JobFailed, match="The machine is lost"):
        train.run()
    train.parameters |= {"script": whole, "env": {argument: 5}}
    result = train.run()
    return server.job_log(train.job_id), result


def requirements_of(example: str) -> str:
    """The requirements that stand in an example."""
    return re.search(r"requirements=\"(.*)\",$", (EXAMPLES / f"{example}.py").read_text(), re.MULTILINE)[1]


def torch_on_numpy(folder: Path) -> str:
    """Write a wheel of a torch that is made of numpy; answers the name of its file."""
    return write_wheel(folder, "torch", version="2.4", requires=["numpy"], module=TORCH_ON_NUMPY)


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


@pytest.mark.slow
def test_train_sklearn_continues(connected):
    log, result = continued(connected, "sklearn_digits.py", "EPOCHS", requirements_of("train_sklearn"))
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


@pytest.mark.slow
def test_train_xgboost_continues(connected):
    log, result = continued(connected, "xgboost_digits.py", "ROUNDS", requirements_of("train_xgboost"))
    assert "Continues after 3 rounds." in log
    assert steps_of(log)["train-mlogloss"] == [3, 4]
    assert (result["model_kind"], result["model_unsafe"]) == ("xgboost", False)


@pytest.fixture(params=["numpy", pytest.param("torch", marks=pytest.mark.frameworks)])
def with_torch(request):
    """Whether the example trains with PyTorch itself."""
    return request.param == "torch"


def test_train_pytorch(copied, connected, tmp_path, with_torch):
    if with_torch:
        run = copied(python=PYTHON).run("train_pytorch")
    else:
        example = copied()
        wheel = torch_on_numpy(tmp_path / "airflow" / "dags")
        run = example.run("train_pytorch", {"requirements": [f"./{wheel}"], "data_input": ["rows/*.csv", wheel]})
    assert run.state == "success"
    result = run.xcom("train")
    steps = [*range(1, 11)]
    assert steps_of(connected.job_log(result["job_id"])) == {"loss": steps, "val_accuracy": steps}
    assert result["metrics"]["val_accuracy"] > 0.8
    assert (result["model_kind"], result["model_unsafe"]) == ("torch", True)
    assert len([*tmp_path.glob("models/pytorch/*/digits.pt")]) == 1


def test_train_pytorch_continues(connected, tmp_path, with_torch):
    requirements = [] if with_torch else [tmp_path / torch_on_numpy(tmp_path)]
    log, result = continued(connected, "torch_digits.py", "EPOCHS", requirements, PYTHON if with_torch else "")
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
    log, result = continued(connected, "transformers_digits.py", "EPOCHS", "", PYTHON)
    assert min(steps_of(log)["loss"]) > 3, "epochs after those of the first job"
    assert result["model_kind"] == "safetensors"
