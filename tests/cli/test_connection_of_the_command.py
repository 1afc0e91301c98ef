# SPDX-License-Identifier: Apache-2.0
"""Where the command finds its connection, and that no secret is in what it prints."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import uuid

import pytest

from airflow_provider_jobapi.cli.connection import InAirflow, connection_of
from airflow_provider_jobapi.exceptions import ConnectionProblem
from tests.harness.command import Command
from tests.harness.modelarts.double import ModelArts
from tests.harness.modelarts.fixtures import modelarts, modelarts_shared
from tests.harness.s3 import s3
from tests.harness.server import Server

__all__ = ["modelarts", "modelarts_shared", "s3"]

SECRET = "s3cret-that-nobody-sees"
GIVEN = {"conn_type": "jobapi", "host": "https://jobs.example.com/base", "login": "me", "password": SECRET}


def refused(named: str | None, environ: dict[str, str]) -> str:
    with pytest.raises(ConnectionProblem) as caught:
        connection_of(named, environ)
    said = str(caught.value)
    assert SECRET not in said
    assert said.endswith(".")
    return said


def variable(**changed: object) -> dict[str, str]:
    return {"AIRFLOW_CONN_JOBAPI_DEFAULT": json.dumps(GIVEN | changed)}


def test_the_variable_that_the_server_prints():
    found = connection_of(None, variable(extra={"timeout": 5}, port=None, description="x"))
    assert (found.base_url, found.client_id, found.client_secret) == ("https://jobs.example.com/base", "me", SECRET)
    assert found.timeout == 5
    assert connection_of(None, variable(extra='{"timeout": 7}')).timeout == 7
    assert connection_of(None, variable(host="jobs.example.com", port="8443")).base_url.endswith(":8443")
    other = {"AIRFLOW_CONN_TEAM_B": json.dumps(GIVEN | {"login": "b"})}
    assert connection_of("team_b", other).client_id == "b"


def test_a_file(tmp_path, monkeypatch):
    (tmp_path / "conn.json").write_text(json.dumps(GIVEN))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("conn.json", "./conn.json", "~/conn.json", str(tmp_path / "conn.json")):
        assert connection_of(name, {}).client_secret == SECRET


def test_an_address():
    environ = {"JOBAPI_CLIENT_ID": "me", "JOBAPI_CLIENT_SECRET": SECRET}
    found = connection_of("https://jobs.example.com", environ)
    assert (found.base_url, found.client_id, found.client_secret) == ("https://jobs.example.com", "me", SECRET)
    assert found.token_url == "https://jobs.example.com/oauth/token"
    del environ["JOBAPI_CLIENT_SECRET"]
    assert "JOBAPI_CLIENT_SECRET is not set." in refused("https://jobs.example.com", environ)


@pytest.mark.parametrize("text", [json.dumps(GIVEN), f"https://me:{SECRET}@jobs.example.com", f"x://{SECRET}@h"])
def test_a_secret_among_the_arguments_is_refused(text):
    assert "--connection contains a secret, which every user of this machine can read there" in refused(text, {})


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"host": ""}, "The connection has no host"),
        ({"password": None}, "The connection has no password"),
        ({"login": 5}, "The login of AIRFLOW_CONN_JOBAPI_DEFAULT is not a text."),
        ({"passwort": SECRET}, "has 'passwort'; a connection has conn_id, conn_type"),
        ({"extra": "[1]"}, "The extra of AIRFLOW_CONN_JOBAPI_DEFAULT is not a JSON object."),
        ({"extra": [1]}, "an extra that is not an object"),
        ({"extra": {"colour": "red"}}, "The connection's extra has 'colour'"),
        ({"port": "x"}, "a port that is not a number"),
        ({"port": True}, "a port that is not a number"),
    ],
)
def test_a_field_that_is_wrong(changed, said):
    assert said in refused(None, variable(**changed))


@pytest.mark.parametrize("text", [f'{{"password": "{SECRET}"', "[" * 100_000, "5", '"x"'])
def test_a_variable_that_is_no_json_object(text):
    assert "is not the JSON of a connection, as `jobapi client add` prints it." in refused(
        None, {"AIRFLOW_CONN_JOBAPI_DEFAULT": text}
    )


@pytest.mark.parametrize(
    ("content", "said"), [(None, "No such file"), (b"\xff", "not UTF-8"), (b"{", "is not the JSON")]
)
def test_a_file_that_is_no_connection(tmp_path, content, said):
    path = tmp_path / "conn.json"
    if content is not None:
        path.write_bytes(content)
    assert said in refused(str(path), {})


def test_a_connection_that_needs_airflow(monkeypatch):
    other = {"AIRFLOW_CONN_OTHER": json.dumps({"conn_type": "http"})}
    assert connection_of("other", other) == InAirflow("other")
    assert connection_of("other", {"AIRFLOW_CONN_OTHER": f"jobapi://me:{SECRET}@jobs"}) == InAirflow("other")
    assert connection_of("team_b", {}) == InAirflow("team_b")
    monkeypatch.setitem(sys.modules, "airflow", None)
    assert "has type 'http'; expected jobapi or modelarts. Other types need Airflow" in refused("other", other)
    assert "There is no connection: set AIRFLOW_CONN_TEAM_B" in refused("team_b", {})


def test_without_any_connection(work):
    done = Command(work, None)("status")
    assert done.code == 2
    assert done.sentence == (
        "There is no connection: run `. FILE` with the file that `jobapi serve` names, set AIRFLOW_CONN_JOBAPI_DEFAULT "
        "to the JSON of a connection, as `jobapi client add` prints it for a jobAPI, or name a file or a connection of "
        "Airflow with --connection."
    )


def test_the_three_ways_reach_the_server(work, jobapi_server: Server):
    (work / "conn.json").write_text(json.dumps(jobapi_server.connection))
    bare = Command(work, None)
    client = {"JOBAPI_CLIENT_ID": jobapi_server.client_id, "JOBAPI_CLIENT_SECRET": jobapi_server.secret}
    assert bare("status", "--connection", "conn.json").code == 0
    assert bare("status", "--connection", jobapi_server.url, env=client).code == 0
    named = {"AIRFLOW_CONN_OTHER": json.dumps(jobapi_server.connection)}
    assert bare("status", "--connection", "other", env=named).code == 0


WITHOUT_AIRFLOW = """
import sys
sys.modules["airflow"] = None
from airflow_provider_jobapi.cli import main
code = main(sys.argv[1:])
assert not [name for name in sys.modules if name.startswith("airflow.")]
sys.exit(code)
"""


def without_airflow(command: Command, *arguments: str) -> str:
    """Run the command where Airflow cannot be imported; its output."""
    program = [sys.executable, "-c", WITHOUT_AIRFLOW, *arguments]
    done = subprocess.run(program, cwd=command.folder, env=command.env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_jobapi_without_airflow(command):
    job_id, *log = without_airflow(command, "submit", "-f", "job.yaml", "files", "--follow").splitlines()
    assert log == ["begun"]
    assert job_id in without_airflow(command, "status")


def test_modelarts_without_airflow(work, modelarts: ModelArts):
    command = Command(work, modelarts.connection)
    (work / "files" / "train.py").write_text("import sys\nprint('begun', *sys.argv[-1:])\n")
    (work / "job.yaml").write_text("{job: {name: lines, execution: {command: python3 train.py --epochs=5}}}")
    job_id, *log = without_airflow(command, "submit", "-f", "job.yaml", "files", "--follow").splitlines()
    assert "begun --epochs=5" in log
    assert "SUCCESSFUL" in without_airflow(command, "status", job_id)
    assert "begun --epochs=5" in without_airflow(command, "logs", job_id).splitlines()
    assert without_airflow(command, "submit", "-f", "job.yaml", "files").strip() == job_id
    refused = command("status")
    assert refused.sentence == "This service has no list of a user's jobs; name a JOB_ID."


def test_a_folder_of_code_on_modelarts_without_airflow(work, modelarts: ModelArts):
    (work / "files" / "nets").mkdir()
    (work / "files" / "nets" / "__init__.py").write_text("X = 3\n")
    (work / "files" / "nets" / "run.py").write_text("import sys\nfrom . import X\nprint('begun', X, sys.argv[1:])\n")
    words = (
        "submit",
        "--source",
        "files",
        "-m",
        "nets.run",
        "--env-var",
        "TOKEN=t",
        "--follow",
        "--",
        "--layers",
        "64",
        "32",
    )
    _, *log = without_airflow(Command(work, modelarts.connection), *words).splitlines()
    assert "begun 3 ['--layers', '64', '32']" in log


def test_a_command_that_modelarts_cannot_run(work, modelarts: ModelArts):
    (work / "job.yaml").write_text("{job: {name: lines, execution: {command: make train}}}")
    refused = Command(work, modelarts.connection)("submit", "-f", "job.yaml", "files", "-q")
    assert refused.code == 2
    assert refused.sentence.startswith("The service of this connection runs no shell command; job.execution.command")


def test_a_connection_that_airflow_reads(work, jobapi_server: Server, tmp_path):
    address = jobapi_server.url.removeprefix("http://")
    uri = f"jobapi://{jobapi_server.client_id}:{jobapi_server.secret}@{address}/http"
    environment = {"AIRFLOW_HOME": str(tmp_path / "airflow"), "AIRFLOW_CONN_OTHER": uri}
    done = Command(work, None)("submit", "-f", "job.yaml", "files", "-w", "--connection", "other", env=environment)
    assert (done.code, done.out.splitlines()[1:]) == (0, ["begun"]), done.err
    environment["AIRFLOW_CONN_OTHER"] = f"http://me:{SECRET}@jobs"
    refused = Command(work, None)("status", "--connection", "other", env=environment)
    assert (refused.code, SECRET in refused.err) == (2, False)
    types = "jobapi, modelarts, sagemaker_ack or train_container"
    assert f"Connection other has type 'http'; expected {types}." in refused.err


@pytest.mark.parametrize(
    "words",
    [
        ("status",),
        ("logs", str(uuid.uuid4())),
        ("logs", "-f", str(uuid.uuid4())),
        ("stop", str(uuid.uuid4())),
        ("model", "get", str(uuid.uuid4()), "x"),
        ("submit", "-f", "job.yaml"),
    ],
)
def test_a_wrong_secret(work, jobapi_server, words):
    done = Command(work, {**jobapi_server.connection, "password": SECRET})(*words)
    assert done.code == 2
    assert "refuses the client 'airflow'" in done.sentence
    assert SECRET not in done.err


@pytest.mark.parametrize(
    "words",
    [
        ("status",),
        ("logs", str(uuid.uuid4())),
        ("logs", "-f", str(uuid.uuid4())),
        ("stop", str(uuid.uuid4())),
        ("model", "get", str(uuid.uuid4()), "x"),
        ("submit", "-f", "job.yaml", "-q"),
    ],
)
def test_a_service_that_is_not_there(work, words):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # and listens to nobody
        command = Command(work, GIVEN | {"host": f"http://127.0.0.1:{free.getsockname()[1]}"})
        began = time.monotonic()
        done = command(*words, "--patience", "0")
        assert time.monotonic() - began < 20
    assert done.code == 69
    assert done.out == ""
    assert "cannot be reached: connection refused." in done.err
    assert "Traceback" not in done.err
    assert SECRET not in done.err
