# SPDX-License-Identifier: Apache-2.0
"""Ten scripts of six frameworks, in the style of public examples, run unchanged by a real server: their curves alone.

They run under ``JOBAPI_TEST_FRAMEWORKS_PYTHON``, where that names a Python, else under this one.
"""

from __future__ import annotations

import itertools
import os
import sys
import time
from pathlib import Path

import pytest

from airflow_provider_jobapi.training.logs import parse_records
from airflow_provider_jobapi.training.metrics.definitions import Metrics
from tests.harness.python import under
from tests.harness.tries import Task

pytestmark = pytest.mark.frameworks

PYTHON = os.environ.get("JOBAPI_TEST_FRAMEWORKS_PYTHON", sys.executable)
SCRIPTS = Path(__file__).parent / "scripts"
REPORT = {
    f"{mean}_avg_{name}": 1
    for mean, name in itertools.product(("macro", "weighted"), ("precision", "recall", "f1-score"))
}
CURVES = {
    "lightgbm_train": {
        f"{part} {name}": 15 for part in ("training's", "valid_1's") for name in ("binary_logloss", "auc")
    },
    "lightning_bar": {"train_loss": 4, "val_loss": 4},
    "sklearn_boosting": {"Train_Loss": 13, "The_mean_squared_error_(MSE)_on_test_set": 1},
    "sklearn_verbose": {"loss": 12, "accuracy": 1, "Test_accuracy": 1} | REPORT,
    "torch_mnist_style": {"Loss": 8, "Average_loss": 4, "Accuracy": 4},
    "torch_quickstart_style": {"loss": 12, "Accuracy": 3, "Avg_loss": 3},
    "torch_tqdm": {"loss": 4},
    "transformers_own_loop": {"perplexity": 5, "eval_loss": 5},
    "transformers_trainer": {"loss": 8, "learning_rate": 8, "train_loss": 1},
    "xgboost_train": {f"{part}-{name}": 15 for part in ("train", "eval") for name in ("logloss", "auc")}
    | {"Accuracy": 1},
}
"""What each script measures, and the least number of its points."""


def test_each_script_is_run():
    assert {path.stem for path in SCRIPTS.glob("*.py")} == set(CURVES)


@pytest.mark.parametrize("name", CURVES)
def test_a_script_has_its_curves_and_no_other(connected, name):
    train = Task(script=under(PYTHON, (SCRIPTS / f"{name}.py").read_text()))
    result = train.run()
    metrics = Metrics(None, time.thread_time, list)
    for line in parse_records(connected.job_log(train.job_id).encode()):
        metrics.read(line, line.time.timestamp())
    # Newer versions of the Trainer print the norm of the gradients, too.
    curves = {each: curve for each, curve in metrics.content("")["metrics"].items() if each != "grad_norm"}
    assert set(curves) == set(CURVES[name])
    for each, least in CURVES[name].items():
        curve = curves[each]
        assert curve["count"] >= least, each
        assert all(before < after for before, after in itertools.pairwise(curve["steps"])), each
        if "loss" in each.lower() and curve["count"] > 1:
            assert curve["last"] < curve["values"][0], each
        assert result["metrics"][each] == pytest.approx(curve["last"])
