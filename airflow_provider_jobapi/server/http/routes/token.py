# SPDX-License-Identifier: Apache-2.0
"""The routes of ``/oauth/token``, where a client gets a token for its id and its secret."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from airflow_provider_jobapi.server.http.audit import audit
from airflow_provider_jobapi.server.http.routes.dependencies import Components

router = APIRouter(tags=["token"])


class Token(BaseModel):
    """A token (RFC 6749 §5.1)."""

    access_token: str = Field(description="the token, a JWT (RFC 9068)")
    token_type: str = Field(description="always `Bearer`")
    expires_in: int = Field(description="seconds until it expires")


class TokenError(BaseModel):
    """Why there is no token (RFC 6749 §5.2)."""

    error: str = Field(description="`invalid_client`, `unsupported_grant_type` or `invalid_request`")
    error_description: str = Field(default="", description="what to do")


_RESPONSES: dict[int | str, dict[str, Any]] = {
    400: {"model": TokenError, "description": "The request is not one for a token"},
    401: {"model": TokenError, "description": "Unknown client or wrong secret"},
}
_GRANT = {"type": "string", "enum": ["client_credentials"]}
_FORM = {
    "type": "object",
    "required": ["grant_type"],
    "properties": {"grant_type": _GRANT, "client_id": {"type": "string"}, "client_secret": {"type": "string"}},
}


@router.get(
    "/oauth/token",
    summary="Get a token, as SAP's clients do",
    description="Client id and secret are sent by HTTP Basic, never in the query, which proxies log.",
    response_model=Token,
    response_description="A token",
    responses=_RESPONSES,
    openapi_extra={"parameters": [{"name": "grant_type", "in": "query", "required": True, "schema": _GRANT}]},
)
def get_token(request: Request, server: Components) -> JSONResponse:
    """Answer a GET with a token."""
    return _answer(server, request, dict(request.query_params))


@router.post(
    "/oauth/token",
    summary="Get a token",
    description="Client id and secret are sent by HTTP Basic or as form fields.",
    response_model=Token,
    response_description="A token",
    responses=_RESPONSES,
    openapi_extra={
        "requestBody": {"required": True, "content": {"application/x-www-form-urlencoded": {"schema": _FORM}}}
    },
)
async def post_token(request: Request, server: Components) -> JSONResponse:
    """Answer a POST with a token."""
    body = await request.body()
    try:
        fields = dict(parse_qsl(body.decode(), max_num_fields=20))
    except ValueError:
        fields = {}
    return await run_in_threadpool(_answer, server, request, fields)


def _answer(server: Components, request: Request, fields: dict[str, str]) -> JSONResponse:
    answer = server.tokens.answer(request.method, request.headers.get("authorization", ""), fields)
    if answer.status == 401:
        audit(request, "login failed", answer.client_id)
    return JSONResponse(answer.body, answer.status, headers=answer.headers)
