# SPDX-License-Identifier: Apache-2.0
"""Errors of Kubernetes and of AWS as errors of this provider. Pure: both sides pass what their clients have raised.

kubernetes and kubernetes_asyncio raise ``ApiException`` with the same attributes, and so do boto3 and aiobotocore with
``ClientError``; they are recognised by these, so that nothing is imported here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from airflow_provider_jobapi.exceptions import (
    ConnectionProblem,
    InvalidJob,
    JobConflict,
    JobNotFound,
    ServiceUnavailable,
    TrainingError,
)
from airflow_provider_jobapi.services.answer import Answer, sentence
from airflow_provider_jobapi.services.sagemaker_ack import names

_LONGEST = 600
_NOT_CREDENTIALS = frozenset({"NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError"})
_UNREACHABLE = frozenset(
    {"MaxRetryError", "NewConnectionError", "ProtocolError", "ReadTimeoutError", "ConnectTimeoutError", "ClientError"}
    | {"ClientConnectorError", "ServerDisconnectedError", "ClientOSError", "ServerTimeoutError", "ClientPayloadError"}
    | {"EndpointConnectionError", "ConnectionClosedError", "ReadTimeout", "ConnectTimeout", "HTTPClientError"}
)
"""Names of the classes by which the clients' HTTP libraries (urllib3, aiohttp, botocore) say that no answer came."""
_DENIED = frozenset(
    {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "InvalidClientTokenId", "ExpiredToken"}
    | {"ExpiredTokenException", "UnrecognizedClientException", "SignatureDoesNotMatch", "InvalidSignatureException"}
)
_TOO_LARGE = "request is too large"
"""What etcd says of an object that it does not store; the API server makes status 500 of it."""
_NO_ROOM = "exceeded quota"
"""What a namespace says, as "Forbidden", that has as many objects as its ``ResourceQuota`` allows."""
_CHANGED_MEANWHILE = "Conflict"
"""The reason of a 409 that another attempt may not get, as of a quota that several jobs are counted in at a time. That
of an object that is there already is ``AlreadyExists``."""
_BUSY = frozenset({"Throttling", "ThrottlingException", "TooManyRequestsException", "RequestLimitExceeded", "SlowDown"})


class ObjectMissing(JobNotFound):
    """The namespace has no object of this name."""


class ObjectExists(JobConflict):
    """The namespace has an object of this name."""


class Expired(ServiceUnavailable):
    """A watch began at a version that the API server has forgotten: read the object again, and watch from there."""


class NoCredentials(ConnectionProblem):
    """There are no credentials of AWS."""


def error_of_kubernetes(error: Exception, subject: str) -> TrainingError:
    """Translate what a client of Kubernetes has raised.

    :param error: An ``ApiException``, or an error of the HTTP library or of the connection's configuration.
    :param subject: What the request was, such as ``create the job's object``.
    """
    if isinstance(error, TrainingError):
        return error
    status = getattr(error, "status", None)
    if not isinstance(status, int) or _means_unverified(error):
        return _no_answer(error, subject)
    said = _status_object(getattr(error, "body", None))
    message = _ended(said.get("message") or getattr(error, "reason", None) or f"HTTP status {status}")
    if status == 404:
        return _not_found(said, subject, message)
    if (refused := _refusal(status, said, subject, message)) is not None:
        return refused
    answer = Answer(status, _headers(error), b"", datetime.now(UTC))
    unavailable = f"The cluster could not {subject} now (status {status}): {message}"
    return ServiceUnavailable(unavailable, retry_after=answer.retry_after())


def _no_answer(error: Exception, subject: str) -> TrainingError:
    if _means_unverified(error):
        return ConnectionProblem(
            f"The certificate of the cluster cannot be verified{_kind_of(error)}: name its authority in the "
            "kubeconfig, or set disable_verify_ssl in the connection of kubernetes_conn_id."
        )
    if _means_unreachable(error):
        return ServiceUnavailable(f"The cluster did not answer a request to {subject}{_kind_of(error)}.")
    return ConnectionProblem(
        f"The connection to Kubernetes cannot be used{_kind_of(error)}: {sentence(error, _LONGEST)}"
    )


def _refusal(status: int, said: Mapping[str, Any], subject: str, message: str) -> TrainingError | None:
    """Return the error of a status that means more than "try again"."""
    if status in {400, 413, 422} or _TOO_LARGE in message:
        return InvalidJob(f"The cluster refuses to {subject}: {message}", field=_field(said))
    if status in {401, 403}:
        return _forbidden(status, said, subject, message)
    if status == 409 and said.get("reason") != _CHANGED_MEANWHILE:
        return ObjectExists(f"The cluster could not {subject}: {message}")
    if status == 410:
        return Expired(f"The cluster has forgotten where the watch began: {message}")
    return None


def _forbidden(status: int, said: Mapping[str, Any], subject: str, message: str) -> TrainingError:
    if _is_terminating(said):
        return ConnectionProblem(
            f"The cluster could not {subject}: {message} Wait until the namespace is gone and make it again, or set "
            "another namespace in the connection."
        )
    if _NO_ROOM in message:
        return ServiceUnavailable(
            f"The cluster could not {subject} now: {message} Wait until other jobs have ended and their objects are "
            "deleted, or have the quota of the namespace raised."
        )
    return ConnectionProblem(f"The cluster does not allow to {subject}: {message} {_advice(status)}")


