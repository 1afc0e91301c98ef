# SPDX-License-Identifier: Apache-2.0
"""The example DAGs as people copy them: the folder in another place, run without a configuration."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.mlflow import define

EXAMPLES = Path(__file__).parents[2] / "dags"
NAMES = sorted(file.stem for file in EXAMPLES.glob("*.py"))
OTHERS = {
    "train_and_register",
    "train_folder",
    "train_on_modelarts",
    "train_on_sagemaker",
    "train_over_stations",
    "train_pytorch",
    "train_sklearn",
    "train_transformers",
    "train_xgboost",
}
"""Those that have tests of their own."""

WITH_ROWS = ("retrain_on_new_data", "retrain_weekly", "sweep", "train_from_conf")


@pytest.mark.parametrize("name", WITH_ROWS)
def test_it_runs_as_copied(copied, connected, tmp_path, name):
    run = copied(light=True).run(name)
    assert run.state == "success"
    result = run.xcom("train", map_index=0 if name == "sweep" else -1)
    assert "600 rows" in connected.job_log(result["job_id"])
    models = list(tmp_path.glob("models/**/saved_model.pb"))
    assert models or name == "train_from_conf"


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({*NAMES} - OTHERS))
def test_it_runs_as_copied_with_its_own_script(copied, tmp_path, name):
    assert copied().run(name).state == "success"
    assert list(tmp_path.glob("models/**/saved_model.pb")) or name == "train_from_conf"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("retrain_on_new_data", "No *.csv is in file://{rows}: name a folder with rows as the param 'rows'."),
        ("retrain_weekly", "No file with the name of a day before "),
        ("sweep", "No *.csv is in file://{rows}: name a folder with rows as the param 'rows'."),
        ("train_on_modelarts", "No *.csv is in file://{rows}: name a folder with rows as the param 'rows'."),
        ("train_on_sagemaker", "No *.csv is in file://{rows}: name a folder with rows as the param 'rows'."),
    ],
)
def test_without_rows_it_says_so_before_anything_is_submitted(copied, connected, tmp_path, capfd, name, words):
    run = copied(rows=False).run(name)
    assert run.state == "failed"
    assert words.format(rows=tmp_path / "airflow" / "dags" / "rows") in "".join(capfd.readouterr())
    assert run.states.get("train") in {"upstream_failed", None}


@pytest.mark.slow
def test_train_folder_trains_the_folder_beside_it(copied, connected, tmp_path):
    run = copied().run("train_folder", {"epochs": 60})
    assert run.state == "success"
    result = run.xcom("train")
    log = connected.job_log(result["job_id"])
    assert "600 rows, 60 of them held out" in log
    assert "Epoch 60/60" in log
    assert result["metrics"]["val_accuracy"] > 0.7
    assert list(tmp_path.glob("models/softmax/*/softmax.npz"))


def test_train_folder_without_rows_says_so(copied, connected, capfd):
    run = copied(rows=False).run("train_folder")
    assert run.states == {"train": "failed"}
    assert "data_input['rows'] matches no file: there is none at " in "".join(capfd.readouterr())


@pytest.mark.slow
def test_the_model_of_train_and_register_is_in_mlflow(copied, connected, tmp_path, mlflow, monkeypatch):
    define(monkeypatch, mlflow.connection)
    run = copied().run("train_and_register", {"env": {"TREES": 10}})
    assert run.state == "success"
    result, made = run.xcom("train"), run.xcom("register")
    assert (result["model_kind"], result["model_unsafe"]) == ("pickle", True)
    assert result["metrics"]["accuracy"] > 0.8
    (model,) = tmp_path.glob("models/trees/*/trees.joblib")
    assert mlflow.download(made["uri"], tmp_path / "downloaded") == {"trees.joblib": model.read_bytes()}
    (version,) = mlflow.versions("digits")
    tags = {each["key"]: each["value"] for each in version["tags"]}
    assert (tags["jobapi.job_id"], tags["jobapi.sha256"], tags["jobapi.kind"], tags["jobapi.data_version"]) == (
        result["job_id"],
        result["model_sha256"],
        "pickle",
        result["data_version"],
    )
    assert mlflow.run(made["run_id"])["data"]["metrics"][0]["value"] == result["metrics"]["accuracy"]


@pytest.mark.parametrize(
    "script",
    ["digits", "measured_digits", "sklearn_digits", "torch_digits", "transformers_digits", "trees", "xgboost_digits"],
)
def test_a_script_without_rows_says_so(script, tmp_path):
    for module in ("joblib", "keras", "numpy", "tensorflow", "torch", "xgboost"):  # it is not far enough to use them
        (tmp_path / f"{module}.py").touch()
    (tmp_path / "sklearn").mkdir()
    (tmp_path / "sklearn" / "__init__.py").touch()
    for module, name in (
        ("ensemble", "RandomForestClassifier"),
        ("model_selection", "train_test_split"),
        ("neural_network", "MLPClassifier"),
    ):
        (tmp_path / "sklearn" / f"{module}.py").write_text(f"{name} = None")
    (tmp_path / "transformers").mkdir()
    (tmp_path / "transformers" / "__init__.py").write_text("def __getattr__(name): return None")
    (tmp_path / "transformers" / "trainer_utils.py").write_text("get_last_checkpoint = None")
    done = subprocess.run(
        [sys.executable, EXAMPLES / "scripts" / f"{script}.py"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("No rows/*.csv is here: give files of rows in data_input, such as ")


@pytest.mark.parametrize("name", NAMES)
def test_its_first_lines_say_what_it_needs(name):
    source = (EXAMPLES / f"{name}.py").read_text()
    first = (ast.get_docstring(ast.parse(source)) or "").partition("\n\n")[2]
    assert first.startswith("Needs ")
    code = source.partition('"""\n\nfrom ')[2]
    for place, used in (
        ("scripts/", "scripts/" in code),
        ("project/", '"project"' in code),
        ("rows/", "__file__" in code or 'Path("rows/' in code),
    ):
        assert (f"``{place}``" in first) == used, place
    others = {"modelarts_default", "sagemaker_default", "station_one_default", "station_two_default"}
    connections = {name for name in others if name in code} or {"jobapi_default"}
    connections |= {"mlflow_default"} if "RegisterModelOperator" in code else set()
    assert set(re.findall(r"\w+_default", first)) == connections


def test_without_the_connection_it_names_it(copied, monkeypatch, capfd):
    monkeypatch.delenv("AIRFLOW_CONN_JOBAPI_DEFAULT")
    inline = copied(light=True)
    for name, conn_id in (("train_from_conf", "jobapi_default"), ("train_on_modelarts", "modelarts_default")):
        assert inline.run(name).state == "failed"
        assert f"The conn_id `{conn_id}` isn't defined" in "".join(capfd.readouterr())
