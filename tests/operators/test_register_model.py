# SPDX-License-Identifier: Apache-2.0
"""Models in MLflow's registry, on a real MLflow server."""

from __future__ import annotations

import hashlib
import json
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_jobapi._airflow import AirflowFailException
from airflow_provider_jobapi.exceptions import ServiceUnavailable
from airflow_provider_jobapi.operators.register import RegisterModelOperator
from airflow_provider_jobapi.services import retry
from tests.harness.mlflow import Mlflow, define
from tests.harness.proxy_faults import Point, ScriptedProxy

JOB = "11111111-2222-5333-8444-55555555{:04d}"
FILES = {"model.joblib": b"\x80\x04\x95\x03.", "deep/words list.txt": b"a\nb", "empty": b""}
SHA256 = hashlib.sha256(
    "".join(f"{path}\0{hashlib.sha256(FILES[path]).hexdigest()}\n" for path in sorted(FILES)).encode()
).hexdigest()


def put(folder: Path, files: dict[str, bytes] = FILES) -> str:
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder.as_uri()


def result(number: int, model: str | None, **more: Any) -> dict[str, Any]:
    """A training's result."""
    metrics = {"loss": 0.25, "val loss(%)": "NaN"}
    told = {"job_id": JOB.format(number), "status": "SUCCESSFUL", "model": model, "metrics": metrics}
    return (
        told | {"data_version": "d" * 64, "model_kind": "pickle", "model_unsafe": True, "model_sha256": SHA256} | more
    )


def register(job: Any, name: str, **parameters: Any) -> dict[str, str]:
    operator = RegisterModelOperator(task_id="register", job=job, name=name, **parameters)
    return operator.execute({"ti": SimpleNamespace(dag_id="d", run_id="r", task_id="register")})


def tags(found: dict[str, Any]) -> dict[str, str]:
    return {each["key"]: each["value"] for each in found["tags"]}


@pytest.fixture
def registry(mlflow: Mlflow, monkeypatch: pytest.MonkeyPatch) -> Mlflow:
    define(monkeypatch, mlflow.connection)
    return mlflow


@pytest.mark.slow
def test_a_model_becomes_a_version_once(registry: Mlflow, tmp_path: Path) -> None:
    place = put(tmp_path / "models" / "7")
    first = register(result(1, place), "once", alias="candidate", tags={"team": "a"}, description="Digits.")
    assert first == {
        "name": "once",
        "version": "1",
        "uri": "models:/once/1",
        "run_id": first["run_id"],
        "source": first["source"],
        "url": f"{registry.url}/#/models/once/versions/1",
    }
    (version,) = registry.versions("once")
    expected = {
        "jobapi.job_id": JOB.format(1),
        "jobapi.data_version": "d" * 64,
        "jobapi.sha256": SHA256,
        "jobapi.kind": "pickle",
        "jobapi.unsafe_to_load": "true",
        "team": "a",
        "airflow.dag_id": "d",
        "airflow.run_id": "r",
        "airflow.task_id": "register",
    }
    assert (tags(version), version["description"], version["run_id"]) == (expected, "Digits.", first["run_id"])
    run = registry.run(first["run_id"])
    assert {each["key"]: each["value"] for each in run["data"]["metrics"]} == {"loss": 0.25, "val loss___": "NaN"}
    assert (run["info"]["status"], tags(run["data"]).items() >= expected.items()) == ("FINISHED", True)
    assert registry.download(first["uri"], tmp_path / "downloaded") == FILES

    assert register(result(1, place), "once", alias="candidate") == first
    assert len(registry.versions("once")) == 1

    second = register(result(2, place), "once", alias="candidate")
    assert second["uri"] == "models:/once/2"
    named = registry.get("registered-models/alias", name="once", alias="candidate")["model_version"]
    assert named["version"] == "2"


