# SPDX-License-Identifier: Apache-2.0
"""The operator's parameters become a training job, or one clear error."""

from __future__ import annotations

import contextlib
import inspect
import json
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from airflow.sdk import DAG, ObjectStoragePath, literal
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.operators.parameters import PARAMETERS, Parameters, default_name, portable, read_script
from airflow_provider_jobapi.operators.training import SubmitTrainingOperator
from airflow_provider_jobapi.training.job import TrainingJob
from airflow_provider_jobapi.training.job_file import NAME

DEFAULTS = dict.fromkeys([each.name for each in PARAMETERS]) | {
    "script": "print(1)\n",
    "image": "tensorflow/tensorflow:latest",
    "completion_time": "24h",
    "python_major_version": 3,
    "nodes": 1,
    "keep_checkpoints": False,
}


def parameters(folder: Path = Path("/nowhere"), config=None, **changes) -> Parameters:
    return Parameters(DEFAULTS | changes, config, conn_id="c", default_name="default", folder=folder)


def job(folder: Path = Path("/nowhere"), config=None, **changes):
    return parameters(folder, config, **changes).job


def test_every_parameter_is_one_of_the_operator_and_a_field_of_a_job():
    of_operator = set(inspect.signature(SubmitTrainingOperator.__init__).parameters)
    assert {each.name for each in PARAMETERS} <= of_operator
    assert {each.field for each in PARAMETERS} - {None} == set(TrainingJob.model_fields) - {"cycle"}
    for each in PARAMETERS:
        default = inspect.signature(SubmitTrainingOperator.__init__).parameters[each.name].default
        assert each.name == "script" or DEFAULTS[each.name] == default


def test_the_job_to_continue_is_an_id_or_the_result_of_its_task():
    job_id = "6f2d9b0e-53b5-5c8e-9d0f-6a1f2f6f0c1a"
    assert job().resume_from == ""
    for named in (job_id, job_id.upper(), f" {job_id}\n", {"job_id": job_id, "status": "SUCCESSFUL"}):
        assert job(resume_from=named).resume_from == job_id
    assert job(config={"resumeFrom": job_id, "keepCheckpoints": "true"}).keep_checkpoints is True
    for named in ("the-last", 5, {"status": "SUCCESSFUL", "job_id": 5}):
        with pytest.raises(
            InvalidJob, match=r"^resume_from cannot be .*: it is the id of an ended job, a UUID, or the"
        ):
            _ = job(resume_from=named)


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


def test_a_variable_that_the_job_needs_itself_is_an_argument_only():
    made = job(env={"PATH": "/x", "HOME": "/y", "MODEL_DIR": "/z", "TMPDIR": "/t", "PYTHONHOME": "/p", "RATE": 1})
    assert made.command() == (
        "python3 train.py --path=/x --home=/y --model_dir=/z --tmpdir=/t --pythonhome=/p --rate=1"
    )
    assert [each.name for each in made.job_file(()).job.env] == ["RATE"]


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


def test_a_number_beyond_64_bits_reaches_the_script_as_text():
    env = {"SEED": 10**20, "N": [2**63, -(2**63)], "B": True}
    assert portable(env) == {"SEED": "1" + "0" * 20, "N": [str(2**63), -(2**63)], "B": True}
    with DAG("d", schedule=None):
        train = SubmitTrainingOperator(
            task_id="t", script="pass", env=env, arguments=[10**20], config={"env": {"A": 10**20}}
        )
    msgspec.msgpack.encode([train.env, train.arguments, train.config])


@pytest.mark.parametrize(
    ("name", "value", "refused"),
    [
        ("job_resources", {"cpus": 1, "memory": 10**20}, True),
        ("nodes", 10**20, True),
        ("python_major_version", 10**20, True),
        ("completion_time", 10**20, False),  # a free text to the service; the task warns that it limits nothing
        ("service_options", {"flavor": 10**20}, False),
    ],
)
def test_a_number_beyond_64_bits_elsewhere_does_not_lose_the_dag(name, value, refused):
    with DAG("d", schedule=None):
        train = SubmitTrainingOperator(task_id="t", script="pass", **{name: value})
    msgspec.msgpack.encode(getattr(train, name))
    parameters = Parameters.of(train)
    with pytest.raises(InvalidJob, match=name) if refused else contextlib.nullcontext():
        _ = parameters.job


@pytest.mark.parametrize("ending", ["\r\n", "\r", "\n"])
def test_requirements_as_windows_saves_them(tmp_path, ending):
    text = "\ufeffnumpy==1.0" + ending + "six" + ending
    for requirements in (text, ["\ufeffnumpy==1.0", "six" + ending]):
        assert job(requirements=requirements).requirements in ("numpy==1.0\nsix\n", "numpy==1.0\nsix")
    (tmp_path / "more.txt").write_bytes(text.encode())
    assert job(tmp_path, requirements="more.txt").requirements == "numpy==1.0\nsix\n"


