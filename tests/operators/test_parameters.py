# SPDX-License-Identifier: Apache-2.0
"""The operator's parameters become a training job, or one clear error."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import pytest
from airflow.sdk import ObjectStoragePath
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.operators.parameters import PARAMETERS, Parameters, default_name, read_script
from airflow_provider_jobapi.operators.training import SubmitTrainingOperator
from airflow_provider_jobapi.training.job import TrainingJob
from airflow_provider_jobapi.training.job_file import NAME

DEFAULTS = dict.fromkeys([each.name for each in PARAMETERS]) | {
    "script": "print(1)\n",
    "image": "tensorflow/tensorflow:latest",
    "completion_time": "24h",
    "python_major_version": 3,
    "nodes": 1,
}


def parameters(folder: Path = Path("/nowhere"), config=None, **changes) -> Parameters:
    return Parameters(DEFAULTS | changes, config, conn_id="c", default_name="default", folder=folder)


def job(folder: Path = Path("/nowhere"), config=None, **changes):
    return parameters(folder, config, **changes).job


def test_every_parameter_is_one_of_the_operator_and_a_field_of_a_job():
    of_operator = set(inspect.signature(SubmitTrainingOperator.__init__).parameters)
    assert {each.name for each in PARAMETERS} <= of_operator
    assert {each.field for each in PARAMETERS} - {None} == set(TrainingJob.model_fields)
    for each in PARAMETERS:
        default = inspect.signature(SubmitTrainingOperator.__init__).parameters[each.name].default
        assert each.name == "script" or DEFAULTS[each.name] == default


def test_the_defaults_are_a_job():
    made = job()
    assert (made.name, made.script, made.image, made.completion_time, made.env, made.data) == (
        "default",
        "print(1)\n",
        "tensorflow/tensorflow:latest",
        "24h",
        (),
        {},
    )


@pytest.mark.parametrize(
    "env",
    [
        [{"name": "EPOCHS", "value": 5}, {"name": "CONFIG", "value": "model.yaml"}],
        {"EPOCHS": 5, "CONFIG": "model.yaml"},
        '[{"name": "EPOCHS", "value": 5}, {"name": "CONFIG", "value": "model.yaml"}]',
        '{"EPOCHS": 5, "CONFIG": "model.yaml"}',
    ],
)
def test_env_in_each_of_its_forms(env):
    assert job(env=env).command() == "python3 train.py --epochs=5 --config=model.yaml"


@pytest.mark.parametrize("empty", ["", "  ", None])
def test_what_a_template_leaves_empty_is_the_default(empty):
    assert job(env=empty, job_resources=empty, data_input=empty) == job()


def test_the_headers_of_the_documents_override():
    config = {
        "jobName": "wide",
        "env": [{"name": "A", "value": "b"}],
        "image": "tensorflow/tensorflow:2.21.0",
        "completionTime": "2h",
        "resources": {"cpus": 2, "gpus": 1, "memory": 512},
        "requirements": "numpy==2.4.6",
        "pythonMajorVersion": 2,
        "script": "pass\n",
        "somethingElse": 1,
    }
    for given_as in (config, json.dumps(config)):
        given = parameters(config=given_as)
        made = given.job
        assert given.ignored_headers == ["somethingElse"]
        assert (made.name, made.image, made.completion_time, made.script) == (
            "wide",
            "tensorflow/tensorflow:2.21.0",
            "2h",
            "pass\n",
        )
        assert made.resources.model_dump() == {"cpus": 2, "gpus": 1, "memory": 512}
        assert made.command() == "pip install -r requirements.txt && python train.py --a=b"


def test_our_own_spelling_overrides_too():
    config = {"job_name": "ours", "destination": "s3://models", "data_input": {"a.csv": "1"}}
    given = parameters(config=config)
    assert given.job == job(job_name="ours", data_input={"a.csv": "1"})
    assert (given.destination, given.ignored_headers) == ("s3://models", [])


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"oauthTokenUrl": "http://evil"}, "oauthTokenUrl, which belongs to the connection c"),
        ({"oauthClientSecret": "x"}, "oauthClientSecret, which belongs to the connection c"),
        ({"jobAPI": "http://evil"}, "jobAPI, which belongs to the connection c"),
        ({"jobName": "a", "job_name": "b"}, "config has job_name twice"),
        ("{'env': []}", "config is a text that is not JSON"),
        ("[1]", "config is a list"),
    ],
)
def test_config_that_cannot_be(config, sentence):
    with pytest.raises(InvalidJob, match=sentence):
        job(config=config)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"job_resources": {"cpus": 1, "gpus": 0, "memory": "2048M"}}, "^job_resources.memory cannot be '2048M'"),
        ({"job_resources": {"cpu": 1}}, "^job_resources.cpu is not a known field"),
        ({"job_name": "../x"}, "^job_name cannot be '../x'"),
        ({"data_input": {"../x": ""}}, r"^data_input\['../x'\] cannot be a file's name"),
        ({"data_input": {"/etc/x": ""}}, r"^data_input\['/etc/x'\] cannot be a file's name"),
        ({"data_input": {"x": 5}}, r"^data_input\['x'\] is a int"),
        ({"data_input": ["x"]}, "^data_input is a list"),
        ({"data_input": "a,b\n1,2\n"}, "^data_input is a text that is not JSON"),
        ({"env": [{"nam": "x"}]}, "^env"),
        ({"python_major_version": 4}, "^python_major_version"),
        ({"script": ""}, "^script"),
        ({"script": 5}, "^script is a int"),
        ({"script": "gone.py"}, r"^script /nowhere/gone.py cannot be read: No such file"),
        ({"script": Path("gone.py")}, r"^script /nowhere/gone.py cannot be read: No such file"),
        ({"script": "../gone.py"}, "is not beside the DAG file"),
        ({"script": "/etc/gone.py"}, "is not beside the DAG file"),
    ],
)
def test_a_job_that_cannot_be(changes, sentence):
    with pytest.raises(InvalidJob, match=sentence):
        job(**changes)


@pytest.mark.parametrize("name", ["train.py", "scripts/train.py"])
def test_a_script_beside_the_dag(tmp_path, name):
    source = "x = {'{{': 1}  # {# unharmed #}\r\n"
    (tmp_path / "scripts").mkdir()
    (tmp_path / name).write_bytes(source.encode())
    paths = (name, f" {name}\n", Path(name), tmp_path / name, ObjectStoragePath(f"file://{tmp_path / name}"))
    assert [read_script(path, tmp_path) for path in paths] == [source] * len(paths)


def test_source_text_that_ends_like_a_file_name_is_source_text(tmp_path):
    source = "import os\n# see main.py"
    assert read_script(source, tmp_path) == source


def test_a_script_that_is_no_text(tmp_path):
    (tmp_path / "train.py").write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidJob, match="is not UTF-8"):
        read_script("train.py", tmp_path)


def test_a_relative_path_of_data_begins_at_the_dag(tmp_path):
    (tmp_path / "rows.csv").write_text("1\n")
    made = job(tmp_path, data_input={"rows.csv": Path("rows.csv"), "text": "rows.csv", "raw": b"\0"})
    assert made.data == {"rows.csv": tmp_path / "rows.csv", "text": "rows.csv", "raw": b"\0"}


@given(st.text(max_size=300), st.text(max_size=300))
def test_any_dag_has_a_job_name(dag_id, task_id):
    import re

    assert re.fullmatch(NAME, default_name(dag_id, task_id))


def test_metric_definitions_may_be_json_and_come_with_the_run():
    definitions = [{"name": "loss", "regex": "L: (.*)"}]
    assert parameters().metric_definitions is None
    assert parameters(metric_definitions=[]).metric_definitions == []
    assert parameters(metric_definitions=tuple(definitions)).metric_definitions == definitions
    given = parameters(config={"metric_definitions": json.dumps(definitions)})
    assert (given.metric_definitions, given.ignored_headers) == (definitions, [])
    with pytest.raises(InvalidJob, match="metric_definitions is a text that is not JSON"):
        _ = parameters(metric_definitions="loss: (.*)").metric_definitions


@pytest.mark.parametrize(
    ("given", "lines"),
    [(None, []), ("", []), ("a==1\nb\n", ["a==1", "b"]), (["a==1", "b"], ["a==1", "b"]), (("a\nb",), ["a", "b"])],
)
def test_requirements_may_be_a_text_or_a_list(given, lines):
    assert job(requirements=given).requirements.splitlines() == lines


def test_arguments_and_nodes():
    made = job(arguments='["--epochs", 5]', nodes="2")
    assert (made.arguments, made.nodes) == (("--epochs", "5"), 2)
    assert job(arguments="") == job(arguments=[]) == job()
