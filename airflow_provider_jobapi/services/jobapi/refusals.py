# SPDX-License-Identifier: Apache-2.0
"""What an answer that is not a success means: one error of our tree, one sentence that says what to do. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable
from urllib.parse import urlsplit

from airflow_provider_jobapi.exceptions import (
    BrokenContract,
    ConnectionProblem,
    InvalidJob,
    JobConflict,
    JobGone,
    JobNotFound,
    QuotaReached,
    ServiceUnavailable,
    TrainingError,
)
from airflow_provider_jobapi.services.answer import Answer, sentence
from airflow_provider_jobapi.services.jobapi.contract import Request


def refusal(request: Request, answer: Answer, address: str, secrets: Iterable[str] = ()) -> TrainingError:
    """The error for an answer that is not a success.

    :param address: The service, as the connection names it.
    :param secrets: What must not stand in the error, should the service repeat it.
    """
    detail, field = _problem(answer)
    for secret in filter(None, secrets):
        detail = detail.replace(secret, "***")
    return (
        _about_a_job(request, answer)
        or _busy(answer, address, detail)
        or _by_status(request, answer, address, detail, field)
    )


def _about_a_job(request: Request, answer: Answer) -> TrainingError | None:
    """Tell a job that is not there from an address where no jobAPI is: only a jobAPI answers in JSON."""
    if "json" not in answer.headers.get("content-type", ""):
        return None
    if answer.status == 410 and request.path.startswith(("/jobs/", "/storage/objects/jobs/")):
        return JobGone(f"{request.subject.capitalize()} is gone from the service: it was deleted, or its time is over.")
    if answer.status == 404 and request.path.startswith("/jobs/"):
        job_id = request.path.split("/")[2]
        return JobNotFound(f"The service has no job {job_id}; it was never submitted with this connection.")
    return None


def _busy(answer: Answer, address: str, detail: str) -> TrainingError | None:
    if answer.status == 507:
        return QuotaReached(f"The service has no room for this. {detail}".strip())
    if answer.status == 429:
        return ServiceUnavailable(
            f"{address} asks for fewer requests. {detail}".strip(), retry_after=answer.retry_after()
        )
    if answer.status >= 500:
        said = detail or f"It answered {answer.status}."
        return ServiceUnavailable(f"{address} cannot serve now. {said}", retry_after=answer.retry_after())
    return None


def _by_status(request: Request, answer: Answer, address: str, detail: str, field: str | None) -> TrainingError:
    if answer.status in {400, 413, 415, 422} and request.method in {"POST", "PUT"}:
        return InvalidJob(detail or f"The service refuses {request.subject} without saying why.", field=field)
    if answer.status in {409, 412}:
        return JobConflict(detail or f"The service says that {request.subject} is not in a state for this.")
    if problem := _of_the_connection(request, answer, address):
        return ConnectionProblem(f"{problem} {detail}".strip())
    return BrokenContract(f"Unexpected HTTP {answer.status} from {address} for {request.subject}. {detail}".strip())


def _of_the_connection(request: Request, answer: Answer, address: str) -> str | None:
    if 300 <= answer.status < 400:
        return (
            f"{address} redirects to {_place(answer)}; no redirect is followed, since the token would travel with it. "
            "Set the connection's host to the address that answers."
        )
    nothing = f"{address} has nothing at {request.path}; check the connection's host and version."
    return {
        401: f"{address} refuses the token of this connection; check its login, password and token_url.",
        403: f"{address} does not let this client do that: {request.subject}.",
        404: nothing,
        405: nothing,
        407: f"The proxy before {address} wants a user; check the connection's proxy.",
        410: nothing,
    }.get(answer.status)


def _problem(answer: Answer) -> tuple[str, str | None]:
    """Detail and field of a problem+json (RFC 9457); the detail is empty where the answer is none."""
    if "json" not in answer.headers.get("content-type", ""):
        return "", None
    try:
        content = json.loads(answer.body)
    except (ValueError, RecursionError):
        return "", None
    if not isinstance(content, dict):
        return "", None
    texts = (content.get(name) for name in ("detail", "title", "message", "error_description", "error"))
    detail = next((text for text in texts if isinstance(text, str) and text.strip()), "")
    field = content.get("field")
    said = sentence(detail)
    if said and said[-1] not in ".!?…":
        said += "."
    return said, sentence(field, 100) if isinstance(field, str) else None


def _place(answer: Answer) -> str:
    """Where a redirect leads, without a query, which may hold a secret."""
    try:
        parts = urlsplit(answer.headers.get("location", ""))
        host = parts.hostname or ""
    except ValueError:
        return "another address"
    place = sentence(f"{parts.scheme}://{host}{parts.path}" if host else parts.path, 200)
    return place or "another address"
