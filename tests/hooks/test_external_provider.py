# SPDX-License-Identifier: Apache-2.0
"""A provider of another distribution, which is installed and trained with, and of which nothing is known here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from uv import find_uv_bin

from tests.harness.airflow import settings
from tests.harness.command import Command

ROOT = Path(__file__).parents[2]
PROVIDER = ROOT / "tests" / "external_provider"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the distribution is installed."""
    target = tmp_path_factory.mktemp("installed")
    install = [find_uv_bin(), "pip", "install", "--quiet", "--no-deps", "--python", sys.executable, "--target"]
    subprocess.run([*install, str(target), str(PROVIDER)], check=True)
    return target


@pytest.fixture
def environment(installed: Path, tmp_path: Path) -> dict[str, str]:
    """The environment of a process that has the provider and its two connections."""
    extra = {"folder": str(tmp_path / "jobs"), "logs_conn_id": "logs"}
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")},
        **settings(tmp_path / "airflow", PROVIDER / "dags"),
        "PYTHONPATH": os.pathsep.join((str(installed), str(ROOT))),
        "AIRFLOW_CONN_FOLDERS": json.dumps({"conn_type": "folder_training", "extra": extra}),
        "AIRFLOW_CONN_LOGS": json.dumps({"conn_type": "generic", "extra": {"folder": str(tmp_path / "logs")}}),
        "AIRFLOW_CONN_ELSEWHERE": json.dumps({"conn_type": "generic"}),
    }


def run(program: str, environment: dict[str, str], *arguments: str) -> str:
    """Run a Python program to its end; its output."""
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


TRAIN = """
import sys
from pathlib import Path
from tests.harness.inline import Inline
run = Inline(Path(sys.argv[1])).run("train_in_folder")
assert run.states == {"inline": "success", "deferred": "success"}, run.states
"""


FETCH = """
import sys
from folder_training.hook import FolderHook
hook = FolderHook("folders")
handle = hook.service.find(sys.argv[1]).handle
print("fetched", hook.fetch(handle, sys.argv[2], "7").location)
"""


def test_it_trains_from_a_worker_and_from_a_trigger(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "airflow").mkdir()
    shown = run(TRAIN, environment, str(PROVIDER / "dags"))
    jobs = list((tmp_path / "jobs").iterdir())
    assert [(job / "model" / "model.txt").read_text() for job in jobs] == ["trained", "trained"]
    logs = sorted((tmp_path / "logs" / f"{job.name}.log").read_text() for job in jobs)
    assert logs == ["training with --how=deferred\n", "training with --how=inline\n"]
    for line in logs:
        assert line.strip() in shown
    fetched = run(FETCH, environment, jobs[0].name, str(tmp_path / "models"))
    assert f"fetched {(tmp_path / 'models' / '7').as_uri()}" in fetched
    assert (tmp_path / "models" / "7" / "model.txt").read_text() == "trained"


MESSAGE = """
from airflow_provider_jobapi.exceptions import ConnectionProblem
from airflow_provider_jobapi.hooks.base import TrainingHook
try:
    TrainingHook.service_of("elsewhere")
except ConnectionProblem as error:
    print(error)
"""


def test_its_type_is_among_those_that_are_expected(environment: dict[str, str]) -> None:
    types = "folder_training, jobapi, modelarts, sagemaker_ack or train_container"
    expected = f"Connection elsewhere has type 'generic'; expected {types}."
    assert expected in run(MESSAGE, environment)


BROKEN = """
import sys
sys.modules["folder_training.hook"] = None
from airflow_provider_jobapi.exceptions import ConnectionProblem
from airflow_provider_jobapi.hooks.discovery import hook_class_for
try:
    hook_class_for("folder_training", "folders")
except ConnectionProblem as error:
    print(error)
"""


def test_a_hook_that_cannot_be_imported(environment: dict[str, str]) -> None:
    said = run(BROKEN, environment)
    assert "Connection folders has type 'folder_training', whose hook cannot be imported; a warning of" in said


def test_the_command_line_uses_it(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "airflow").mkdir()
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "train.py").write_text("print('begun')\n")
    (tmp_path / "job.yaml").write_text("{job: {name: lines, execution: {command: python3 train.py}}}")
    command = Command(tmp_path, None)
    command.env = environment
    done = command("submit", "-f", "job.yaml", "files", "--follow", "--connection", "folders")
    assert done.code == 0, done.err
    job_id, *log = done.out.splitlines()
    assert log == ["begun"]
    status = command("status", job_id, "--connection", "folders")
    assert "SUCCESSFUL" in status.out
    assert command("logs", job_id, "--connection", "folders").out == "begun\n"
