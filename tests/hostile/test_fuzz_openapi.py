# SPDX-License-Identifier: Apache-2.0
"""Fuzz every route of the OpenAPI document with data that fits its schemas and data that does not."""

from __future__ import annotations

import itertools
import uuid
from collections import Counter

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from airflow_provider_jobapi.server.http.app import create_app
from tests.harness.server import Server
from tests.hostile.tenants import Held, Tenant

_CHECKS = [
    not_a_server_error,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
]
_SCHEMA = schemathesis.openapi.from_dict(create_app().openapi())
schemathesis.serializer.alias("application/vnd.jobapi.objects", "application/octet-stream")
_QUIET = {
    "suppress_health_check": list(HealthCheck),
    "phases": [Phase.explicit, Phase.generate],
    "database": None,
}


_IDS = [str(uuid.uuid5(uuid.NAMESPACE_OID, f"fuzz {number}")) for number in range(8)]
"""Ids of a waiting job, a stopped job and a deleted job."""


_turns = itertools.count()


@_SCHEMA.hook
def map_path_parameters(context, path_parameters):
    """Let most ids be ids, since nothing behind the first check is reached with others."""
    turn = next(_turns) % 10
    if path_parameters and "job_id" in path_parameters and turn < len(_IDS):
        path_parameters["job_id"] = _IDS[turn]
    return path_parameters


@_SCHEMA.hook
def map_body(context, body):
    """Let most jobs ask for what this small server has, for the same reason."""
    if next(_turns) % 5:
        try:
            body["job"]["execution"]["resources"] = {"cpus": 1, "memory": 1}
            body["job"].pop("inputs", None)
        except (TypeError, KeyError, AttributeError):
            pass
    return body


@pytest.fixture(scope="module")
def jobs(alice: Tenant) -> None:
    for job_id in _IDS[:3]:
        assert alice.submit(job_id).status_code == 201
    for job_id in _IDS[1:3]:
        assert alice.request("POST", f"/api/v2/jobs/{job_id}/stop").json()["status"] == "STOPPED"
    assert alice.request("DELETE", f"/api/v2/jobs/{_IDS[2]}").status_code == 204


def _ask(case: schemathesis.Case, server: Server, token: str, tally: Counter[str]) -> None:
    headers = {"Authorization": f"Bearer {token}"}
    answer = case.call_and_validate(base_url=server.url, headers=headers, timeout=40, checks=_CHECKS)
    tally["requests fuzzed from the OpenAPI document"] += 1
    tally[f"requests fuzzed from the OpenAPI document, answered {answer.status_code // 100}xx"] += 1


@_SCHEMA.parametrize()
@settings(max_examples=12, derandomize=True, **_QUIET)
def test_no_route_fails_on_generated_requests(case, held: Held, alice: Tenant, jobs: None, tally: Counter[str]) -> None:
    _ask(case, held.server, alice.token, tally)


@pytest.mark.slow
@_SCHEMA.parametrize()
@settings(max_examples=150, **_QUIET)
def test_no_route_fails_on_many_generated_requests(
    case, held: Held, alice: Tenant, jobs: None, tally: Counter[str]
) -> None:
    _ask(case, held.server, alice.token, tally)


@pytest.mark.parametrize("path", sorted({path for path in _SCHEMA.raw_schema["paths"] if path.startswith("/api/")}))
def test_no_route_below_the_api_answers_without_a_token(path: str, held: Held) -> None:
    for method in _SCHEMA.raw_schema["paths"][path]:
        place = path.replace("{job_id}", "00000000-0000-0000-0000-000000000000").replace("{key}", "a")
        answer = requests.request(method, f"{held.server.url}{place}", timeout=20)
        assert answer.status_code == 401, f"{method} {path}: {answer.status_code}"
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
