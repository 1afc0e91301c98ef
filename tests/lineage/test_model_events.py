# SPDX-License-Identifier: Apache-2.0
"""What the event of a model tells: read from Airflow's database, after a real run."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

from airflow_provider_jobapi.lineage.events import model_facts
from airflow_provider_jobapi.services.base import FetchedModel, ModelFile

STUB = (Path(__file__).parents[1] / "harness" / "dags" / "scripts" / "stub.py").read_text()
FILES = {"saved_model.pb": b"saved model", "variables/variables.index": b"index"}


def events(run_id: str) -> dict[tuple[str, str], dict]:
    """The extras of a run's asset events, by the task and the asset's URI."""
    from airflow.models.asset import AssetEvent, AssetModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        found = session.execute(
            select(AssetEvent, AssetModel)
            .join(AssetModel, AssetModel.id == AssetEvent.asset_id)
            .where(AssetEvent.source_run_id == run_id)
        )
        return {(event.source_task_id, asset.uri): event.extra for event, asset in found}


def sha256(files: dict[str, bytes]) -> str:
    lines = sorted(f"{name}\0{hashlib.sha256(content).hexdigest()}\n" for name, content in files.items())
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def test_every_asset_in_the_outlets_is_told(inline, connected, tmp_path):
    script = f"{STUB}\nprint('loss=0.5')\n"
    conf = {"models": str(tmp_path), "jobName": "stub", "script": script, "data_input": {"rows/a.csv": "1"}}
    run = inline.run("stub_outlets", conf)
    assert run.state == "success"
    result = run.xcom("train")
    assert result["metrics"] == {"loss": 0.5}
    assert result["data_version"] == sha256({"rows/a.csv": b"1"})
    common = {key: result[key] for key in ("job_id", "metrics", "data_version")}
    common |= {"kind": "saved_model"}
    fetched = common | {"location": (tmp_path / "7").as_uri(), "sha256": sha256(FILES)}
    assert events(run.run_id) == {
        ("train", "jobapi://jobapi_default/stub"): common | {"location": None, "sha256": None},
        ("fetch", "stub_model"): fetched,
        ("fetch", (tmp_path / "7").as_uri()): fetched,
    }


def test_a_training_with_a_destination_tells_them_too(inline, connected, tmp_path):
    run = inline.run("stub_outlets_destination", {"destination": str(tmp_path)})
    assert run.state == "success"
    told = events(run.run_id)
    assert set(told) == {("train", "stub_trained_and_fetched"), ("train", (tmp_path / "8").as_uri())}
    for extra in told.values():
        assert extra["location"] == run.xcom("train")["model"] == (tmp_path / "8").as_uri()
        assert extra["sha256"] == sha256(FILES)


def test_a_failed_training_tells_nobody(inline, connected, tmp_path):
    run = inline.run("stub_outlets_destination", {"destination": str(tmp_path), "env": {"EXIT": 1}})
    assert run.state == "failed"
    assert events(run.run_id) == {}


def test_the_facts_hold_what_the_result_says():
    model = FetchedModel("s3://models/digits/1", (ModelFile("b", 1, "bb"), ModelFile("a", 1, "aa")))
    result = {"job_id": "1", "metrics": {"loss": 0.5, "gap": "NaN"}, "data_version": "abc"}
    assert model_facts(result, model) == result | {
        "location": model.location,
        "sha256": hashlib.sha256(b"a\0aa\nb\0bb\n").hexdigest(),
        "kind": "files",
    }
    assert model_facts({"job_id": "1"}, model)["metrics"] == {}
    assert model_facts(result | {"model_kind": "onnx"}, None)["kind"] == "onnx"


def test_a_shell_computes_the_same_hash(tmp_path: Path):
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    command = (
        "find . -type f -printf '%P\\n' | LC_ALL=C sort | "
        'while read -r f; do printf \'%s\\0%s\\n\' "$f" "$(sha256sum < "$f" | cut -c-64)"; done | sha256sum'
    )
    ran = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert ran.stdout.split()[0] == sha256(FILES)
