# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.training.job import TrainingJob, data_files, data_version
from airflow_provider_jobapi.training.job_features import check_features, features_of
from airflow_provider_jobapi.training.job_file import InputFile, JobFile

MINIMAL = {"name": "digits", "script": "print('hello')"}
PRINTABLE = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=60)


def test_the_documented_env_example_becomes_an_argument():
    job = TrainingJob.of(**MINIMAL, env=[{"name": "TEST_DATA", "value": "..."}])
    assert job.command() == "python3 train.py --test_data=..."


def test_arguments_follow_those_of_env():
    job = TrainingJob.of(**MINIMAL, env={"A": 1}, arguments=["--b", 2, "c d"])
    assert job.command() == "python3 train.py --a=1 --b 2 'c d'"


def test_a_job_may_have_no_script():
    job = TrainingJob.of(name="digits", image="trainer:1", arguments=["--epochs=5"], nodes=2)
    assert job.files() == {}
    with pytest.raises(InvalidJob, match=r"^script is missing"):
        job.job_file([])


@pytest.mark.parametrize("nodes", [0, 1.5, "many"])
def test_nodes_is_a_whole_number_from_one(nodes):
    with pytest.raises(InvalidJob, match=r"^nodes cannot be .*: it is a whole number of machines from 1"):
        TrainingJob.of(**MINIMAL, nodes=nodes)


@pytest.mark.parametrize(
    ("version", "command"),
    [
        (3, "pip3 install -r requirements.txt && python3 train.py"),
        (2, "pip install -r requirements.txt && python train.py"),
    ],
)
def test_the_major_version_chooses_pip_and_python(version, command):
    job = TrainingJob.of(**MINIMAL, requirements="tensorflow==1.4.0", python_major_version=version)
    assert job.command() == command


@settings(max_examples=60)
@given(st.lists(PRINTABLE, min_size=1, max_size=5))
def test_a_shell_gives_the_script_exactly_the_values(values):
    job = TrainingJob.of(**MINIMAL, env=[{"name": f"V{i}", "value": value} for i, value in enumerate(values)])
    script = f"printf '%s\\0' {job.command().removeprefix('python3 train.py')}"
    out = subprocess.run(["/bin/sh", "-c", script], capture_output=True, check=True).stdout
    assert out.decode().split("\0")[:-1] == [f"--v{i}={value}" for i, value in enumerate(values)]


def test_env_values_of_numbers_and_truth_become_texts_in_their_order():
    job = TrainingJob.of(**MINIMAL, env={"B": 50, "A": 0.00003, "C": True})
    assert shlex.split(job.command())[2:] == ["--b=50", "--a=3e-05", "--c=True"]


def test_files_hold_the_script_the_requirements_and_the_data():
    job = TrainingJob.of(**MINIMAL, requirements=["numpy", "pandas"], data={"data/a.csv": b"1,2", "b.txt": "text"})
    assert job.files() == {
        "train.py": "print('hello')",
        "requirements.txt": "numpy\npandas\n",
        "data/a.csv": b"1,2",
        "b.txt": "text",
    }


def test_braces_in_a_script_are_python():
    script = 'x = f"{{literal}}"  # {# not a comment #} {% nor a block %}'
    assert TrainingJob.of(name="a", script=script).files()["train.py"] == script


@pytest.mark.parametrize(
    ("fields", "field", "part"),
    [
        ({"name": ""}, "name", "letters"),
        ({"name": "../up"}, "name", "letters"),
        ({"script": ""}, "script", "source text"),
        ({"resources": {"memory": "2048"}}, "resources.memory", "without quotes"),
        ({"resources": {"cpus": 0}}, "resources.cpus", "from 1"),
        ({"resources": {"gpus": -1}}, "resources.gpus", "from 0"),
        ({"resources": {"cpus": True}}, "resources.cpus", "whole number"),
        ({"resources": {"ram": 1}}, "resources.ram", "cpus, gpus, memory"),
        ({"env": [{"name": "A=B", "value": 1}]}, "env[0].name", "letters"),
        ({"requirements": {"index": "https://user:s3cr3t@h"}}, "requirements", "pip requirements"),
        ({"requirements": "-i https://user:s3cr3t@h\0"}, "requirements", "it has a NUL at character 25"),
        ({"env": {"API_TOKEN": "s3cr3t\0"}}, "env[0].value", "cannot be this text"),
        ({"env": {"API_TOKEN": ["s3cr3t"]}}, "env[0].value", "cannot be this list"),
        ({"env": "API_TOKEN=s3cr3t"}, "env", "cannot be this text"),
        ({"arguments": ["--token=s3cr3t\0"]}, "arguments[0]", "cannot be this text: it has a NUL at character 15, "),
        (
            {"arguments": ["a\ud800"]},
            "arguments[0]",
            "half a surrogate pair, \\ud800, at character 2",
        ),
        (
            {"env_vars": {"A": "a\udcff"}},
            "env_vars[0].value",
            "the byte 0xff at character 2, which is",
        ),
        ({"arguments": [["s3cr3t"]]}, "arguments[0]", "cannot be this list"),
        ({"env_vars": {"API_TOKEN": ["s3cr3t"]}}, "env_vars[0].value", "cannot be this list"),
        ({"env": [{"name": "A", "value": None}]}, "env[0].value", "text or a number"),
        ({"env": [{"name": "A", "value": "1"}, {"name": "a", "value": "2"}]}, "env", "twice"),
        ({"python_major_version": 4}, "python_major_version", "2 or 3"),
        ({"completion_time": None}, "completion_time", "20h"),
        ({"data": {"../secret": b""}}, "data['../secret']", "relative path"),
        ({"data": {"/etc/passwd": b""}}, "data['/etc/passwd']", "relative path"),
        ({"data": {"a\\b": b""}}, "data['a\\\\b']", "relative path"),
        ({"data": {"train.py": b""}}, "data['train.py']", "another name"),
        ({"data": {"x": 3}}, "data['x']", "must be a text"),
        ({"colour": "blue"}, "colour", "known ones"),
    ],
)
def test_an_error_names_the_field_and_says_what_is_allowed(fields, field, part):
    with pytest.raises(InvalidJob) as caught:
        TrainingJob.of(**{**MINIMAL, **fields})
    assert caught.value.field == field
    assert part in str(caught.value)
    assert field in str(caught.value)
    assert "s3cr3t" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_path_is_a_source_of_data(tmp_path: Path):
    assert TrainingJob.of(**MINIMAL, data={"x.csv": tmp_path}).data == {"x.csv": tmp_path}


