# SPDX-License-Identifier: Apache-2.0
"""Both operators in DAGs, run by Airflow's own ``dag.test()`` against the real server."""

from __future__ import annotations

import pytest


def test_train_and_fetch(inline, connected, tmp_path):
    run = inline.run("stub", {"models": str(tmp_path / "models")})
    assert run.state == "success"
    result = run.xcom("train")
    assert result == {
        "job_id": run.xcom("train", "training_job_id"),
        "status": "SUCCESSFUL",
        "model": None,
        "metrics": {},
        "data_version": None,
        "model_kind": "saved_model",
        "model_unsafe": False,
    }
    assert (tmp_path / "models" / "7" / "saved_model.pb").read_bytes() == b"saved model"
    assert connected.status(result["job_id"])["name"] == "stub-train"


@pytest.mark.parametrize("dag_id", ["stub_mapped", "stub_mapped_inline"])
def test_mapped_tasks_have_a_job_each(inline, connected, dag_id):
    run = inline.run(dag_id)
    assert run.state == "success"
    jobs = [run.xcom("train", map_index=index)["job_id"] for index in (0, 1)]
    assert len(set(jobs)) == 2
    assert [connected.status(job)["name"] for job in jobs] == [f"{dag_id}-train-{index}" for index in (0, 1)]


LAST = {"loss": 1 / 3, "oddity": "NaN", "accuracy": 0.3, "val_loss": 2 / 3, "rate": 0.5}


@pytest.mark.parametrize("dag_id", ["stub_metrics", "stub_metrics_inline"])
def test_the_metrics_facts_and_data_of_a_training_are_told(inline, connected, dag_id):
    run = inline.run(dag_id)
    assert run.state == "success"
    result, facts, status = (run.xcom("train", key) for key in ("return_value", "training_facts", "trainingStatus"))
    assert result["metrics"] == LAST
    assert {name: facts[name] for name in ("job_id", "name", "conn_id", "generation", "completion_time")} == {
        "job_id": result["job_id"],
        "name": f"{dag_id}-train",
        "conn_id": "jobapi_default",
        "generation": 0,
        "completion_time": 86400,
    }
    assert [(each["name"], each["size"]) for each in facts["data"]][1:] == [("rows.csv", 8)]
    assert facts["resources"] == {"cpus": 1, "gpus": 0, "memory": 2048}
    assert result["data_version"] == facts["data_version"] == connected.status(result["job_id"])["dataVersion"]
    assert len(result["data_version"]) == 64
    assert (status["job_id"], status["status"]) == (result["job_id"], "SUCCESSFUL")
    assert status["submissionTime"] <= status["startTime"] <= status["storingTime"] <= status["finishTime"]
    if dag_id == "stub_metrics_inline":
        told = run.xcom("train", "training_metrics")
        assert told["metrics"]["loss"]["values"] == [1, 0.5, 0.33333333]
        assert told["metrics"]["accuracy"]["steps"] == [1, 2, 3]
        assert (told["job_id"], told["left_out"]) == (result["job_id"], 0)
        assert facts["metric_rules"] == told["rules"] == ["jobapi_metrics", "keras", "name=number"]


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
