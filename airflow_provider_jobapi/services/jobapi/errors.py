# SPDX-License-Identifier: Apache-2.0
"""The errors of a jobAPI: of an answer that is no success, and of a connection that fails. Pure."""

from __future__ import annotations

import errno
import json
import os
import socket
import ssl
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


def error_of_answer(request: Request, answer: Answer, address: str, secrets: Iterable[str] = ()) -> TrainingError:
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


def error_of_fault(error: BaseException, address: str) -> TrainingError:
    """The error for a fault of a connection, in one sentence without the words of a library.

    :param address: The address that was called.
    """
    if isinstance(error, TrainingError):
        return error
    causes = list(_causes(error))
    if refused := _tls(causes, address):
        return refused
    if any(_is_of_the_proxy(cause) for cause in causes):
        return ConnectionProblem(f"The proxy to {address} refuses the user; check the connection's proxy.")
    if type(error).__name__.startswith(("InvalidURL", "InvalidSchema", "InvalidProxyURL")):
        return ConnectionProblem(f"{address} is not a valid address; check the connection's host.")
    if _is_a_missing_file(error):
        return ConnectionProblem(
            "The connection's CA bundle or client certificate does not exist; check ca_bundle and client_cert."
        )
    return ServiceUnavailable(f"{address} cannot be reached: {_words(causes)}.{_HINT}")


def _about_a_job(request: Request, answer: Answer) -> TrainingError | None:
    """The error for a job that does not exist; an answer that is not JSON comes from something other than a jobAPI."""
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
        return QuotaReached(f"The service has no space left for this client. {detail}".strip())
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
        return InvalidJob(detail or f"The service refuses {request.subject} and gives no reason.", field=field)
    if answer.status in {409, 412}:
        return JobConflict(detail or f"The state of {request.subject} does not allow this.")
    if problem := _of_the_connection(request, answer, address):
        return ConnectionProblem(f"{problem} {detail}".strip())
    return BrokenContract(f"Unexpected HTTP {answer.status} from {address} for {request.subject}. {detail}".strip())


def _of_the_connection(request: Request, answer: Answer, address: str) -> str | None:
    if 300 <= answer.status < 400:
        return (
            f"{address} redirects to {_place(answer)}; redirects are not followed, since they would get the token. "
            "Set the connection's host to the address that answers."
        )
    nothing = f"{address} has nothing at {request.path}; check the connection's host and version."
    return {
        401: f"{address} refuses the token of this connection; check its login, password and oauth_url.",
        403: f"{address} does not permit this client to access {request.subject}.",
        404: nothing,
        405: nothing,
        407: f"The proxy to {address} requires a user; check the connection's proxy.",
        410: nothing,
    }.get(answer.status)


def _problem(answer: Answer) -> tuple[str, str | None]:
    """Detail and field of a problem+json answer (RFC 9457); the detail is empty for any other answer."""
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
    """The target of a redirect, without its query, which may hold a secret."""
    try:
        parts = urlsplit(answer.headers.get("location", ""))
        host = parts.hostname or ""
    except ValueError:
        return "another address"
    place = sentence(f"{parts.scheme}://{host}{parts.path}" if host else parts.path, 200)
    return place or "another address"


_HINT = " If this lasts, check the connection's host."


def _causes(error: BaseException) -> list[BaseException]:
    """An error and all that caused it; the libraries nest errors in three different ways."""
    found: list[BaseException] = []
    left: list[object] = [error]
    while left and len(found) < 20:
        each = left.pop(0)
        if isinstance(each, BaseException) and each not in found:
            found.append(each)
            left += [each.__cause__, each.__context__, getattr(each, "reason", None), *each.args]
    return found


def _is_a_missing_file(error: BaseException) -> bool:
    """Whether requests has not found a file of the connection."""
    return isinstance(error, OSError) and "TLS" in str(error) and "invalid path" in str(error)


def may_be_of_a_file(error: BaseException) -> bool:
    """Whether the cause may be a file of certificates that the connection names, rather than the service."""
    return any(isinstance(cause, ssl.SSLError) or _is_a_missing_file(cause) for cause in _causes(error))


def _is_of_the_proxy(cause: BaseException) -> bool:
    """Whether a proxy has refused its user: requests says so in words, aiohttp by a status."""
    return ("unnel" in str(cause) and "407" in str(cause)) or getattr(cause, "status", None) == 407


def _tls(causes: list[BaseException], address: str) -> ConnectionProblem | None:
    for cause in causes:
        # aiohttp's own errors are of these classes too, but without their fields.
        reason, distrust = str(getattr(cause, "reason", "")), getattr(cause, "verify_message", None)
        if isinstance(cause, ssl.SSLCertVerificationError) and distrust:
            return ConnectionProblem(
                f"The certificate of {address} is not trusted ({distrust}); set the connection's ca_bundle to the "
                "authority that signed it."
            )
        if isinstance(cause, ssl.SSLError) and reason in {"WRONG_VERSION_NUMBER", "HTTP_REQUEST"}:
            return ConnectionProblem(f"{address} does not speak TLS; if that is intended, begin the host with http://.")
        if isinstance(cause, ssl.SSLError) and "ALERT" in reason:
            return ConnectionProblem(
                f"{address} refuses the TLS connection ({reason}); check the connection's client_cert."
            )
    return None


def _words(causes: list[BaseException]) -> str:
    for cause in reversed(causes):
        if isinstance(cause, socket.gaierror):
            return "its name is not known here"
    if any("imed out" in str(cause) or isinstance(cause, TimeoutError) for cause in causes):
        return "it did not answer in time"
    for cause in reversed(causes):
        if isinstance(cause, OSError) and cause.errno in errno.errorcode:
            words = os.strerror(cause.errno or 0)
            return words[:1].lower() + words[1:]
    return "the connection broke"
