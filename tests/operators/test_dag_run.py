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


@pytest.mark.parametrize("dag_id", ["stub_mapped", "stub_mapped_inline"])
def test_mapped_tasks_have_a_job_each(inline, connected, dag_id):
    run = inline.run(dag_id, {"jobName": "mapped"})
    assert run.state == "success"
    jobs = [run.xcom("train", map_index=index)["job_id"] for index in (0, 1)]
    assert len(set(jobs)) == 2
    assert [connected.status(job)["name"] for job in jobs] == ["mapped", "mapped"]


def test_a_job_that_fails_fails_the_task(inline, connected, tmp_path):
    run = inline.run("stub", {"env": {"EXIT": 1}, "models": str(tmp_path)})
    assert (run.states["train"], run.states["fetch"]) == ("failed", "upstream_failed")


def test_the_limits_of_airflow_hold(inline, connected):
    run = inline.run("stub_timeout", {"env": {"GATE": "/never"}})
    assert set(run.states.values()) == {"failed"}
    for task_id in run.states:
        assert connected.status(run.xcom(task_id, "training_job_id"))["status"] == "STOPPED"


def test_data_reaches_the_script_unharmed(inline, connected):
    run = inline.run("stub_data")
    assert run.state == "success"
    log = connected.job_log(run.xcom("train")["job_id"])
    assert r"rows/a.csv b'a,b\r\n{{ 1 }},2\r\n'" in log
    assert r"train.yaml b'x: 1\n'" in log
    assert "# {{ {% {#" in log