def test_requirements_that_name_a_file_beside_the_dag(tmp_path):
    (tmp_path / "requirements.txt").write_text("numpy==1.0\n")
    (tmp_path / "requirements.in").write_text("numpy\n")
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "a"\ndependencies = ["numpy", "six"]\n')
    for name, wanted in {
        "requirements.txt": "numpy==1.0\n",
        " requirements.in\n": "numpy\n",
        "pyproject.toml": "numpy\nsix",
        Path("requirements.txt"): "numpy==1.0\n",
        tmp_path / "requirements.txt": "numpy==1.0\n",
    }.items():
        assert job(tmp_path, requirements=name).requirements == wanted
    for name in ("gone.txt", Path("gone.txt"), Path("gone.toml")):
        with pytest.raises(InvalidJob, match=r"^requirements names the file .*gone.*: No such file"):
            job(tmp_path, requirements=name)
    (tmp_path / "pyproject.toml").write_text("[tool]\n")
    with pytest.raises(InvalidJob, match=r"it has no .project. dependencies"):
        job(tmp_path, requirements="pyproject.toml")


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("train.csv", "/data/big.csv"),
        ("train.csv", "~/big.csv"),
        ("train.csv", "rows/train.csv"),
        ("train.csv", "s3://bucket/big.csv"),
        ("rows", "../rows"),
        ("rows", "C:\\rows"),
        ("rows", "C:/rows"),
        ("rows", "\\\\server\\rows"),
        ("rows", "$HOME/rows"),
        ("rows", "~me/rows"),
        ("rows", "file:/data/rows"),
        ("train.csv", "big.CSV"),
        ("train.csv", "/data/big file.csv"),
        ("train.csv", "größe.csv"),
    ],
)
def test_a_path_given_as_text_is_no_content(name, source):
    with pytest.raises(InvalidJob, match=r"^data_input\['.*'\] is the text .*: give (Path|ObjectStoragePath)\("):
        job(data_input={name: source})
    assert job(data_input={name: source.encode()}).data == {name: source.encode()}


@pytest.mark.parametrize(
    "content", ["a,b\n/x,/y\n", "/", "5", "", "// a comment", "/x y", "model.yaml", "{}", "a.csv,b.csv", "/x.csv\n"]
)
def test_a_text_that_only_holds_a_path_is_content(content):
    assert job(data_input={"train.csv": content}).data == {"train.csv": content}


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        ("train.sh", "'train.sh' is not Python"),
        (Path("train.SH"), "'train.SH' is not Python"),
        ("notebooks/train.ipynb", "`jupyter nbconvert --to script notebooks/train.ipynb`"),
        (Path("my train.IPYNB"), "`jupyter nbconvert --to script 'my train.IPYNB'`"),
        ("-m my.package", "the module's name in entry_point"),
        ("python3 -m my.package", "the module's name in entry_point"),
        ("s3://bucket/train.py", r"ObjectStoragePath\('s3://bucket/train.py'\)"),
        (literal("x"), "^script cannot be the result of another task"),
        ("my train.sh", "'my train.sh' is not Python"),
        ("train", "neither Python nor the name of a .py file"),
        ("src/train", "neither Python nor the name of a .py file"),
        ("train.js", "neither Python nor the name of a .py file"),
        ("{{ params.script }}", "It is never a template"),
        ("python train.py --epochs 3", "nor a command"),
        ("python train.py --lr=3", "nor a command"),
        ("torchrun train.py", "is a command: give the name of the .py file alone"),
        (b"print(1)", "^script is a bytes"),
        (["train.py"], "^script is a list"),
    ],
)
def test_what_is_no_script_is_refused_when_the_dag_is_parsed(script, sentence):
    with DAG("d", schedule=None), pytest.raises(InvalidJob, match=sentence):
        SubmitTrainingOperator(task_id="t", script=script)


@pytest.mark.parametrize(
    "script", ["print(1)", "import train; train.main()", "x = 1", "pass", "print 1", "f'{x}'", "train.PY"]
)
def test_a_line_of_python_is_a_script(script):
    with DAG("d", schedule=None):
        assert SubmitTrainingOperator(task_id="t", script=script).script == script


def test_the_head_of_a_script_is_used_where_nothing_else_is_given(tmp_path):
    script = "# /// script\n# dependencies = ['six']\n# ///\nimport six\n"
    (tmp_path / "train.py").write_text(script)
    for source in (script, "train.py", Path("train.py")):
        assert job(tmp_path, script=source).requirements == "six"
        assert job(tmp_path, script=source, requirements="").requirements == "six"
        assert job(tmp_path, script=source, requirements=[]).requirements == ""
        assert job(tmp_path, script=source, requirements="numpy").requirements == "numpy"
        assert job(tmp_path, {"requirements": "pandas"}, script=source).requirements == "pandas"
    assert job(tmp_path, script=script).command().startswith("pip3 install -r requirements.txt && ")


