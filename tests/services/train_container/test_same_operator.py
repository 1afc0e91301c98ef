# SPDX-License-Identifier: Apache-2.0
"""``SubmitTrainingOperator`` with a connection to a station: in Airflow, on real engines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.harness.containers.engine import Engine
from tests.harness.inline import Inline


@pytest.fixture
def connected(trains: Engine, monkeypatch: pytest.MonkeyPatch) -> Engine:
    extra: dict[str, Any] = {
        "engine": trains.url,
        "poll_interval": 0.1,
        "environment": {"PATIENTS_URL": "http://fhir.example.com"},
        "environment_from": {"STATION_TOKEN": "variable:station_token"},
    }
    fields = json.dumps({"conn_type": "train_container", "extra": extra})
    monkeypatch.setenv("AIRFLOW_CONN_STATION_DEFAULT", fields)
    monkeypatch.setenv("AIRFLOW_VAR_STATION_TOKEN", "ganz-geheim-42")
    return trains


def jobs(engine: Engine, run_id: str) -> list[Any]:
    return list(engine.client.containers(all=True, filters={"label": [f"airflow.run_id={run_id}"]}))


def remove(engine: Engine, found: list[Any]) -> None:
    for each in found:
        engine.client.remove_container(each["Id"], force=True, v=True)
        job_id = each["Labels"]["airflow.job_id"]
        for volume in engine.client.volumes(filters={"label": [f"airflow.job_id={job_id}"]})["Volumes"]:
            engine.client.remove_volume(volume["Name"])


def test_the_operator_runs_a_train(
    inline: Inline, connected: Engine, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code = (
        "print('epoch=1 loss=0.25', flush=True)\n"
        "print(os.environ['STATION_TOKEN'], os.environ['PATIENTS_URL'], file=sys.stderr, flush=True)\n"
        "rows = pathlib.Path(os.environ['DATA_DIR'], 'rows.csv').read_text()\n"
        "pathlib.Path('/opt/pht_train/model/model.json').write_text(json.dumps(rows))\n"
        "answer(message='trained', export_files=['/opt/pht_train/model/model.json'])"
    )
    run = inline.run("train_at_station", {"code": code, "models": tmp_path.as_uri()})
    shown = "".join(capfd.readouterr())
    assert run.states == {"train": "success"}, shown
    result = run.xcom("train")
    assert result["status"] == "SUCCESSFUL"
    assert result["metrics"]["loss"] == 0.25
    assert json.loads((Path(result["model"].removeprefix("file://")) / "model.json").read_text()) == "1,2\n"
    assert shown.count("epoch=1 loss=0.25") == 1
    assert "http://fhir.example.com" in shown
    assert "ganz-geheim-42" not in shown  # the worker has read it, the triggerer hides it in the lines
    assert "trained" in shown
    (container,) = found = jobs(connected, run.run_id)
    assert container["Labels"]["airflow.dag_id"] == "train_at_station"
    assert container["Labels"]["airflow.task_id"] == "train"
    assert "ganz-geheim-42" not in json.dumps(container["Labels"])
    remove(connected, found)


@pytest.mark.parametrize(
    ("conf", "words"),
    [
        ({"code": "answer(state='failure', message='no patients')"}, "no patients"),
        ({"image": "localhost/none:1"}, "has no image localhost/none:1"),
        ({"image": "localhost/base:1"}, "The image has no command 'run_algorithm'"),
        ({"options": {"isolation": {"network": "container:db"}}}, "isolation.network cannot be 'container:db'"),
        ({"options": {"command": "run"}}, "command cannot be 'run'"),
    ],
)
def test_what_fails_is_one_sentence(
    inline: Inline, connected: Engine, capfd: pytest.CaptureFixture[str], conf: dict[str, Any], words: str
) -> None:
    run = inline.run("train_at_station", conf)
    shown = "".join(capfd.readouterr())
    assert run.states == {"train": "failed"}
    assert words in shown
    remove(connected, jobs(connected, run.run_id))
