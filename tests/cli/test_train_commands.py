# SPDX-License-Identifier: Apache-2.0
"""The commands about images of the Train API."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.containers.engine import Engine
from tests.harness.containers.fixtures import dockerd, engine, image_tree, podman, registry
from tests.harness.containers.trains import make_trains

__all__ = ["dockerd", "engine", "image_tree", "podman", "registry"]

NEEDS = {"requirements": [{"id": 0, "requirement": {"type": "environmentVariable", "target": "URL", "name": "A"}}]}


def jobapi(*words: str, stdin: bytes = b"", **environ: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "airflow_provider_jobapi.cli", *words],
        input=stdin,
        capture_output=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", **environ},
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def test_the_response_of_a_train() -> None:
    stdout = b"loading\n" + json.dumps(NEEDS).encode() + b"\nbye\n"
    code, out, err = jobapi("train", "response", "list_requirements", stdin=stdout)
    assert code == 0
    assert json.loads(out)["requirements"][0]["requirement"]["name"] == "A"
    assert err == "jobapi: 3 characters after the train's response were not read.\n"
    code, out, err = jobapi("train", "response", "list_requirements", "--strict", stdin=stdout)
    assert (code, out) == (1, "")
    assert "which the strict mode does not allow" in err


@pytest.mark.parametrize(
    ("words", "stdin", "code", "said"),
    [
        (("run_algorithm",), b"done\n", 1, "The train has printed no response"),
        (("run_algorithm", "--exit-code", "3"), b'{"state": "success"}', 1, "ended with the exit code 3."),
        (("check_requirements",), b'{"unmet": ["A"]}', 1, "The train needs A: it is unmet"),
        (("describe",), b"{}", 2, "command cannot be 'describe'"),
    ],
)
def test_responses_that_are_no_success(words: tuple[str, ...], stdin: bytes, code: int, said: str) -> None:
    got, _, err = jobapi("train", "response", *words, stdin=stdin)
    assert got == code
    assert said in err
    assert "Traceback" not in err


def test_a_connection_that_runs_no_trains() -> None:
    given = json.dumps({"conn_type": "jobapi", "host": "http://127.0.0.1:9", "login": "a", "password": "b"})
    code, _, err = jobapi("train", "validate", "bmi:1", AIRFLOW_CONN_JOBAPI_DEFAULT=given)
    assert code == 2
    assert "--connection runs no trains: name a connection of the type train_container." in err


def test_an_image_that_keeps_the_api_and_one_that_does_not(engine: Engine, tmp_path: Path) -> None:
    make_trains(engine)
    given = json.dumps({"conn_type": "train_container", "extra": {"engine": engine.url, "grace": 1}})
    environ = {"AIRFLOW_CONN_STATION": given, "AIRFLOW_HOME": str(tmp_path)}
    code, out, err = jobapi("train", "validate", "localhost/counting:1", "--connection", "station", **environ)
    lines = out.splitlines()
    assert code == 0, err
    assert [line.partition(".")[0] for line in lines] == [
        "list_requirements: ok",
        "check_requirements: ok",
        "print_model_summary: ok",
    ]
    assert "The train needs PATIENTS_URL" in lines[1]
    code, out, _ = jobapi("train", "validate", "localhost/scripted:1", "--run", "--connection", "station", **environ)
    assert code == 1
    assert [line.partition(".")[0].partition(": ")[2] for line in out.splitlines()] == ["not valid"] * 3 + ["ok"]
    given = ("localhost/scripted:1", "--prefix", "for_ever time.sleep(600)", "--timeout", "1")
    code, out, _ = jobapi("train", "validate", *given, "--connection", "station", **environ)
    assert code == 1
    assert out.splitlines() == [
        f"{command}: not valid. It did not end within 1 second."
        for command in ("list_requirements", "check_requirements", "print_model_summary")
    ]
    assert engine.client.containers(all=True) == []
    assert not engine.client.volumes()["Volumes"]