@pytest.mark.parametrize(
    "given", ["More.TXT", "-r More.TXT", "-rMore.TXT", "--requirement More.TXT", ["More.TXT"], ["-r More.TXT", ""]]
)
def test_requirements_that_name_a_file_in_other_words(tmp_path, given):
    (tmp_path / "More.TXT").write_text("six\n")
    assert job(tmp_path, requirements=given).requirements == "six\n"


@pytest.mark.parametrize("given", ["numpy\nrequirements.txt\n", ["numpy", "requirements.txt"]])
def test_a_file_among_requirements_is_not_asked_of_the_index(given):
    with pytest.raises(InvalidJob, match=r"^requirements has the line 'requirements.txt' among others"):
        job(requirements=given)
    assert job(requirements="numpy\n-r other.txt\n").requirements == "numpy\n-r other.txt\n"


def test_a_script_with_a_capital_ending_and_one_in_an_archive(tmp_path):
    (tmp_path / "train.PY").write_text("pass\n")
    assert job(tmp_path, script="train.PY").script == "pass\n"
    (tmp_path / "dags.zip").write_bytes(b"")
    with pytest.raises(InvalidJob, match="is in an archive"):
        job(tmp_path / "dags.zip", script="train.py")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"job_resources": {"cpus": 1, "gpus": 0, "memory": "2048M"}}, "^job_resources.memory cannot be '2048M'"),
        ({"job_resources": {"cpu": 1}}, "^job_resources.cpu is not a known field"),
        ({"job_name": "../x"}, "^job_name cannot be '../x'"),
        ({"data_input": {"../x": ""}}, r"^data_input\['../x'\] cannot be a file's name"),
        ({"data_input": {"/etc/x": ""}}, r"^data_input\['/etc/x'\] cannot be a file's name"),
        ({"data_input": {"x": 5}}, r"^data_input\['x'\] is a int"),
        ({"data_input": 5}, "^data_input has a int"),
        ({"data_input": [5]}, "^data_input has a int"),
        ({"data_input": ["../x"]}, r"^data_input '../x' is outside of the DAG's bundle /nowhere"),
        ({"env_vars": {"A": 1}, "env": {"A": 1}}, "^env_vars has 'A', which env has as well"),
        ({"env_vars": {"MODEL_DIR": "x"}}, "^env_vars cannot set 'MODEL_DIR'"),
        ({"entry_point": "train.py"}, "^script and entry_point are both given"),
        ({"source": "gone", "script": None}, "^source /nowhere/gone does not exist"),
        (
            {"source": "../x", "script": None},
            "'../x' is outside of the DAG's bundle /nowhere; give it as a Path",
        ),
        ({"source": "/etc", "script": None}, "^source '/etc' is outside of the DAG's bundle"),
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


def test_the_name_of_a_mapped_task_keeps_its_index_in_100_characters():
    short, long = default_name("dag", "train", 7), default_name("d" * 80, "t" * 80, 1_023)
    assert short == "dag-train-7"
    assert long == f"{'d' * 80}-{'t' * 14}-1023"
    assert len(long) == 100
    assert default_name("d" * 80, "t" * 80, -1) == default_name("d" * 80, "t" * 80) == f"{'d' * 80}-{'t' * 19}"


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


@pytest.mark.parametrize("text", ["0", "0s", "0h0m", "PT0S", "-1", "-2h", "- 5 minutes", 0, -1, -0.5, timedelta(0)])
def test_a_completion_time_of_nothing_is_refused(text):
    with DAG("d", schedule=None):
        train = SubmitTrainingOperator(task_id="t", script="pass", completion_time=text)
    with pytest.raises(InvalidJob, match=r"^completion_time cannot be .*: it is a time of more than 0 such as 20h"):
        _ = Parameters.of(train).job


def test_a_blank_completion_time_is_that_of_the_service():
    with DAG("d", schedule=None):
        train = SubmitTrainingOperator(task_id="t", script="pass", completion_time="  ")
    assert Parameters.of(train).job.completion_time == ""


@pytest.mark.parametrize("name", ["timeout", "patience"])
@pytest.mark.parametrize("value", [-1, timedelta(seconds=-1), float("nan"), float("inf"), 10**20, "2h", True])
def test_a_duration_that_is_none_is_refused_with_the_dag(name, value):
    with DAG("d", schedule=None), pytest.raises(InvalidJob, match=f"^{name} cannot be "):
        SubmitTrainingOperator(task_id="t", script="pass", **{name: value})


def test_a_timeout_of_nothing_is_refused_and_a_patience_of_nothing_is_not():
    with DAG("d", schedule=None):
        SubmitTrainingOperator(task_id="t", script="pass", patience=0)
        with pytest.raises(InvalidJob, match=r"^timeout cannot be '0': .* from more than 0 to 3,650 days\.$"):
            SubmitTrainingOperator(task_id="u", script="pass", timeout=0)
