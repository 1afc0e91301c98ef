# SPDX-License-Identifier: Apache-2.0
"""Folders of code, arguments in every form, and folders of data: from an operator to a real server's job."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG, literal

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.operators.parameters import Parameters
from airflow_provider_jobapi.operators.paths import bundle_of
from airflow_provider_jobapi.operators.training import SubmitTrainingOperator
from airflow_provider_jobapi.training.job_file import digest_of
from tests.harness.packages import write_wheel
from tests.harness.tries import AirflowFailException, Task

PROJECT = {
    "train.py": "from nets.run import main\n\nmain()\n",
    "nets/__init__.py": "",
    "nets/layers.py": "WIDTH = 3\n",
    "nets/run.py": (
        "import json, os, pathlib, sys\n"
        "from . import layers\n"
        "from .layers import WIDTH\n\n\n"
        "def main():\n"
        "    files = sorted(p.as_posix() for p in pathlib.Path().rglob('*') if p.is_file() and p.suffix != '.pyc')\n"
        "    said = {'config': open('config.yaml').read(), 'width': WIDTH, 'arguments': sys.argv[1:], 'files': files}\n"
        "    print(json.dumps(said | {'token': os.environ.get('SERVICE_TOKEN'), 'epochs': os.environ.get('EPOCHS')}))\n"
        "    model = pathlib.Path(os.environ['MODEL_DIR'])\n"
        "    model.mkdir(exist_ok=True)\n"
        "    (model / 'saved_model.pb').write_bytes(b'graph')\n\n\n"
        "if __name__ == '__main__':\n"
        "    main()\n"
    ),
    "config.yaml": "rate: 0.1\n",
    ".gitignore": "*.ckpt\n/runs/\n",
    "old.ckpt": "x",
    "runs/1/log.txt": "x",
    ".env": "KEY=1\n",
    "nets/__pycache__/x.pyc": "x",
}


@pytest.fixture
def dags(tmp_path: Path) -> Path:
    """A bundle with a DAG's folder, a project beside the DAG and one at the root, and rows."""
    root = tmp_path / "bundle"
    for place in (root / "dags" / "project", root / "shared"):
        for path, text in PROJECT.items():
            (place / path).parent.mkdir(parents=True, exist_ok=True)
            (place / path).write_text(text)
    for path in ("rows/a.csv", "rows/2026/b.csv", "rows/notes.txt"):
        (root / "dags" / path).parent.mkdir(parents=True, exist_ok=True)
        (root / "dags" / path).write_text(f"{path}\n")
    return root / "dags"


def task_in(dags: Path, **parameters: Any) -> Task:
    """A task whose DAG file is in a folder, inside a bundle."""

    class Here(Task):
        def operator(self) -> SubmitTrainingOperator:
            operator = super().operator()
            operator.dag.fileloc = str(dags / "dag.py")
            operator.dag.relative_fileloc = "dags/dag.py"
            return operator

    return Here(deferrable=False, script=None, **parameters)


def said(server: Any, task: Task) -> dict[str, Any]:
    lines = [line.partition(" ")[2] for line in server.job_log(task.job_id).splitlines()]
    return json.loads(next(line for line in lines if line.startswith("{")))


def test_a_folder_trains_in_one_line(connected, dags, capsys):
    task = task_in(dags, source="project")
    result = task.run()
    assert result["status"] == "SUCCESSFUL"
    told = said(connected, task)
    assert told == {
        "config": "rate: 0.1\n",
        "width": 3,
        "arguments": [],
        "files": ["config.yaml", "nets/__init__.py", "nets/layers.py", "nets/run.py", "train.py"],
        "token": None,
        "epochs": None,
    }
    assert result["data_version"] is None, "code is no data"
    assert task.xcoms["training_facts"]["entry_point"] == "train.py"
    assert task.xcoms["training_facts"]["data"] == []
    files = [(path, hashlib.sha256(PROJECT[path].encode()).hexdigest()) for path in told["files"]]
    assert task.xcoms["training_facts"]["code_version"] == digest_of(files)
    log = capsys.readouterr().out
    assert "source: 5 files, 643 bytes; left out: .env, old.ckpt, runs." in log
    assert "source: What looks like a secret is left out: .env. Pass secrets by env_vars" in log


