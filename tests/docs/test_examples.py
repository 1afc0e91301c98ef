# SPDX-License-Identifier: Apache-2.0
"""The Python examples of the pages run as copied, or say in their first line what they need."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_provider_jobapi.training import jobapi_metrics
from tests.harness.airflow import settings

ROOT = Path(__file__).parents[2]
SCRIPT = """\
print("epoch 1 loss=0.5")
print("Train_error=0.25; Valid_error=0.5;")
"""
NEEDS = ("# Needs ", "# What ")


def _examples() -> list[pytest.param]:
    found = []
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        if page.stem != "tutorial":  # which tests/docs/test_tutorial.py follows word by word
            text = page.read_text()
            for block in re.finditer(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
                line = text[: block.start()].count("\n") + 1
                found.append(pytest.param(block[1], id=f"{page.stem}-{line}"))
    return found


RUN = """
import json, sys
from pathlib import Path
from tests.harness.inline import Inline
inline = Inline(Path(sys.argv[1]))
states = {name: inline.run(name).state for name in inline.dags if name not in sys.argv[3:]}
Path(sys.argv[2]).write_text(json.dumps(states))
"""


@pytest.fixture(scope="module")
def states(tmp_path_factory, jobapi_server) -> dict[str, str]:
    """The states in which the DAGs end, in an Airflow with the examples as its only DAGs."""
    home = tmp_path_factory.mktemp("examples")
    dags, answer = home / "dags", home / "states.json"
    dags.mkdir()
    (dags / "train.py").write_text(SCRIPT)
    (dags / ".airflowignore").write_text("train.py\n")
    for param in _examples():
        (example,) = param.values
        if "with DAG(" in example:
            (dags / f"example_{param.id}.py").write_text(example.replace("file:///tmp/", f"file://{home}/"))
    sources = [str(param.values[0]) for param in _examples()]
    unready = [name for source in sources if source.startswith(NEEDS) for name in re.findall(r'DAG\("(\w+)"', source)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")}
    environment |= settings(home, dags) | {"AIRFLOW_CONN_JOBAPI_DEFAULT": json.dumps(jobapi_server.connection)}
    command = [sys.executable, "-c", RUN, str(dags), str(answer), *unready]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, str] = json.loads(answer.read_text())
    return found


@pytest.mark.parametrize("example", _examples())
def test_an_example_runs_as_copied(states, monkeypatch, tmp_path, example):
    code = compile(example, "example", "exec")
    if example.startswith(NEEDS):
        return
    if found := re.search(r'with DAG\("(\w+)"', example):
        assert states[found[1]] == "success"
        return
    shutil.copy(jobapi_metrics.__file__, tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    exec(code, {})  # noqa: S102 -- what a page shows


def test_there_are_examples():
    assert len(_examples()) > 8