@pytest.mark.slow
def test_a_try_that_was_killed_is_continued(registry: Mlflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, port = put(tmp_path / "7"), int(registry.url.rpartition(":")[2])
    with ScriptedProxy(port) as network, retry.testing(attempts=1):
        define(monkeypatch, {"conn_type": "mlflow", "host": network.url})
        for when in ("^PUT .*words", "^POST .*model-versions/create", "^POST .*runs/create"):
            hold = network.hold(when, Point.ANSWER)
            dropper = threading.Thread(target=lambda hold=hold: (hold.wait(), hold.drop()))
            dropper.start()
            with pytest.raises(ServiceUnavailable):
                register(result(3 if "runs" not in when else 4, place), "killed")
            dropper.join()
    define(monkeypatch, registry.connection)
    assert register(result(3, place), "killed")["version"] == "1"
    assert register(result(4, place), "killed")["version"] == "2"
    versions = registry.versions("killed")
    assert [tags(each)["jobapi.job_id"] for each in versions] == [JOB.format(3), JOB.format(4)]
    experiment = registry.get("experiments/get-by-name", experiment_name="killed")["experiment"]["experiment_id"]
    runs = registry.post("runs/search", experiment_ids=[experiment])["runs"]
    assert sorted((tags(run["data"])["jobapi.job_id"], run["info"]["status"]) for run in runs) == [
        (JOB.format(3), "FINISHED"),
        (JOB.format(4), "FINISHED"),
    ]


@pytest.mark.slow
def test_a_model_in_a_bucket_is_registered_where_it_is(registry: Mlflow) -> None:
    place = "s3://warehouse@models/digits/7"
    made = register(result(5, place), "in_a_bucket")
    (version,) = registry.versions("in_a_bucket")
    assert version["source"] == made["source"] == "s3://models/digits/7"
    assert tags(version)["jobapi.sha256"] == SHA256


@pytest.mark.slow
def test_a_job_id_and_a_place_are_enough(registry: Mlflow, tmp_path: Path) -> None:
    register(JOB.format(6), "by_id", model=str(put(tmp_path / "a b", {"model.onnx": b"onnx"})), experiment="others")
    (version,) = registry.versions("by_id")
    found = tags(version)
    assert (found["jobapi.kind"], "jobapi.unsafe_to_load" in found, "jobapi.data_version" in found) == (
        "onnx",
        False,
        False,
    )
    assert registry.get("experiments/get-by-name", experiment_name="others")["experiment"]["name"] == "others"


@pytest.mark.slow
def test_what_mlflow_refuses_is_one_sentence(registry: Mlflow, tmp_path: Path) -> None:
    place = put(tmp_path / "7", {"a#b.onnx": b"onnx"})
    with pytest.raises(AirflowFailException, match=r"^MLflow does not take the file 'a#b.onnx' of the model: "):
        register(result(7, place, model_sha256=None), "refused")
    assert registry.versions("refused") == []
    experiment = registry.post("experiments/create", name="gone")["experiment_id"]
    registry.post("experiments/delete", experiment_id=experiment)
    with pytest.raises(AirflowFailException, match=r"the experiment 'gone' is deleted: restore it, or choose another"):
        register(result(8, place, model_sha256=None), "refused", experiment="gone")


@pytest.mark.slow
def test_the_test_button(registry: Mlflow) -> None:
    from airflow_provider_jobapi.hooks.mlflow import MlflowHook

    ok, message = MlflowHook().test_connection()
    assert ok, message
    assert [line.split(":")[0] for line in message.split("\n")] == ["Server", "Registry"]


@pytest.mark.parametrize(
    ("job", "parameters", "words"),
    [
        (result(1, None), {}, r"was not fetched: give the training a destination, or fetch the model with"),
        (result(1, None, model_kind=None), {}, r"left no model, so there is none to register\.$"),
        ({"job_id": "x", "model": None}, {}, r"was not fetched"),
        (result(1, "file:///nowhere/7"), {}, r"No file is in /nowhere/7: name the directory"),
        (result(1, "/models/7"), {"upload": False}, r"MLflow cannot read /models/7: leave upload out"),
        (result(1, "/models/7"), {"name": "a/b"}, r"^name cannot be 'a/b' in MLflow's registry"),
        (None, {}, r"^job is empty"),
    ],
)
def test_what_cannot_be_registered_says_so_before_anything_is_made(
    monkeypatch: pytest.MonkeyPatch, job: Any, parameters: dict[str, Any], words: str
) -> None:
    from tests.harness.tiny import Tiny, reply

    with Tiny({"GET /api/2.0/mlflow/model-versions/search": reply({})}) as tiny:
        define(monkeypatch, {"conn_type": "mlflow", "host": tiny.url})
        with pytest.raises(AirflowFailException, match=words):
            register(job, **{"name": "digits"} | parameters)
        assert {each.method for each in tiny.asked} <= {"GET"}


def test_another_model_at_the_place_is_not_registered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from tests.harness.tiny import Tiny, reply

    place = put(tmp_path / "7", FILES | {"empty": b"changed"})
    with Tiny({"GET /api/2.0/mlflow/model-versions/search": reply({})}) as tiny:
        define(monkeypatch, {"conn_type": "mlflow", "host": tiny.url})
        with pytest.raises(AirflowFailException, match=r"no longer holds the model of job .* Fetch the model again\."):
            register(result(1, place), "digits")


def test_an_event_tells_the_version(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.sdk import Asset

    from tests.harness.tiny import Tiny, reply

    version = {"name": "digits", "version": "3", "run_id": "r", "source": "s3://models/7"}
    finished = {"GET /api/2.0/mlflow/runs/get": reply({"run": {"info": {"run_id": "r", "status": "FINISHED"}}})}
    version["tags"] = [{"key": "jobapi.job_id", "value": JOB.format(1)}, {"key": "jobapi.sha256", "value": SHA256}]
    outlet = Asset("digits")
    operator = RegisterModelOperator(
        task_id="register", job=result(1, "s3://models/7"), name="digits", outlets=[outlet]
    )
    event = SimpleNamespace(extra={})
    search = {"GET /api/2.0/mlflow/model-versions/search": reply({"model_versions": [version]})}
    with Tiny(search | finished) as tiny:
        define(monkeypatch, {"conn_type": "mlflow", "host": tiny.url})
        assert operator.execute({"outlet_events": {outlet: event}})["uri"] == "models:/digits/3"
    assert (event.extra["registered"], event.extra["sha256"], event.extra["location"]) == (
        "models:/digits/3",
        SHA256,
        "s3://models/7",
    )
    assert json.dumps(event.extra)
