# SPDX-License-Identifier: Apache-2.0
"""The example DAGs that people copy: each is run, with the stub in place of TensorFlow."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

STUB = (Path(__file__).parents[1] / "harness" / "dags" / "scripts" / "stub.py").read_text()
LIGHT = {"script": STUB, "requirements": ""}


def test_they_are_there_and_parse(inline):
    repository = Path(__file__).parents[2]
    examples = {name for name, dag in inline.dags.items() if Path(dag.fileloc).parent == repository / "dags"}
    readme = (repository / "README.md").read_text()
    assert examples
    assert examples == set(re.findall(r"\]\(dags/(\w+)\.py\)", readme))


def test_they_defer(inline):
    for name in ("train_and_fetch", "train_from_conf", "retrain_weekly", "retrain_on_new_data"):
        assert inline.dags[name].get_task("train").deferrable
    assert inline.dags["sweep"].get_task("train").partial_kwargs["deferrable"]


def test_train_from_conf(inline, connected, tmp_path):
    conf = {
        **LIGHT,
        "jobName": "from-conf",
        "env": [{"name": "LINES", "value": 2}],
        "completionTime": "90 seconds",
        "resources": {"cpus": 1, "gpus": 0, "memory": 333},
        "data_input": {"rows/a.csv": "a < b & 'c'\r\n{{ ds }}\n"},
        "destination": str(tmp_path),
    }
    run = inline.run("train_from_conf", conf)
    assert run.state == "success"
    result = run.xcom("train")
    assert connected.status(result["job_id"])["name"] == "from-conf"
    assert Path(result["model"].removeprefix("file://"), "saved_model.pb").exists()
    kept = f"jobs/from-conf-{result['job_id']}/rows/a.csv"
    assert connected.request("GET", f"/api/v2/storage/objects/{kept}").content == b"a < b & 'c'\r\n{{ ds }}\n"


@pytest.mark.parametrize(
    ("conf", "state"),
    [
        ({**LIGHT, "oauthClientSecret": "x"}, "failed"),
        ({**LIGHT, "resources": {"cpus": 1, "memory": "plenty"}}, "failed"),
    ],
)
def test_train_from_conf_with_what_cannot_be(inline, connected, conf, state):
    assert inline.run("train_from_conf", conf).states == {"train": state}


def test_retrain_weekly_trains_on_what_was_known_then(inline, connected, tmp_path):
    rows = tmp_path / "rows"
    rows.mkdir()
    for day in ("2026-01-03", "2026-01-04", "2099-12-31"):
        (rows / f"{day}.csv").write_text(f"{day}\n")
    conf = {**LIGHT, "rows": rows.as_uri(), "models": (tmp_path / "models").as_uri()}
    run = inline.run("retrain_weekly", conf)
    assert run.state == "success"
    (version,) = (tmp_path / "models").iterdir()
    assert version.name.isdigit()
    job_id = run.xcom("train")["job_id"]
    answer = connected.request(
        "GET", "/api/v2/storage/objects", params={"prefix": f"jobs/retrain_weekly-train-{job_id}/rows/"}
    )
    names = [each["key"].rpartition("/")[2] for each in json.loads(answer.text)["objects"]]
    assert names == ["2026-01-03.csv", "2026-01-04.csv"]


def test_retrain_weekly_is_safe_to_catch_up(inline):
    dag = inline.dags["retrain_weekly"]
    assert dag.max_active_runs == 1
    assert "run_after" in dag.get_task("fetch").version


def test_train_function_ships_what_it_uses_and_nothing_of_airflow(inline):
    train = inline.dags["train_function"].get_task("train")
    assert train.deferrable
    script = train.script
    assert "HIDDEN = 64" in script
    assert "def network(width: int)" in script
    assert "import airflow" not in script
    assert "from airflow" not in script
    assert "HIDDEN" not in str(train.op_kwargs)


@pytest.mark.slow
def test_train_function_trains(inline, connected, tmp_path):
    run = inline.run("train_function", {"epochs": 3, "models": tmp_path.as_uri()})
    assert run.state == "success"
    log = connected.job_log(run.xcom("train")["job_id"])
    assert "Epoch 3/3" in log
    assert "train returned {'loss': " in log
    (version,) = tmp_path.iterdir()
    assert (version / "saved_model.pb").exists()
