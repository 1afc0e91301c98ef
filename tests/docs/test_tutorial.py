# SPDX-License-Identifier: Apache-2.0
"""Whoever follows the tutorial or the quick start word by word succeeds."""

from __future__ import annotations

import os
import re
import shlex
import sys
import tomllib
from contextlib import suppress
from pathlib import Path

import pytest
import requests
from packaging.requirements import Requirement

from tests.demo import SLOW_MACHINE
from tests.harness.airflow import free_ports
from tests.harness.tutorial import Reader, matches, steps, typed
from tests.harness.waiting import wait_for

DOCS = Path(__file__).parents[2] / "docs"
FOLDERS = {"tutorial": "bikes", "quickstart": "first"}
INSTALLED = ("mkdir bikes", "mkdir first", "python3 -m venv", "pip install", ". venv/bin/activate")
"""What the test's own environment has done."""

LONG = {"jobapi serve": "listens at", "airflow standalone": "Airflow is ready"}


def test_what_a_page_says_is_what_is_typed():
    page = "```{code-block} python\n:caption: a.py\n\nx = 1\n```\n<!-- by hand: wait-for x -->\n"
    page += "```console\n$ a \\\n  b\nc\n$ d\n```\n"
    assert [(step.kind, step.text, step.caption) for step in steps(page)] == [
        ("file", "x = 1\n", "a.py"),
        ("hand", "wait-for x", ""),
        ("console", "$ a \\\n  b\nc\n$ d\n", ""),
    ]
    assert list(typed("$ a \\\n  b\nc\n$ d\n")) == [("a \\\n  b", "c"), ("d", "")]


@pytest.mark.parametrize(
    ("expected", "printed", "same"),
    [
        ("a…c\nd", "x\nabc\nd\n", True),
        ("a\nc", "a\nb\nc", True),
        ("c\na", "a\nb\nc", False),
        ("a\n…\nc", "a\nb\nb\nc", True),
        ("", "anything", True),
        ("a", "b", False),
    ],
)
def test_what_is_printed_is_compared(expected, printed, same):
    assert matches(expected, printed) == same


def logs_of(folder: Path, dag_id: str) -> str:
    """The ends of the logs of a DAG's tasks."""
    files = sorted(folder.glob(f"dag_id={dag_id}/**/*.log*"))
    return "\n".join(f"{file}:\n{file.read_text(errors='replace')[-3000:]}" for file in files)


@pytest.mark.parametrize("name", FOLDERS)
def test_what_the_reader_has_done_is_what_is_typed(name):
    """As far as it goes without a network: the names, the extras, and the Python that the page wants."""
    project = tomllib.loads((DOCS.parent / "pyproject.toml").read_text())["project"]
    page = (DOCS / f"{name}.md").read_text()
    commands = [command for step in steps(page) if step.kind == "console" for command, _ in typed(step.text)]
    folder = FOLDERS[name]
    done = [command for command in commands if command.startswith(INSTALLED) and command != ". venv/bin/activate"]
    *places, installation = done
    assert places == [f"mkdir {folder} && cd {folder}", "python3 -m venv venv && . venv/bin/activate"]
    wanted = Requirement(shlex.split(installation.removeprefix("pip install"))[0])
    assert (wanted.name, wanted.extras) == (project["name"], {"server"})
    assert "server" in project["optional-dependencies"]
    (least,) = re.findall(r"Python ([\d.]+) or newer", page)
    assert project["requires-python"] == f">={least}"


@pytest.mark.slow
@pytest.mark.parametrize("name", FOLDERS)
def test_a_page_word_by_word(tmp_path, name):
    api, jobapi, *log_ports = free_ports(4)
    folder = tmp_path / FOLDERS[name]
    folder.mkdir()
    url = f"http://localhost:{api}"
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW_", "JOBAPI_", "XDG_"))
    }
    environment |= {
        "HOME": str(tmp_path),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        # The ports of a machine on which something else may run; a reader has them free.
        "JOBAPI_PORT": str(jobapi),
        "JOBAPI_JOBS_AS_ROOT": "1" if os.geteuid() == 0 else "0",  # as the page says
        "AIRFLOW__API__PORT": str(api),
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(log_ports[0]),
        "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(log_ports[1]),
        # Two cores of a busy machine.
        **SLOW_MACHINE,
        "AIRFLOW__CORE__PARALLELISM": "4",
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
    }

    def session() -> requests.Session:
        opened = requests.Session()
        opened.trust_env = False

        def token() -> str | None:
            with suppress(requests.ConnectionError):  # standalone says that it is ready before its API server listens
                return str(opened.get(f"{url}/auth/token").json()["access_token"])
            return None

        opened.headers["Authorization"] = f"Bearer {wait_for('Airflow answers', token, 120)}"
        return opened

    def switch_on_and_trigger(dag_id: str) -> None:
        dag = f"{url}/api/v2/dags/{dag_id}"
        own = list(session().get(f"{url}/api/v2/dags").json()["dags"])
        assert len(own) < 5, "the list of DAGs is the reader's own"
        wait_for(f"{dag_id} is parsed", lambda: session().patch(dag, json={"is_paused": False}).ok, 120, 1.0)
        assert session().post(f"{dag}/dagRuns", json={"logical_date": None}).ok

    def wait_for_run(dag_id: str) -> None:
        def ended() -> bool:
            runs = session().get(f"{url}/api/v2/dags/{dag_id}/dagRuns").json()["dag_runs"]
            states = {run["state"] for run in runs}
            assert states <= {"queued", "running", "success"}, logs_of(folder / "airflow" / "logs", dag_id)
            return states == {"success"}

        wait_for(f"{dag_id} is green", ended, 900, 1.0)

    by_hand = {"switch-on-and-trigger": switch_on_and_trigger, "wait-for": wait_for_run}
    with Reader(folder, environment, by_hand, LONG, INSTALLED) as reader:
        assert reader.follow((DOCS / f"{name}.md").read_text()) > 5
