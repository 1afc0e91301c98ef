# SPDX-License-Identifier: Apache-2.0
"""Where the command finds its connection, and that no secret is in what it prints."""

from __future__ import annotations

import json
import socket
import time
import uuid

import pytest

from airflow_provider_jobapi.cli.connection import connection_of
from airflow_provider_jobapi.exceptions import ConnectionProblem
from tests.harness.command import Command
from tests.harness.server import Server

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
    assert "--connection holds a secret, which everybody on this machine can read there" in refused(text, {})


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"host": ""}, "The connection has no host"),
        ({"password": None}, "The connection has no password"),
        ({"login": 5}, "The login of AIRFLOW_CONN_JOBAPI_DEFAULT is no text."),
        ({"conn_type": "http"}, "of the type 'http'; the one of a jobAPI is 'jobapi'."),
        ({"passwort": SECRET}, "has 'passwort'; a connection has conn_id, conn_type"),
        ({"extra": "[1]"}, "The extra of AIRFLOW_CONN_JOBAPI_DEFAULT is not a JSON object."),
        ({"extra": [1]}, "an extra that is no object"),
        ({"extra": {"colour": "red"}}, "The connection's extra has 'colour'"),
        ({"port": "x"}, "a port that is no number"),
        ({"port": True}, "a port that is no number"),
    ],
)
def test_a_field_that_is_wrong(changed, said):
    assert said in refused(None, variable(**changed))


@pytest.mark.parametrize("text", [f"jobapi://me:{SECRET}@jobs", f'{{"password": "{SECRET}"', "[" * 100_000, "5", '"x"'])
def test_a_variable_that_is_no_json_object(text):
    assert "is not the JSON that `jobapi client add` prints." in refused(None, {"AIRFLOW_CONN_JOBAPI_DEFAULT": text})


@pytest.mark.parametrize(
    ("content", "said"), [(None, "No such file"), (b"\xff", "not UTF-8"), (b"{", "is not the JSON")]
)
def test_a_file_that_is_none(tmp_path, content, said):
    path = tmp_path / "conn.json"
    if content is not None:
        path.write_bytes(content)
    assert said in refused(str(path), {})


def test_without_any_connection(work):
    done = Command(work, None)("status")
    assert done.code == 2
    assert done.sentence == (
        "There is no connection: set AIRFLOW_CONN_JOBAPI_DEFAULT to the JSON that `jobapi client add` prints, or name "
        "a file that holds it with --connection FILE."
    )


def test_the_three_ways_reach_the_server(work, jobapi_server: Server):
    (work / "conn.json").write_text(json.dumps(jobapi_server.connection))
    bare = Command(work, None)
    client = {"JOBAPI_CLIENT_ID": jobapi_server.client_id, "JOBAPI_CLIENT_SECRET": jobapi_server.secret}
    assert bare("status", "--connection", "conn.json").code == 0
    assert bare("status", "--connection", jobapi_server.url, env=client).code == 0
    named = {"AIRFLOW_CONN_OTHER": json.dumps(jobapi_server.connection)}
    assert bare("status", "--connection", "other", env=named).code == 0


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
