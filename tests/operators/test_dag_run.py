# SPDX-License-Identifier: Apache-2.0
"""Both operators in DAGs, run by Airflow's own ``dag.test()`` against the real server."""

from __future__ import annotations

import pytest


def test_train_and_fetch(inline, connected, tmp_path):
    run = inline.run("stub", {"models": str(tmp_path / "models")})
    assert run.state == "success"
    result = run.xcom("train")
    assert result == {"job_id": run.xcom("train", "training_job_id"), "status": "SUCCESSFUL", "model": None}
    assert (tmp_path / "models" / "7" / "saved_model.pb").read_bytes() == b"saved model"
    assert connected.status(result["job_id"])["name"] == "stub-train"


