# SPDX-License-Identifier: Apache-2.0
"""Turn every error into an RFC 9457 problem+json answer: one sentence on what is wrong and what to do."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.server import errors

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"

TITLES = {
    "disk-full": "The server's disk is full",
    "input-changed": "An input is not what was announced",
    "input-missing": "An input is not in the storage",
    "invalid-job": "The job cannot be run as it is",
    "invalid-key": "An object cannot have this key",
    "job-active": "The job has not ended",
    "job-conflict": "The id belongs to another job",
    "job-gone": "The job is gone",
    "no-such-job": "There is no such job",
    "no-such-object": "There is no such object",
    "no-such-file": "There is no such file",
    "offset": "There is no record at this offset",
    "queue-full": "Too many jobs wait",
    "resources": "The server does not have what the job asks for",
    "storage-full": "The client's storage is full",
    "token": "The token is not accepted",
    "wrong-digest": "The bytes are not the announced ones",
}
"""The problem types, which travel as ``/problems/<word>``, and their titles."""


class ProblemBody(BaseModel):
    """An error: RFC 9457 problem details."""

    type: str = Field(description="`about:blank`, or `/problems/<word>` for the errors that programs distinguish")
    title: str = Field(description="what kind of error it is")
    status: int = Field(description="the HTTP status")
    detail: str = Field(description="one sentence: what happened and what to do")
    field: str = Field(default="", description="the field of the job file that is to blame, where there is one")


class Problem(Exception):
    """An error that a route answers.

    :param status: The HTTP status.
    :param word: The problem type, one of :data:`TITLES`, or None where the status is enough.
    :param detail: What is wrong and what to do, in one sentence.
    :param field: The path of the invalid field in the job file, where there is one.
    :param headers: Further headers of the answer.
    """

    def __init__(
        self,
        status: int,
        word: str | None,
        detail: str,
        *,
        field: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.word = word
        self.detail = detail
        self.field = field
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        """Return the body of the answer."""
        word = self.word
        content: dict[str, Any] = {
            "type": f"/problems/{word}" if word else "about:blank",
            "title": TITLES[word] if word else HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
        }
        if self.field:
            content["field"] = self.field
        return content

    def response(self) -> JSONResponse:
        """Return the whole answer."""
        return JSONResponse(self.body(), self.status, headers=self.headers, media_type=MEDIA_TYPE)


def documented(**meanings: str) -> dict[int | str, dict[str, Any]]:
    """Describe the errors of a route in the OpenAPI document, such as ``documented(s404="There is no such job")``."""
    schema = {"$ref": "#/components/schemas/ProblemBody"}
    known = {"s401": "No token, or one that is not accepted (any more)"} | meanings
    return {
        int(status[1:]): {"description": text, "content": {MEDIA_TYPE: {"schema": schema}}}
        for status, text in sorted(known.items())
    }


_ANSWERS: dict[type[errors.ServerError], tuple[HTTPStatus, str | None]] = {
    errors.UnknownJob: (HTTPStatus.NOT_FOUND, "no-such-job"),
    errors.DeletedJob: (HTTPStatus.GONE, "job-gone"),
    errors.JobIdTaken: (HTTPStatus.CONFLICT, "job-conflict"),
    errors.JobStillActive: (HTTPStatus.CONFLICT, "job-active"),
    errors.QueueFull: (HTTPStatus.TOO_MANY_REQUESTS, "queue-full"),
    errors.ResourcesExceeded: (HTTPStatus.UNPROCESSABLE_ENTITY, "resources"),
    errors.MissingInput: (HTTPStatus.UNPROCESSABLE_ENTITY, "input-missing"),
    errors.ChangedInput: (HTTPStatus.CONFLICT, "input-changed"),
    errors.UnknownObject: (HTTPStatus.NOT_FOUND, "no-such-object"),
    errors.UnknownFile: (HTTPStatus.NOT_FOUND, "no-such-file"),
    errors.InvalidObjectKey: (HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-key"),
    errors.InvalidStream: (HTTPStatus.UNPROCESSABLE_ENTITY, None),
    errors.LostBytes: (HTTPStatus.INTERNAL_SERVER_ERROR, None),
    errors.StorageFull: (HTTPStatus.INSUFFICIENT_STORAGE, "storage-full"),
    errors.DiskFull: (HTTPStatus.INSUFFICIENT_STORAGE, "disk-full"),
    errors.RemovedClient: (HTTPStatus.UNAUTHORIZED, "token"),
    errors.DatabaseBusy: (HTTPStatus.SERVICE_UNAVAILABLE, None),
}
"""The status and the problem type of every error that ``store`` and ``run`` raise."""

_RETRY_AFTER = {errors.QueueFull: "30", errors.DatabaseBusy: "1"}
"""Seconds after which a client may repeat the request."""


def problem_of(error: errors.ServerError) -> Problem:
    """Describe an error of the server as a problem."""
    status, word = _ANSWERS[type(error)]
    retry_after = _RETRY_AFTER.get(type(error))
    headers = {"Retry-After": retry_after} if retry_after else {}
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = (
            f'Bearer realm="jobapi", error="invalid_token", error_description="{error.detail}"'
        )
    return Problem(status, word, error.detail, field=error.field, headers=headers)


def install(app: FastAPI) -> None:
    """Register handlers that answer every error of an application with a problem."""
    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(errors.ServerError, _on_server_error)
    app.add_exception_handler(InvalidJob, _on_invalid_job)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(ClientDisconnect, _on_disconnect)
    app.add_exception_handler(RequestValidationError, _on_validation)
    app.add_exception_handler(OSError, _on_system)
    app.add_exception_handler(SQLAlchemyError, _on_system)
    app.add_exception_handler(Exception, _on_exception)


def _on_problem(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Problem)  # noqa: S101 -- for the type checker
    return error.response()


def _on_server_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, errors.ServerError)  # noqa: S101 -- for the type checker
    return problem_of(error).response()


def _on_invalid_job(_request: Request, error: Exception) -> JSONResponse:
    return Problem(422, "invalid-job", str(error), field=getattr(error, "field", None)).response()


def _on_disconnect(_request: Request, _error: Exception) -> Response:
    return Response(status_code=400)  # the client has gone and reads no answer


def _on_http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101 -- for the type checker
    path = request.url.path
    details = {
        404: f"There is nothing at {path}; /openapi.json describes the routes of this server.",
        405: f"{path} does not support {request.method}; the Allow header names the methods that it supports.",
    }
    detail = details.get(error.status_code, str(error.detail))
    return Problem(error.status_code, None, detail, headers=error.headers).response()


def _on_validation(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101 -- for the type checker
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"][1:]) or str(first["loc"][0])
    given = f" cannot be {first['input']!r}"[:100] if first["type"] != "missing" else ""
    message = first["msg"][:1].lower() + first["msg"][1:]
    return Problem(422, None, f"{place}{given}: {message}.", field=place).response()


def _on_system(request: Request, error: Exception) -> JSONResponse:
    if isinstance(error, OSError) and errors.is_disk_full(error):
        return problem_of(errors.DiskFull()).response()
    if _is_client_removed(request):  # with its rows and its directory, which the request still needed
        return problem_of(errors.RemovedClient()).response()
    return _internal_error(request, error)


def _is_client_removed(request: Request) -> bool:
    client_id, components = getattr(request.state, "client_id", None), request.app.state.components
    try:
        return bool(client_id and components and components.clients.find(client_id) is None)
    except (errors.ServerError, SQLAlchemyError):  # the first error is the one to report
        return False


def _on_exception(request: Request, _error: Exception) -> JSONResponse:
    return _internal_error(request, None)  # uvicorn logs the error itself


def _internal_error(request: Request, error: Exception | None) -> JSONResponse:
    return internal_problem(f"{request.method} {request.url.path}", error).response()


def internal_problem(place: str, error: Exception | None) -> Problem:
    """Log an error of the server itself, and return the problem that names its number.

    :param place: Where it happened, such as the method and the path of the request.
    """
    number = uuid.uuid4().hex[:12]
    log.error("Error %s at %s", number, place, exc_info=error)
    detail = f"The server failed on this request; report the number {number} to its operator, who finds it in the log."
    return Problem(500, None, detail)
