# SPDX-License-Identifier: Apache-2.0
"""Write the OpenAPI document of the server, which is the same with every version of FastAPI."""

from __future__ import annotations

import json
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from airflow_provider_jobapi.server.http.problems import ProblemBody
from airflow_provider_jobapi.server.http.routes.follow import FollowRequest
from airflow_provider_jobapi.server.http.routes.object_streams import Wanted
from airflow_provider_jobapi.training.job_file import JobFile

_DESCRIPTION = """\
Runs training jobs and keeps their files, as SAP's `trainingClient` expects of its job service, and beyond.

1. Get a token at `/oauth/token` with the client credentials grant.
2. Write the job's files below `jobs/<name>-<job_id>/` with `PUT /api/v2/storage/objects/{key}`.
3. Submit the job file to `POST /api/v2/jobs/{job_id}`. The id is a UUID of your choice. To submit the same job
   under the same id again changes nothing, so a request whose answer was lost can be repeated.
4. Follow `GET /api/v2/jobs/{job_id}/logs` with `Prefer: wait=25` until `Job-Log-Complete` is `true`; every answer
   carries the status in `Job-Status`.
5. Ask `GET /api/v2/jobs/{job_id}/model` for the files of the model and read them from the storage.

A client sees only its own jobs and objects. Errors are problem details (RFC 9457), except those of the token
endpoint, which follow RFC 6749.
"""
_REF = "#/components/schemas/{model}"
_UNUSED_SCHEMAS = ("HTTPValidationError", "ValidationError")
"""Schemas of FastAPI's own errors, which this server does not use."""


def install(app: FastAPI) -> None:
    """Make an application serve this document at ``/openapi.json``."""

    def document() -> dict[str, Any]:
        if not app.openapi_schema:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def text(app: FastAPI) -> str:
    """Return the document as it is committed in ``docs/openapi.json``."""
    return json.dumps(app.openapi(), indent=2, ensure_ascii=False) + "\n"


def _document(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(
        title="jobAPI", version="2", openapi_version="3.1.0", description=_DESCRIPTION, routes=app.routes
    )
    schemas: dict[str, Any] = document["components"]["schemas"]
    for name in _UNUSED_SCHEMAS:
        schemas.pop(name, None)
    for model in (FollowRequest, JobFile, ProblemBody, Wanted):
        described = model.model_json_schema(ref_template=_REF)
        schemas |= described.pop("$defs", {})
        schemas[model.__name__] = described
    for schema in schemas.values():
        for described in schema.get("properties", {}).values():
            described.pop("title", None)  # pydantic derives it from the name of the field
    document["components"]["schemas"] = dict(sorted(schemas.items()))
    for path in document["paths"].values():
        for operation in path.values():
            _tidy(operation)
    return document


def _tidy(operation: dict[str, Any]) -> None:
    """Sort the answers of an operation, and drop the 422 that FastAPI adds where the route documents none."""
    responses = operation["responses"]
    if "HTTPValidationError" in json.dumps(responses.get("422", "")):
        del responses["422"]
    operation["responses"] = dict(sorted(responses.items()))
    operation["operationId"] = operation["operationId"].split("_api_v2")[0].split("_oauth")[0].split("_healthz")[0]
