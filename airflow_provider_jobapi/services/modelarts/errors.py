# SPDX-License-Identifier: Apache-2.0
"""Convert error answers of ModelArts into exceptions, with the service's code and message and what to do about it.

The codes are those of the API's appendix "Error Codes". Which of them are worth a retry is not documented there.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from airflow_provider_jobapi.exceptions import (
    BrokenContract,
    ConnectionProblem,
    InvalidJob,
    JobConflict,
    JobGone,
    QuotaReached,
    ServiceUnavailable,
    TrainingError,
)
from airflow_provider_jobapi.services.answer import Answer, sentence
from airflow_provider_jobapi.services.modelarts.calls import Call, content

DUPLICATE = frozenset({"0103", "2751"})
"""Codes for a creation whose job name is in use."""

GONE = frozenset({"0102", "2775"})
"""Codes for a job that does not exist."""

ENDED = frozenset({"2796", "6357"})
"""Codes for an action that the job's state makes unnecessary."""

NO_LOG_YET = frozenset({"2818", "2776"})
"""Codes for a log without a first line yet."""

EXPIRED_TOKEN = frozenset({"0201", "0202", "0203", "2784", "4127", "4201", "5001", "5002"})
"""Codes for a token that expired or was revoked. 2784 comes with HTTP 403, the others with 401, which is also used for
missing permissions."""

_RETRIED_STATUSES = frozenset({408, 429, 502, 503, 504})


class SoldOut(QuotaReached):
    """The requested flavour has no free machine. The list of flavours may not show this; the one of v2 never does."""


class NoSuchApi(ConnectionProblem):
    """The service does not have this request at all."""


class ArgumentsRefused(InvalidJob):
    """An argument of the request is missing or wrong, and the code does not say which."""


class FlavorRefused(ArgumentsRefused):
    """The flavour of the request is wrong."""


_BY_CODE: tuple[tuple[type[TrainingError], Iterable[str], str], ...] = (
    (QuotaReached, ("0118", "2815"), "wait until other jobs end, delete unneeded jobs, or request a larger quota"),
    (SoldOut, ("3952", "3976", "4992"), "the flavour is sold out; run the task later or set another flavour"),
    (
        ConnectionProblem,
        ("0428", "2785", "4901"),
        "ask an administrator to give ModelArts an agency for OBS in the settings of its console",
    ),
    (ConnectionProblem, ("0112",), "ask an administrator to give the connection's user the permission for ModelArts"),
    (ConnectionProblem, ("0204", "0207", "0212"), "check the connection's project: a token needs one"),
    (ConnectionProblem, ("2786",), "check that the connection's project, iam_url and host belong to the same region"),
    (
        ConnectionProblem,
        EXPIRED_TOKEN,
        "it rejects tokens of the connection's IAM; check that iam_url and host belong to the same region",
    ),
    (ConnectionProblem, GONE, "check the connection's workspace_id"),
    (ConnectionProblem, ("4311", "4312", "2791"), "check the connection's bucket, and that it is in ModelArts' region"),
    (FlavorRefused, ("2763", "2781", "2840"), "set another flavor in service_options, or change job_resources"),
    (InvalidJob, ("2780",), "set another engine in image, in service_options or in the connection"),
    (InvalidJob, ("2793",), "set fewer nodes in service_options"),
    (InvalidJob, ("2890",), "set another pool_id in service_options"),
    (InvalidJob, ("2759", "2760", "2761"), "keep the code folder small and pass data with data_input"),
    (
        InvalidJob,
        ("2757", "2758", "2802"),
        "check the code and boot file in service_options, and that the connection's bucket is in the same region",
    ),
    (
        ArgumentsRefused,
        ("0101", "0104", "0107"),
        "check the parameters that the message names, service_options first",
    ),
)  # fmt: skip
"""Exception and advice by code. The same numbers mean other things in codes of the API gateway and of IAM; see
:func:`code_of`."""


class Duplicate(JobConflict):
    """The name of the job is in use. The description of the existing job shows whether it is the same job."""


class AlreadyEnded(JobConflict):
    """The job is already in the requested state."""


def code_of(answer: Answer) -> str:
    """Return the number of a ModelArts error code, such as ``0103``; empty for codes of other systems."""
    return _modelarts_code(_code_and_message(answer)[0])


def is_token_expired(answer: Answer) -> bool:
    """Whether a new token may help. A 401 without a ModelArts code comes from the gateway and counts as well."""
    return answer.status in {401, 403} and code_of(answer) in (
        EXPIRED_TOKEN | {""} if answer.status == 401 else EXPIRED_TOKEN
    )


def succeeded(answer: Answer) -> bool:
    """Whether the request succeeded. A failure may have the status 200 and ``is_success: false``."""
    return 200 <= answer.status < 300 and content(answer).get("is_success") is not False


def error_of(answer: Answer, call: Call) -> TrainingError:
    """Return the exception for an answer that is not a success."""
    full, message = _code_and_message(answer)
    code = _modelarts_code(full)
    words = f"{full}: {message}" if full else message or f"HTTP {answer.status}"
    if answer.status in _RETRIED_STATUSES or (answer.status == 500 and code in {"", "0010"}):
        return ServiceUnavailable(
            f"ModelArts is temporarily unable to serve {call.subject} ({words}).", retry_after=answer.retry_after()
        )
    if code in GONE and call.path.startswith("/training-jobs/"):
        return JobGone(
            f"ModelArts no longer has {call.subject} ({words}): it was deleted. A retry of the task starts a new job."
        )
    if code in ENDED:
        return AlreadyEnded(f"ModelArts already has {call.subject} in the requested state ({words}).")
    if code in DUPLICATE and not call.idempotent:
        return Duplicate(f"ModelArts already has a job with this name ({words}).")
    for kind, codes, advice in _BY_CODE:
        if code in codes:
            return kind(f"ModelArts rejected the request for {call.subject} ({words}): {advice}.")
    return _by_status(answer.status, call, words)


def _by_status(status: int, call: Call, words: str) -> TrainingError:
    if status in {401, 403}:
        return ConnectionProblem(
            f"ModelArts denied the connection's user access to {call.subject} ({words}): check the user's permissions "
            "and the connection's project."
        )
    if 300 <= status < 400:
        return ConnectionProblem("ModelArts answered with a redirect: set the connection's host to its target.")
    if status in {404, 405, 501}:
        return NoSuchApi(f"ModelArts does not know {call.subject} ({words}): check the connection's host and dialect.")
    if status >= 500:
        return ServiceUnavailable(f"ModelArts failed to serve {call.subject} ({words}).")
    if call.idempotent:
        return BrokenContract(
            f"ModelArts rejected the request for {call.subject} ({words}); check the connection's dialect."
        )
    kind = ArgumentsRefused if status in {200, 400, 422} else InvalidJob
    return kind(f"ModelArts rejected the request for {call.subject} ({words}): correct what the message names.")


def _modelarts_code(full: str) -> str:
    system, _, code = full.rpartition(".")
    return code if system in {"", "ModelArts"} else ""


def _code_and_message(answer: Answer) -> tuple[str, str]:
    """Return code and message. The training API, the general API, the gateway and IAM each name the fields
    differently.
    """
    body = content(answer)
    inner: Any = body.get("error")
    inner = inner if isinstance(inner, dict) else {}
    code = body.get("error_code") or inner.get("error_code") or inner.get("code") or ""
    message = next(
        (
            source[name]
            for source in (body, inner)
            for name in ("error_message", "error_msg", "message", "title")
            if source.get(name)
        ),
        "",
    )
    return sentence(code, 60), sentence(message, 400).rstrip(" .")
