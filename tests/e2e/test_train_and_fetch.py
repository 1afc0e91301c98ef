# SPDX-License-Identifier: Apache-2.0
"""The main example as it stands: real digits, a real TensorFlow, a real Airflow."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.mark.slow
def test_train_and_fetch(airflow, tmp_path):
    place = ("train_and_fetch", airflow.run("train_and_fetch", {"models": (tmp_path / "models").as_uri()}))
    # TensorFlow is fetched twice, for the job and for the task that evaluates.
    airflow.wait_for_state(*place, "train", "success", seconds=900)
    lines = airflow.lines(*place, "train")
    assert sum(line.startswith("Epoch ") for line in lines) == 20
    airflow.wait_for_state(*place, "evaluate", "success", seconds=600)
    quality = airflow.xcom(*place, "evaluate")
    assert quality["accuracy"] > 0.9 > quality["majority"]
    model = Path(airflow.xcom(*place, "fetch").removeprefix("file://"))
    assert model.parent == tmp_path / "models"
    assert (model / "saved_model.pb").stat().st_size > 1_000
