# SPDX-License-Identifier: Apache-2.0
"""What ModelArts and IAM refuse, as one of our errors: their code and their words, and one sentence on what to do.

The codes are those of the API's appendix "Error Codes"; which of them can be cured by waiting is our reading of it.
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
from airflow_provider_jobapi.services.modelarts.wire import Call, content

DUPLICATE = frozenset({"0103", "2751"})
"""A job of this name is there."""

GONE = frozenset({"0102", "2775"})
"""There is no such job."""

ENDED = frozenset({"2796", "6357"})
"""The job is in the state already that was asked for."""

NO_LOG_YET = frozenset({"2818", "2776"})
"""The log was not begun."""

STALE_TOKEN = frozenset({"0201", "0202", "0203", "2784", "4127", "4201", "5001", "5002"})
"""A token that ended or was revoked. 2784 comes with a 403, the others with a 401, with which permissions are refused,
too."""

_RETRIED = frozenset({408, 429, 502, 503, 504})


class SoldOut(QuotaReached):
    """The flavour that was asked for has no machine left; its lists need not say so, those of v2 never do."""


_BY_CODE: tuple[tuple[type[TrainingError], Iterable[str], str], ...] = (
    (QuotaReached, ("0118", "2815"), "wait for other jobs' ends, delete those not needed, or ask for a larger quota"),
    (SoldOut, ("3952", "3976", "4992"), "the flavour is sold out: run the task later, or name another flavour"),
    (
        ConnectionProblem,
        ("0428", "2785", "4901"),
        "let an administrator give ModelArts an agency for OBS, in the settings of its console",
    ),
    (ConnectionProblem, ("0112",), "let an administrator give the connection's user the permission for ModelArts"),
    (ConnectionProblem, ("0204", "0207", "0212"), "check the connection's project: the token must be one of a project"),
    (ConnectionProblem, ("2786",), "check the connection's project, iam_url and host, which must be of one region"),
    (
        ConnectionProblem,
        STALE_TOKEN,
        "it takes no token of the connection's IAM; check iam_url and host, which must be of one region",
    ),
    (ConnectionProblem, GONE, "check the connection's workspace_id"),
    (ConnectionProblem, ("4311", "4312", "2791"), "check the connection's bucket, and that it is in ModelArts' region"),
    (InvalidJob, ("2763", "2781", "2840"), "name another flavour in service_options, or change job_resources"),
    (InvalidJob, ("2780",), "name another engine: in image, in service_options, or in the connection"),
    (InvalidJob, ("2793",), "ask for fewer nodes in service_options"),
    (InvalidJob, ("2890",), "name another pool_id in service_options"),
    (InvalidJob, ("2759", "2760", "2761"), "keep the code folder small: data belongs into data_input"),
    (
        InvalidJob,
        ("2757", "2758", "2802"),
        "check what service_options say of code and boot file, and that the connection's bucket is in the same region",
    ),
    (InvalidJob, ("0101", "0104", "0107"), "check the parameters that it names, service_options above all"),
)  # fmt: skip
"""A gateway and IAM have codes of their own, whose numbers mean other things; see :func:`code_of`."""


class Duplicate(JobConflict):
    """A job of this name is there; whose it is, its description tells."""


class AlreadyEnded(JobConflict):
    """The job is in the state already that was asked for."""


def code_of(answer: Answer) -> str:
    """The last part of a code of ModelArts' own, such as ``0103``; empty where there is none."""
    return _own(_said(answer)[0])


def is_stale(answer: Answer) -> bool:
    """Whether a new token may cure a refusal. The gateway has codes of its own for that, so its 401 counts as one."""
    return answer.status in {401, 403} and code_of(answer) in (
        STALE_TOKEN | {""} if answer.status == 401 else STALE_TOKEN
    )


def succeeded(answer: Answer) -> bool:
    """Whether the request was done. A failure may come with 200 and ``is_success: false``."""
    return 200 <= answer.status < 300 and content(answer).get("is_success") is not False


def refusal(answer: Answer, call: Call) -> TrainingError:
    """The error that an answer which is no success means."""
    full, said = _said(answer)
    code = _own(full)
    words = f"{full}: {said}" if full else said or f"it answered {answer.status}"
    if answer.status in _RETRIED or (answer.status == 500 and code in {"", "0010"}):
        return ServiceUnavailable(
            f"ModelArts cannot serve {call.subject} now ({words}).", retry_after=answer.retry_after()
        )
    if code in GONE and call.path.startswith("/training-jobs/"):
        return JobGone(
            f"ModelArts no longer has {call.subject} ({words}): somebody deleted it; a retry of the task trains anew."
        )
    if code in ENDED:
        return AlreadyEnded(f"ModelArts has {call.subject} in this state already ({words}).")
    if code in DUPLICATE and not call.idempotent:
        return Duplicate(f"ModelArts has a job of this name already ({words}).")
    for kind, codes, advice in _BY_CODE:
        if code in codes:
            return kind(f"ModelArts refuses {call.subject} ({words}): {advice}.")
    return _by_status(answer.status, call, words)


def _by_status(status: int, call: Call, words: str) -> TrainingError:
    if status in {401, 403}:
        return ConnectionProblem(
            f"ModelArts refuses {call.subject} to the connection's user ({words}): check its permissions, and the "
            "connection's project."
        )
    if 300 <= status < 400:
        return ConnectionProblem("The connection's host redirects: set it to the address that answers.")
    if status == 404:
        return ConnectionProblem(
            f"ModelArts does not know {call.subject} ({words}): check the connection's host and dialect."
        )
    if status >= 500:
        return ServiceUnavailable(f"ModelArts cannot serve {call.subject} ({words}).")
    if call.idempotent:
        return BrokenContract(f"ModelArts refuses {call.subject} ({words}); check the connection's dialect.")
    return InvalidJob(f"ModelArts refuses {call.subject} ({words}): change what it names.")


def _own(full: str) -> str:
    whose, _, code = full.rpartition(".")
    return code if whose in {"", "ModelArts"} else ""


def _said(answer: Answer) -> tuple[str, str]:
    """Code and words, which have four spellings: the training pages', the general page's, the gateway's and IAM's."""
    body = content(answer)
    inner: Any = body.get("error")
    inner = inner if isinstance(inner, dict) else {}
    code = body.get("error_code") or inner.get("error_code") or inner.get("code") or ""
    said = next(
        (
            place[name]
            for place in (body, inner)
            for name in ("error_message", "error_msg", "message", "title")
            if place.get(name)
        ),
        "",
    )
    return sentence(code, 60), sentence(said, 400).rstrip(" .")