def test_a_module_with_arguments_variables_and_data(connected, dags):
    task = task_in(
        dags,
        source="../shared",
        entry_point="-m nets.run",
        env={"EPOCHS": 3},
        env_vars={"SERVICE_TOKEN": "s e"},
        arguments=["rows", {"Layers": [64, 32], "tag": [["a"], ["b"]], "amp": None, "rate": -0.5, "debug": False}],
        data_input={"rows": Path("rows"), "csv": Path("rows/*.csv"), "all": dags / "rows" / "**" / "*.csv"},
    )
    result = task.run()
    told = said(connected, task)
    assert told["arguments"] == [
        *("--epochs=3", "rows", "--Layers", "64", "32", "--tag=a", "--tag=b", "--amp", "--rate=-0.5")
    ]
    assert (told["token"], told["epochs"]) == ("s e", "3")
    data = ["all/2026/b.csv", "all/a.csv", "csv/a.csv", "rows/2026/b.csv", "rows/a.csv", "rows/notes.txt"]
    assert [path for path in told["files"] if path.split("/")[0] in {"all", "csv", "rows"}] == data
    assert [each["name"] for each in task.xcoms["training_facts"]["data"]] == data
    assert result["data_version"] == task.xcoms["training_facts"]["data_version"] is not None
    again = task_in(dags, source="project", data_input=task.parameters["data_input"])
    (dags / "project" / "train.py").write_text("print({})\n")
    assert again.run()["data_version"] == result["data_version"], "other code, the same data"


def test_a_folder_that_is_a_package_itself(connected, dags):
    nets = dags / "project" / "nets"
    shutil.copy(dags / "project" / "config.yaml", nets)
    task = task_in(dags, source=nets, entry_point="nets/run.py")
    with pytest.raises(AirflowFailException, match=r"entry_point 'nets/run.py' is not among .*did you mean run.py"):
        task.run()
    with pytest.raises(AirflowFailException, match=r"relative import in line 2.* give entry_point='-m nets.run'"):
        task_in(dags, source=nets, entry_point="run.py").run()
    task = task_in(
        dags,
        source=nets,
        entry_point="-m nets.run",
        data_input={"config.yaml": Path("project/config.yaml")},
    )
    assert task.run()["status"] == "SUCCESSFUL"
    assert said(connected, task)["width"] == 3


def test_a_package_named_model_is_no_model(connected, dags):
    (dags / "nets" / "model").mkdir(parents=True)
    (dags / "nets" / "model" / "__init__.py").write_text("NAME = 'digits'\n")
    (dags / "nets" / "train.py").write_text(
        "import os, pathlib\nfrom model import NAME\n"
        "place = pathlib.Path(os.environ['MODEL_DIR'])\nplace.mkdir(exist_ok=True)\n"
        "(place / f'{NAME}.bin').write_bytes(b'weights')\nprint('{}')\n"
    )
    task = task_in(dags, source="nets")
    assert task.run()["status"] == "SUCCESSFUL"
    model = connected.request("GET", f"/api/v2/jobs/{task.job_id}/model").json()["model"]
    assert [each["path"] for each in model["files"]] == ["digits.bin"]
    assert model["path"] == "model_"


def test_wheels_are_installed_from_the_files_of_the_job(connected, dags):
    """As a line of requirements.txt, whether the wheel is in the folder, data, or given as a path."""
    script = "import json, ours\nprint(json.dumps({'ours': ours.X}))\n"
    for number, place in enumerate((dags / "folder" / "dist", dags / "wheels", dags / "other")):
        place.mkdir(parents=True)
        name = write_wheel(place, "ours", module=f"X = {number}\nif __name__ == '__main__':\n    print('ours ran')\n")
    (dags / "folder" / "train.py").write_text(script)
    (dags / "folder" / "requirements.txt").write_text(f"./dist/{name}\n")
    (dags / "script.py").write_text(script)
    in_folder = task_in(dags, source="folder")
    in_folder.run()
    assert said(connected, in_folder) == {"ours": 0}
    as_data = task_in(dags, source="folder", data_input={f"w/{name}": Path("wheels") / name}, requirements=f"w/{name}")
    as_data.run()
    assert said(connected, as_data) == {"ours": 1}
    as_code = task_in(
        dags, source=Path("other") / name, entry_point="-m ours", requirements=["six; python_version < '3'"]
    )
    as_code.run()
    assert "ours ran" in connected.job_log(as_code.job_id)
    for place, number in (("wheels", 1), ("other", 2)):  # the same requirements, other wheels
        as_path = task_in(dags, source="folder", requirements=[Path(place) / name])
        as_path.run()
        assert said(connected, as_path) == {"ours": number}


