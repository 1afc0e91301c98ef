# SPDX-License-Identifier: Apache-2.0
"""What clients of Kubernetes and AWS raise, as one sentence that says what to do."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError
from kubernetes.client import ApiException
from kubernetes.config import ConfigException
from kubernetes_asyncio.client import ApiException as AsyncApiException
from urllib3.exceptions import MaxRetryError

from airflow_provider_jobapi.exceptions import ConnectionProblem, InvalidJob, ServiceUnavailable, TrainingError
from airflow_provider_jobapi.services.sagemaker_ack import errors

SUBJECT = "create the job's object"


def answer(
    status: int, message: str = "", headers: dict[str, str] | None = None, reason: str = "", **details: Any
) -> list[Exception]:
    """What the two clients raise for an answer of the API server."""
    found = []
    for kind in (ApiException, AsyncApiException):
        error = kind(status=status, reason="Reason")
        said = {"kind": "Status", "message": message, "reason": reason, "details": details}
        error.body = json.dumps(said) if message else "<html>"
        error.headers = headers
        found.append(error)
    return found


KIND = {"kind": "trainingjobs", "name": "training-1"}
CAUSES = [{"field": "spec.hyperParameters.a", "message": "must be of type string"}]

ROWS = [
    (answer(401, "Unauthorized"), ConnectionProblem, "Check the credentials of kubernetes_conn_id."),
    (answer(403, "jobs are forbidden"), ConnectionProblem, "are forbidden. The user of kubernetes_conn_id needs get, "),
    (answer(404, 'trainingjobs "training-1" not found', **KIND), errors.ObjectMissing, "not found"),
    (answer(404, 'namespaces "x" not found', kind="namespaces"), ConnectionProblem, "Set namespace in the connection."),
    (answer(404, "the server could not find the requested resource"), ConnectionProblem, "install the ACK controller"),
    (answer(404), ConnectionProblem, "install the ACK controller"),
    (answer(409, "already exists", **KIND), errors.ObjectExists, "already exists"),
    # A quota that many jobs are counted in at a time, and one that is used up.
    (answer(409, "Operation cannot be fulfilled on resourcequotas", reason="Conflict"), ServiceUnavailable, "now (st"),
    (answer(403, "is forbidden: exceeded quota: q, used: 3"), ServiceUnavailable, "have the quota of the namespace"),
    (answer(410, "too old resource version"), errors.Expired, "too old"),
    (answer(422, "is invalid", causes=CAUSES), InvalidJob, "refuses to create the job's object: is invalid"),
    (answer(413, "Request entity too large"), InvalidJob, "too large"),
    (answer(500, "etcdserver: request is too large"), InvalidJob, "refuses to create the job's object: etcdserver"),
    (answer(429, "slow down", {"Retry-After": "7"}), ServiceUnavailable, "(status 429): slow down"),
    (answer(503), ServiceUnavailable, "(status 503): Reason"),
    (answer(0), ServiceUnavailable, "now"),
]


@pytest.mark.parametrize(("raised", "kind", "words"), ROWS)
def test_answers_of_the_api_server(raised: list[Exception], kind: type[TrainingError], words: str) -> None:
    for each in raised:
        found = errors.error_of_kubernetes(each, SUBJECT)
        assert type(found) is kind
        assert words in str(found)


def test_the_field_and_the_pause_that_it_names() -> None:
    refused = errors.error_of_kubernetes(answer(422, "is invalid", causes=CAUSES)[0], SUBJECT)
    assert isinstance(refused, InvalidJob)
    assert refused.field == "spec.hyperParameters.a"
    busy = errors.error_of_kubernetes(answer(429, "slow down", {"Retry-After": "7"})[0], SUBJECT)
    assert isinstance(busy, ServiceUnavailable)
    assert busy.retry_after == 7


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MaxRetryError(None, "/apis"), ServiceUnavailable),  # type: ignore[arg-type]
        (TimeoutError(), ServiceUnavailable),
        (ConnectionResetError(), ServiceUnavailable),
        (ConfigException("no config"), ConnectionProblem),
        (ValueError("odd"), ConnectionProblem),
    ],
)
def test_no_answer_at_all(error: Exception, kind: type[TrainingError]) -> None:
    assert type(errors.error_of_kubernetes(error, SUBJECT)) is kind


def refused(code: str, status: int = 400) -> ClientError:
    return ClientError(
        {"Error": {"Code": code, "Message": "why"}, "ResponseMetadata": {"HTTPStatusCode": status}},  # type: ignore[arg-type]
        "GetLogEvents",
    )


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (
            NoCredentialsError(),
            errors.NoCredentials,
            "There are no credentials of AWS to read the log: set aws_conn_id",
        ),
        (refused("AccessDeniedException"), ConnectionProblem, "AWS does not allow to read the log (AccessDenied"),
        (refused("ExpiredTokenException"), ConnectionProblem, "does not allow"),
        (refused("ThrottlingException"), ServiceUnavailable, "could not read the log now (ThrottlingException): why"),
        (refused("Strange", 503), ServiceUnavailable, "(Strange)"),
        (refused("InvalidParameterException"), ConnectionProblem, "AWS refuses to read the log"),
        (EndpointConnectionError(endpoint_url="http://x"), ServiceUnavailable, "AWS did not answer"),
        (ValueError("odd"), ConnectionProblem, "cannot be used (ValueError): odd"),
    ],
)
def test_errors_of_aws(error: Exception, kind: type[TrainingError], words: str) -> None:
    found = errors.error_of_aws(error, "read the log")
    assert type(found) is kind
    assert words in str(found)


def test_the_code_of_an_error() -> None:
    assert errors.error_code(refused("ResourceNotFoundException")) == "ResourceNotFoundException"
    assert errors.error_code(ValueError()) == ""
    known = ConnectionProblem("known")
    assert errors.error_of_aws(known, "x") is errors.error_of_kubernetes(known, "x") is known
