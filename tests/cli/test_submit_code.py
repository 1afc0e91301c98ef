# SPDX-License-Identifier: Apache-2.0
"""``jobapi submit --source`` and ``--script``: folders, modules, arguments, data and variables, without a job file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from airflow_provider_jobapi.cli.code_options import split_arguments
from tests.harness.packages import write_wheel

RUN = """\
import json, os, pathlib, sys
from .layers import WIDTH
files = sorted(p.as_posix() for p in pathlib.Path().rglob("*") if p.is_file() and p.suffix != ".pyc")
print(json.dumps({"files": files, "arguments": sys.argv[1:], "width": WIDTH, "token": os.environ.get("TOKEN")}))
"""


@pytest.fixture
def project(work: Path) -> Path:
    """A folder of code, other in each test: the id follows from the content."""
    folder = work / "My project"
    files = {
        "train.py": "import nets.run\n",
        "nets/__init__.py": f"# {work}\n",
        "nets/layers.py": "WIDTH = 3\n",
        "nets/run.py": RUN,
        "config.yaml": "a: 1\n",
        ".gitignore": "*.ckpt\n",
        "a.ckpt": "",
        ".env": "A=1\n",
    }
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    for path in ("rows/a.csv", "rows/b.csv", "rows/year=2026/c.csv"):
        (work / path).parent.mkdir(parents=True, exist_ok=True)
        (work / path).write_text(path)
    return folder


CODE = ["config.yaml", "nets/__init__.py", "nets/layers.py", "nets/run.py", "train.py"]


def test_a_folder_is_trained_by_one_command(project, command, jobapi_server):
    done = command("submit", "--source", "My project", "-w", "--", "--epochs", "3", "-v", "--", "x y")
    assert done.code == 0, done.err
    job_id, line = done.out.splitlines()
    assert json.loads(line) == {
        "files": CODE,
        "arguments": ["--epochs", "3", "-v", "--", "x y"],
        "width": 3,
        "token": None,
    }
    assert "The job gets from My project: 5 files, " in done.err
    assert "left out: .env, a.ckpt." in done.err
    assert "What looks like a secret is left out: .env." in done.err
    status = jobapi_server.status(job_id)
    assert (status["name"], status.get("dataVersion")) == ("My-project", None)
    again = command("submit", "--source", "My project", "--", "--epochs", "3", "-v", "--", "x y")
    assert again.out.strip() == job_id
    assert "was submitted before and is" in again.err


def test_a_module_with_data_and_variables(project, command, jobapi_server):
    data = ("--data", "in=rows", "rows/*.csv", "rows/year=2026", "--data", "one.csv=rows/a.csv")
    means = ("--name", "nets", "--cpus", "1", "--memory", "300", "--completion-time", "1h")
    done = command(
        "submit", "--source", "My project", "-m", "nets.run", *data, "--env-var", "TOKEN=a=b", *means, "-w", "-q"
    )
    assert done.code == 0, done.err
    job_id, line = done.out.splitlines()
    told = json.loads(line)
    expected = ["in/a.csv", "in/b.csv", "in/year=2026/c.csv", "one.csv", "rows/a.csv", "rows/b.csv"]
    assert told["files"] == sorted([*CODE, *expected, "rows/year=2026/c.csv"])
    assert (told["arguments"], told["token"]) == ([], "a=b")
    assert jobapi_server.status(job_id)["dataVersion"]
    assert "What looks like a secret" in done.err, "a warning is shown with --quiet, too"
    assert "Its data" not in done.err


def test_a_module_of_a_wheel_and_of_python_itself(work, command):
    name = write_wheel(work, "ours", module=f"# {work}\nprint('ours ran')\n")
    done = command("submit", "--source", name, "-m", "ours", "-w")
    assert done.out.splitlines()[-1] == "ours ran", done.err
    done = command("submit", "-m", "platform", "--name", work.parent.name[-40:].replace("_", "-"), "-w", "--", "terse")
    assert (done.code, len(done.out.splitlines())) == (0, 2), done.err


def test_a_script_alone_and_beside_modules(project, work, command):
    (work / "fit.py").write_text(
        "import sys\ntry:\n    import nets.run\nexcept ImportError:\n    print('alone', sys.argv[1:])\n"
    )
    done = command("submit", "--script", "fit.py", "-w", "--", "1")
    assert done.out.splitlines()[1:] == ["alone ['1']"], done.err
    (project / "train.py").unlink()
    done = command("submit", "--script", "fit.py", "--source", "My project", "-w")
    assert json.loads(done.out.splitlines()[1])["width"] == 3, done.err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "Name the job: by --file"),
        (("--source", "My project", "-f", "job.yaml"), "--file names a job file"),
        (("--script", "x.py", "-f", "job.yaml"), "--file names a job file"),
        (("--source", "My project", "files"), "FOLDER belongs to --file"),
        (("-f", "job.yaml", "files", "--data", "rows"), "--data cannot be used with --file"),
        (("-f", "job.yaml", "files", "-m", "x"), "--module cannot be used with --file"),
        (("--script", "x.py", "--entry-point", "y.py"), "--entry-point cannot be used with --script"),
        (("--source", "gone"), "--source gone does not exist"),
        (("--source", " "), "--source is an empty text"),
        (("--source", "rows"), "--entry-point is missing: --source rows has no train.py"),
        (("--source", "My project", "--entry-point", "nb.ipynb"), "jupyter nbconvert --to script nb.ipynb"),
        (("--source", "nb.ipynb"), "jupyter nbconvert --to script nb.ipynb"),
        (("--script", "nb.ipynb"), "jupyter nbconvert --to script nb.ipynb"),
        (("-f", "nb.ipynb"), "jupyter nbconvert --to script nb.ipynb"),
        (("-f", "notebook.yaml", "files"), "notebook.yaml: job.execution.command 'train.ipynb' is a notebook"),
        (("--script", "gone.py"), "The script gone.py cannot be read"),
        (("--source", "My project", "--data", "rows/*.parquet"), "matches no file: there is none at rows/*.parquet"),
        (("--source", "My project", "--data", "x=s3://b/k"), "is an address: it takes paths of this machine"),
        (("--source", "My project", "--env-var", "A"), "--env-var 'A' has no value: write NAME=VALUE"),
        (("--source", "My project", "--env-var", "PATH=x"), "--env-var cannot set 'PATH'"),
        (
            ("--source", "My project", "--", "\udcff"),
            "(number 1) cannot be this text: it has the byte 0xff",
        ),
        (
            ("--source", "My project", "-m", "fit.go"),
            "-m fit.go is in the folder src of --source, where",
        ),
        (("--source", "My project", "-m", "fit.go"), "Python does not look: add --env-var PYTHONPATH=src."),
        (("--source", "My project", "--entry-point", "nets/run.py"), "of a package: give -m nets.run."),
        (
            ("--source", "My project", "--data", "config.yaml=job.yaml"),
            "config.yaml would replace a file of --source",
        ),
        (("--source", "My project", "--connection", "My project/c.json"), "holds the secret of the connection"),
    ],
)
def test_one_sentence_for_what_cannot_be(project, work, command, jobapi_server, arguments, sentence):
    (work / "notebook.yaml").write_text("job: {name: a, execution: {command: python3 train.ipynb --epochs 3}}\n")
    (project / "c.json").write_text(json.dumps(jobapi_server.connection))
    (project / "c.json").chmod(0o600)
    (project / ".env").unlink()
    (project / "src" / "fit").mkdir(parents=True)
    (project / "src" / "fit" / "go.py").touch()
    done = command("submit", *arguments)
    assert done.code == 2
    assert sentence in done.sentence


@pytest.mark.parametrize(
    ("words", "before", "after"),
    [
        (["submit", "--source", "x", "--", "-a", "--", "b"], ["submit", "--source", "x"], ["-a", "--", "b"]),
        (["submit", "--script=x", "--"], ["submit", "--script=x"], []),
        (["submit", "--sou", "x", "--", "a"], ["submit", "--sou", "x"], ["a"]),
        (["submit", "-m", "x", "--", "a"], ["submit", "-m", "x"], ["a"]),
        (["submit", "-f", "x", "--", "folder"], ["submit", "-f", "x", "--", "folder"], []),
        (["logs", "--", "x"], ["logs", "--", "x"], []),
        ([], [], []),
    ],
)
def test_arguments_of_the_script_follow_two_dashes(words, before, after):
    assert split_arguments(words) == (before, after)