def test_a_wrong_folder_submits_nothing(connected, dags):
    (dags / "project" / "leads away").symlink_to("/etc")
    with pytest.raises(AirflowFailException, match=r"^source .*has leads away, which is a link to /etc, outside"):
        task_in(dags, source="project").run()


# Names that begin at the DAG file


def parameters(dags: Path, **given: Any) -> Parameters:
    from tests.operators.test_parameters import DEFAULTS

    given = DEFAULTS | {"script": None} | given
    return Parameters(given, conn_id="c", default_name="d", folder=dags, bundle=dags.parent)


@pytest.mark.parametrize("source", ["project", "project/", "./project", " project\n", Path("project"), "../shared"])
def test_a_folder_by_its_name_beside_the_dag(dags, source):
    assert parameters(dags, source=source).job.entry_point == "train.py"


def test_a_name_leads_to_no_folder_outside_of_the_bundle(dags, tmp_path):
    (dags / "away").symlink_to(tmp_path)
    for source in ("../..", "/etc", "away", "~"):
        with pytest.raises(InvalidJob, match=r"^source .* is outside of the DAG's bundle|does not exist"):
            _ = parameters(dags, source=source).job
    assert parameters(dags, source=tmp_path / "bundle" / "shared").job.entry_point == "train.py"


def test_config_names_folder_entry_point_and_variables(dags):
    config = {"source": "../shared", "entry_point": "-m nets.run", "env_vars": {"A": 1}, "arguments": {"B": [1, 2]}}
    given = parameters(dags, source="project")
    given = Parameters(
        given.given | {"config": None}, config, conn_id="c", default_name="d", folder=dags, bundle=dags.parent
    )
    assert given.ignored_headers == []
    assert given.job.command() == "python3 -m nets.run --B 1 2"
    assert [each.name for each in given.job.env_vars] == ["A"]


def test_a_module_of_the_requirements_or_of_a_wheel(dags):
    installed = parameters(dags, entry_point="-m nets.run", requirements="nets==1.0").job
    assert installed.command() == "pip3 install -r requirements.txt && python3 -m nets.run"
    wheel = "nets-1.0-py3-none-any.whl"
    (dags / wheel).write_bytes(b"x")
    shipped = parameters(dags, source=wheel, entry_point="-m nets.run", requirements="six\n").job
    assert shipped.files() == {wheel: dags / wheel, "requirements.txt": f"six\n./{wheel}\n"}
    with pytest.raises(InvalidJob, match=r"is a wheel: name what of it is run, such as entry_point="):
        _ = parameters(dags, source=wheel).job
    with pytest.raises(InvalidJob, match=r"^entry_point needs source, the folder that it is in"):
        _ = parameters(dags, entry_point="train.py").job


def test_the_requirements_of_the_folder_are_those_of_the_job(dags):
    (dags / "project" / "requirements.txt").write_text("six==1.17.0\n")
    assert parameters(dags, source="project").job.requirements == "six==1.17.0\n"
    assert parameters(dags, source="project", requirements="numpy").job.files()["requirements.txt"] == "numpy\n"


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ([Path("rows/*.csv")], ["rows/a.csv"]),
        (["rows/*.csv", "rows/2026"], ["rows/2026/b.csv", "rows/a.csv"]),
        ('["rows/notes.txt"]', ["rows/notes.txt"]),
        (Path("rows"), ["rows/2026/b.csv", "rows/a.csv", "rows/notes.txt"]),
        ([Path("./rows/./a.csv")], ["rows/a.csv"]),
        ([Path("../dags/rows/a.csv")], ["a.csv"]),
        ([Path("../dags/rows/*.csv")], ["a.csv"]),
    ],
)
def test_paths_of_data_without_names_keep_their_own(dags, given, names):
    assert sorted(parameters(dags, source="project", data_input=given).job.data) == names