def test_the_job_file_of_a_job_is_read_back_equal():
    job = TrainingJob.of(**MINIMAL, env={"A": "ü\n'"}, completion_time=10_000, resources={"cpus": 2})
    files = [InputFile(path=name, size=1, sha256="0" * 64) for name in ("train.py", "b", "a")]
    job_file = job.job_file(files)
    assert JobFile.parse(job_file.canonical()) == job_file
    assert [file.path for file in job_file.job.inputs or ()] == ["a", "b", "train.py"]


def test_variables_that_are_no_arguments():
    job = TrainingJob.of(**MINIMAL, env={"A": 1, "PATH": "/x"}, env_vars={"Token": "x y", "B": 2})
    assert job.command() == "python3 train.py --a=1 --path=/x"
    assert [(each.name, each.value) for each in job.job_file([]).job.env] == [("A", "1"), ("Token", "x y"), ("B", "2")]


def inputs(job: TrainingJob) -> list[InputFile]:
    return [InputFile(path=path, size=1, sha256="0" * 64) for path in job.files()]


SOURCE = {"train.py": "", "lib/__init__.py": "", "lib/run.py": "", "config.yaml": "", "requirements.txt": "six"}


def test_a_folder_of_code_is_no_data():
    job = TrainingJob.of(name="a", source=SOURCE, data={"rows/a.csv": "1"})
    assert job.command() == "pip3 install -r requirements.txt && python3 train.py"
    file = job.job_file(inputs(job)).job
    code = ["config.yaml", "lib/__init__.py", "lib/run.py", "train.py"]
    assert [each.path for each in file.inputs or () if each.code] == code
    assert [each.path for each in data_files(file.inputs or ())] == ["rows/a.csv"]
    with_other_code = TrainingJob.of(name="a", source={"train.py": ""}, data={"rows/a.csv": "1"})
    assert data_version(with_other_code.job_file(inputs(with_other_code)).job.inputs or ()) == data_version(
        file.inputs or ()
    )


def test_a_server_that_knows_no_folder_is_sent_none():
    job = TrainingJob.of(name="a", source=SOURCE)
    with pytest.raises(InvalidJob, match=r"does not know source \(a folder of code\): leave it out"):
        check_features(job.job_file(inputs(job)), {"other"})
    check_features(job.job_file(inputs(job)), features_of(JobFile))


def test_a_job_without_a_folder_has_no_new_field():
    job = TrainingJob.of(**MINIMAL, data={"a.csv": "1"}, env={"A": 1})
    text = job.job_file(inputs(job)).canonical()
    assert b"code" not in text
    assert job == TrainingJob.of(**MINIMAL, data={"a.csv": "1"}, env={"A": 1}, env_vars={}, source={}, arguments={})


def test_a_module_is_run_with_its_arguments():
    job = TrainingJob.of(name="a", source=SOURCE, entry_point="-m lib.run", env={"A": 1}, arguments={"B": [1, 2]})
    assert job.command() == "pip3 install -r requirements.txt && python3 -m lib.run --a=1 --B 1 2"
    assert job.files() == SOURCE


def test_a_script_runs_beside_a_folder_of_modules():
    job = TrainingJob.of(**MINIMAL, source={"lib.py": "x", "requirements.txt": "six"}, requirements="numpy")
    assert job.command() == "pip3 install -r requirements.txt && python3 train.py"
    assert job.files() == {"train.py": "print('hello')", "lib.py": "x", "requirements.txt": "numpy\n"}


def test_a_script_beside_a_folder_with_one_of_its_name():
    job = TrainingJob.of(**MINIMAL, source=SOURCE | {"train_.py": ""})
    assert job.command() == "pip3 install -r requirements.txt && python3 train__.py"
    assert job.files() == {**SOURCE, "train_.py": "", "train__.py": "print('hello')"}
    assert data_files(job.job_file(inputs(job)).job.inputs or ()) == ()


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"script": "x", "source": SOURCE, "data": {"train_.py": ""}}, r"^data\['train_.py'\] would replace a file"),
        ({"script": "x", "source": SOURCE, "entry_point": "train.py"}, "^script and entry_point are both given"),
        ({"entry_point": "train.py"}, "^entry_point needs source"),
        ({"source": {"a.py": "", "b.py": ""}}, "^entry_point is missing: source has no train.py"),
        ({"source": SOURCE, "data": {"config.yaml": ""}}, r"^data\['config.yaml'\] would replace a file of source"),
        ({"source": {"../a": ""}}, r"^source\['../a'\] cannot be a file's name"),
        ({"source": {"train.py": 5}}, r"^source\['train.py'\] is a int"),
        ({"script": '{"cells": [], "nbformat": 4}'}, "^script is the content of a notebook.* `jupyter nbconvert"),
    ],
)
def test_code_that_cannot_be(fields, sentence):
    with pytest.raises(InvalidJob, match=sentence):
        TrainingJob.of(name="a", **fields)