def error_of_aws(error: Exception, subject: str) -> TrainingError:
    """Translate what a client of AWS has raised.

    :param error: A ``ClientError`` of botocore, or an error of the HTTP library or of the credentials.
    :param subject: What the request was, such as ``read the log``.
    """
    if isinstance(error, TrainingError):
        return error
    if type(error).__name__ in _NOT_CREDENTIALS:
        return NoCredentials(
            f"There are no credentials of AWS to {subject}: set aws_conn_id in the connection, or give this machine a "
            "role."
        )
    code = error_code(error)
    if code:
        return _aws_refusal(error, code, subject)
    if _means_unverified(error):
        return ConnectionProblem(
            f"The certificate of AWS's endpoint cannot be verified{_kind_of(error)}: name its authority as verify in "
            "the connection of aws_conn_id."
        )
    if _means_unreachable(error):
        return ServiceUnavailable(f"AWS did not answer a request to {subject}{_kind_of(error)}.")
    return ConnectionProblem(f"The connection to AWS cannot be used{_kind_of(error)}: {sentence(error, _LONGEST)}")


def _aws_refusal(error: Exception, code: str, subject: str) -> TrainingError:
    message = _ended(_response(error).get("Error", {}).get("Message") or code)
    if code in _DENIED:
        return ConnectionProblem(f"AWS does not allow to {subject} ({code}): {message}")
    status = _response(error).get("ResponseMetadata", {}).get("HTTPStatusCode")
    if code in _BUSY or (isinstance(status, int) and status >= 500):
        return ServiceUnavailable(f"AWS could not {subject} now ({code}): {message}")
    return ConnectionProblem(f"AWS refuses to {subject} ({code}): {message}")


def error_code(error: Exception) -> str:
    """Return the code of a ``ClientError``, such as ``ResourceNotFoundException``; empty of any other error."""
    found = _response(error).get("Error")
    code = found.get("Code") if isinstance(found, Mapping) else None
    return code if isinstance(code, str) else ""


def _response(error: Exception) -> Mapping[str, Any]:
    response = getattr(error, "response", None)
    return response if isinstance(response, Mapping) else {}


def _means_unreachable(error: Exception) -> bool:
    return isinstance(error, OSError | TimeoutError) or any(
        each.__name__ in _UNREACHABLE for each in type(error).__mro__
    )


def _ended(said: object) -> str:
    """Return what a service said as a sentence, which another one can follow; their messages have no full stop."""
    text = sentence(said, _LONGEST)
    return text if text.endswith((".", "!", "?", "…")) else f"{text}."


def _means_unverified(error: Exception) -> bool:
    """Whether a certificate was refused, which another attempt does not change. All clients quote OpenSSL."""
    return "certificate verify failed" in str(error).lower().replace("_", " ")


def _kind_of(error: Exception) -> str:
    return f" ({type(error).__name__})"


def _status_object(body: object) -> Mapping[str, Any]:
    """Return the ``Status`` that the API server sends with an error; an empty one if it sent anything else."""
    try:
        read = json.loads(body) if isinstance(body, str | bytes) else None
    except (ValueError, RecursionError):
        read = None
    return read if isinstance(read, Mapping) else {}


def _field(said: Mapping[str, Any]) -> str | None:
    field = _first_cause(said).get("field")
    return field if isinstance(field, str) else None


def _is_terminating(said: Mapping[str, Any]) -> bool:
    """Whether the namespace is being deleted, which is "Forbidden" as well."""
    return _first_cause(said).get("reason") == "NamespaceTerminating"


def _first_cause(said: Mapping[str, Any]) -> Mapping[str, Any]:
    details = said.get("details")
    causes = details.get("causes") if isinstance(details, Mapping) else None
    first = causes[0] if isinstance(causes, list) and causes else None
    return first if isinstance(first, Mapping) else {}


def _headers(error: Exception) -> dict[str, str]:
    headers = getattr(error, "headers", None)
    try:
        return {str(name).lower(): str(value) for name, value in dict(headers or {}).items()}
    except (TypeError, ValueError):
        return {}


def _not_found(said: Mapping[str, Any], subject: str, message: str) -> TrainingError:
    details = said.get("details")
    kind, name = (details.get("kind"), details.get("name")) if isinstance(details, Mapping) else (None, None)
    if kind == names.PLURAL and name:
        return ObjectMissing(f"The cluster could not {subject}: {message}")
    if kind == "namespaces":
        return ConnectionProblem(f"The cluster could not {subject}: {message} Set namespace in the connection.")
    return ConnectionProblem(
        f"The cluster does not know {names.PLURAL}.{names.GROUP} of version {names.VERSION}: install the ACK "
        "controller for SageMaker with its CRDs, or choose another kubernetes_conn_id."
    )


def _advice(status: int) -> str:
    if status == 401:
        return "Check the credentials of kubernetes_conn_id."
    return f"The user of kubernetes_conn_id needs get, list, watch, create and delete on {names.PLURAL}.{names.GROUP}."