def test_absolute_paths_of_data_keep_their_last_name(dags):
    given = [dags / "rows", dags / "rows" / "*.csv"]
    names = ["a.csv", "rows/2026/b.csv", "rows/a.csv", "rows/notes.txt"]
    assert sorted(parameters(dags, source="project", data_input=given).job.data) == names


def test_data_that_matches_nothing(dags):
    with pytest.raises(InvalidJob, match=r"^data_input\['x'\] matches no file: there is none at .*/rows/\*.parquet"):
        _ = parameters(dags, source="project", data_input={"x": Path("rows/*.parquet")}).job


def test_the_bundle_of_a_dag():
    def dag(fileloc: str, relative: str | None) -> Any:
        return SimpleNamespace(fileloc=fileloc, relative_fileloc=relative)

    assert bundle_of(dag("/b/dags/x.py", "dags/x.py")) == Path("/b")
    assert bundle_of(dag("/b/dags/x.py", "x.py")) == Path("/b/dags")
    for relative in (None, "", "other/x.py", "/b/dags/x.py", "a/b/dags/x.py"):
        assert bundle_of(dag("/b/dags/x.py", relative)) == Path("/b/dags")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"source": "project", "entry_point": "nb.ipynb"}, "jupyter nbconvert --to script nb.ipynb"),
        ({"source": "nb.ipynb"}, "jupyter nbconvert --to script nb.ipynb"),
        ({"source": "train.py"}, "^source 'train.py' is a script: give it as script"),
        ({"source": "s3://bucket/project"}, r"give ObjectStoragePath\('s3://bucket/project'\)"),
        ({"source": 5}, "^source is a int"),
        ({"source": {"train.py": ""}}, "^source is a dict"),
        ({"source": "project", "entry_point": "train.sh"}, "^entry_point cannot be 'train.sh'"),
    ],
)
def test_what_cannot_be_is_refused_when_the_dag_is_parsed(given, sentence):
    with DAG("d", schedule=None), pytest.raises(InvalidJob, match=sentence):
        SubmitTrainingOperator(task_id="t", **given)


def test_templates_choose_folder_and_entry_point():
    with DAG("d", schedule=None):
        operator = SubmitTrainingOperator(
            task_id="t",
            source="projects/{{ params.project }}",
            entry_point="{{ params.entry }}",
            arguments={"lr": "{{ params.lr }}"},
            env_vars=literal({"A": "{{ b }}"}),
        )
    operator.render_template_fields({"params": {"project": "p", "entry": "-m a.b", "lr": 0.5}})
    assert (operator.source, operator.entry_point, operator.arguments) == ("projects/p", "-m a.b", {"lr": "0.5"})
    assert operator.env_vars == {"A": "{{ b }}"}


@pytest.mark.parametrize(
    ("given", "hidden"),
    [
        ({"env_vars": {"API_TOKEN": 1234567}}, {("1234567", "API_TOKEN")}),
        ({"env_vars": [{"name": "API_TOKEN", "value": "s3cr3t"}]}, {("s3cr3t", "API_TOKEN")}),
        ({"arguments": {"api-token": "s3cr3t", "lr": 1}}, {("s3cr3t", "api_token")}),
        ({"arguments": {"--api-token": ["one", ["two"]]}}, {("one", "api_token"), ("two", "api_token")}),
        ({"arguments": ["data.csv", {"api_token": 1234567}]}, {("1234567", "api_token")}),
        ({"arguments": [{"name": "api-token", "value": "s3cr3t"}]}, {("s3cr3t", "api_token")}),
        ({"arguments": '{"api_token": "s3cr3t"}'}, {("s3cr3t", "api_token")}),
        ({"config": {"env_vars": {"API_TOKEN": 7654321}}}, {("7654321", "API_TOKEN")}),
        ({"config": {"arguments": {"api_token": "s3cr3t"}}}, {("s3cr3t", "api_token")}),
    ],
)
def test_secrets_in_variables_and_options_are_hidden(mocker, given, hidden):
    mask = mocker.patch("airflow.sdk.log.mask_secret")
    with DAG("d", schedule=None):
        operator = SubmitTrainingOperator(task_id="t", script="print(1)", **given)
    operator.render_template_fields({})
    assert hidden <= {call.args for call in mask.call_args_list}
    assert not re.search(r": \d{7}", f"{operator.env_vars} {operator.arguments} {operator.config}"), (
        "Airflow hides no number"
    )
