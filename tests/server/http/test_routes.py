# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import requests

from airflow_provider_jobapi import __version__
from airflow_provider_jobapi.server.http.problems import TITLES
from tests.harness.server import Server, running

DOCUMENT = Path(__file__).parents[3] / "docs" / "openapi.json"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("routes") / "root") as started:
        yield started


@pytest.fixture(scope="module")
def document():
    return json.loads(DOCUMENT.read_text())


def test_the_health_check_works(server: Server):
    answer = requests.get(f"{server.url}/healthz", timeout=30)
    assert (answer.status_code, answer.json()) == (200, {"status": "ok", "version": __version__})
    assert "server" not in answer.headers


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/api/v1/jobs", 404),
        ("GET", "/api/v2/jobs/", 404),
        ("PUT", "/api/v2/jobs", 405),
        ("POST", "/healthz", 405),
        ("BREW", "/healthz", 405),
    ],
)
def test_an_unknown_path_or_method_is_a_problem(server: Server, method, path, status):
    answer = server.request(method, path)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    problem = answer.json()
    assert problem["status"] == status
    assert problem["type"] == "about:blank"
    assert path in problem["detail"]
    assert status != 405 or answer.headers["allow"]


def test_an_internal_error_reveals_no_details_and_is_in_the_log(tmp_path):
    with running(tmp_path / "root") as server:
        server.token()
        server.request("GET", "/api/v2/jobs")
        database = sqlite3.connect(server.root / "jobapi.sqlite", isolation_level=None)
        database.execute("ALTER TABLE jobs RENAME TO hidden")
        answer = server.request("GET", "/api/v2/jobs")
        health = requests.get(f"{server.url}/healthz", timeout=30)
        database.execute("ALTER TABLE hidden RENAME TO jobs")
        database.close()
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
    assert not re.search("Traceback|sqlite|SELECT|line \\d", answer.text)
    number = re.search(r"number ([0-9a-f]{12})", answer.json()["detail"])[1]
    assert number in server.log()
    assert "no such table: jobs" in server.log()
    assert health.status_code == 200


def test_a_locked_database_is_reported_as_busy(tmp_path):
    with running(tmp_path / "root") as server:
        server.token()
        database = sqlite3.connect(server.root / "jobapi.sqlite", isolation_level=None)
        database.execute("BEGIN IMMEDIATE")
        read = server.request("GET", "/api/v2/jobs")
        write = server.request("PUT", "/api/v2/storage/objects/x", data=b"x")
        database.execute("ROLLBACK")
        database.close()
        assert read.status_code == 200
        assert (write.status_code, write.headers["retry-after"]) == (503, "1")
        assert "busy" in write.json()["detail"]
        assert server.request("PUT", "/api/v2/storage/objects/x", data=b"x").status_code == 201


def test_the_committed_document_is_the_one_that_the_server_serves(server: Server, document):
    printed = subprocess.run(
        [sys.executable, "-m", "airflow_provider_jobapi.cli", "openapi"], capture_output=True, check=True, text=True
    ).stdout
    assert printed == DOCUMENT.read_text(), "run: python -m airflow_provider_jobapi.cli openapi > docs/openapi.json"
    assert requests.get(f"{server.url}/openapi.json", timeout=30).json() == document


def operations(document):
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def test_every_route_is_described(document):
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(names) == len(set(names)) == 23
    for path, method, operation in operations(document):
        assert operation["summary"], (path, method)
        assert operation["tags"], (path, method)
        for parameter in operation.get("parameters", []):
            assert parameter.get("description") or parameter["name"] == "grant_type", (path, parameter)
        for status, answer in operation["responses"].items():
            assert answer["description"] != "Successful Response", (path, method, status)
            if int(status) >= 400 and path != "/oauth/token":
                schema = answer["content"]["application/problem+json"]["schema"]
                assert schema == {"$ref": "#/components/schemas/ProblemBody"}


def test_all_routes_except_token_and_health_need_a_token(server: Server, document):
    flow = document["components"]["securitySchemes"]["clientCredentials"]["flows"]["clientCredentials"]
    assert flow["tokenUrl"] == "/oauth/token"
    for path, method, operation in operations(document):
        open_to_all = path in {"/oauth/token", "/healthz"}
        assert ("security" in operation) != open_to_all, (path, method)
        if not open_to_all:
            there = path.replace("{job_id}", "1b4e28ba-2fa1-11d2-883f-0016d3cca427").replace("{key}", "x")
            assert requests.request(method, server.url + there, timeout=30).status_code == 401, (path, method)
            assert "401" in operation["responses"]


def resolver(document):
    def validate(instance, name):
        schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
        jsonschema.Draft202012Validator(schema).validate(instance)

    return validate


def test_the_answers_match_their_schemas(server: Server, document):
    validate = resolver(document)
    server.put("some/file", "x")
    validate(server.request("GET", "/api/v2/storage").json(), "Storage")
    validate(server.request("GET", "/api/v2/storage/objects").json(), "ObjectPage")
    validate(server.request("PUT", "/api/v2/storage/objects/some/file", data=b"y").json(), "StoredAnswer")
    job_id = server.submit("print(1)")
    validate(server.status(job_id), "JobStatus")
    validate(server.request("GET", "/api/v2/jobs").json(), "JobPage")
    validate(requests.get(f"{server.url}/healthz", timeout=30).json(), "Health")
    for problem in (server.request("GET", "/x"), server.request("POST", f"/api/v2/jobs/{job_id}", data="x")):
        validate(problem.json(), "ProblemBody")
    validate({"job": {"name": "x", "execution": {"command": "y"}}}, "JobFile")
    with pytest.raises(jsonschema.ValidationError):
        validate({"job": {"name": "x", "execution": {"command": "y"}, "colour": "red"}}, "JobFile")
    server.wait_for(job_id, timeout=120)
    validate(server.request("GET", f"/api/v2/jobs/{job_id}/model").json(), "ModelAnswer")


def test_every_kind_of_problem_is_used():
    source = "".join(path.read_text() for path in (Path(__file__).parents[3] / "airflow_provider_jobapi").rglob("*.py"))
    for word in TITLES:
        assert source.count(f'"{word}"') > 1, f"{word} is titled and never said"
