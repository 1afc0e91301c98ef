# SPDX-License-Identifier: Apache-2.0
"""The request that follows the logs of many jobs, and the parsing of its answer. Pure.

An answer has one entry for each job with news. It is read into the
:class:`~airflow_provider_jobapi.services.answer.Answer` that the route of that job's log would have given, so that the
rest of the code knows one kind of answer.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from airflow_provider_jobapi.exceptions import BrokenContract
from airflow_provider_jobapi.services.answer import Answer
from airflow_provider_jobapi.services.jobapi.contract import PAGE, Request
from airflow_provider_jobapi.training.status import JobState

MOST_JOBS = 5_000
"""The most jobs of one request."""

LARGEST_ANSWER = 6 * PAGE
"""The most bytes of an answer: 4 MiB of records, and an entry for each of 5,000 jobs."""

MEDIA_TYPE = "application/vnd.jobapi.follow"

_LONGEST_HEAD = 64 * 1024
"""The most bytes of the line of JSON that begins an entry."""

WITHOUT_ROUTE = frozenset(range(400, 500)) - {401, 408, 425, 429} | {501}
"""The statuses of a service that does not know the route, or not such jobs. Each job's own route says what is wrong."""


@dataclass(slots=True)
class Place:
    """Where a follower stands in a job's log.

    :ivar state: The state that is known.
    :ivar has_scalars: Whether it is known that the job has scalars.
    """

    job_id: str
    offset: int
    state: JobState | None = None
    has_scalars: bool = False

    def as_json(self) -> dict[str, Any]:
        """The place in the request."""
        known = None if self.state is JobState.UNKNOWN else self.state
        return {"job": self.job_id, "offset": self.offset, "state": known, "scalars": self.has_scalars}


def follow(places: Iterable[Place], wait: int) -> Request:
    """Request what is new of some jobs.

    :param places: At most :data:`MOST_JOBS`, each of another job.
    :param wait: Seconds for which the service may hold the request until there is anything.
    """
    body = json.dumps({"jobs": [place.as_json() for place in places]}, separators=(",", ":")).encode()
    headers = {"Content-Type": "application/json", "Prefer": f"wait={wait}"}
    return Request("POST", "/follow", "the logs of the jobs", headers=headers, body=body)


def is_without_route(answer: Answer) -> bool:
    """Whether the service cannot follow these jobs by one request."""
    if answer.status in WITHOUT_ROUTE:
        return True
    return 200 <= answer.status < 300 and not answer.headers.get("content-type", "").startswith(MEDIA_TYPE)


def no_news(place: Place, answer: Answer) -> Answer:
    """What the route of a job's log answers when its wait is over.

    :param answer: The answer without an entry for the job.
    """
    return _log_answer(place.offset, place.offset, place.state, {}, b"", answer)


def read_entries(answer: Answer, asked: Collection[str]) -> dict[str, Answer]:
    """Read the entries of an answer; returns for each job with news what the route of its log would have answered.

    :param asked: The jobs of the request.
    :raises BrokenContract: when the answer cannot be true.
    """
    entries: dict[str, Answer] = {}
    body, at = answer.body, 0
    while at < len(body):
        end = body.find(b"\n", at, at + _LONGEST_HEAD)
        head = _head(body[at : end if end >= 0 else at])
        job_id, length = head.get("job"), head.get("length")
        if not isinstance(job_id, str) or job_id not in asked or job_id in entries or not _is_count(length):
            raise BrokenContract("The service's answer about many jobs has an entry of no job that was asked for.")
        at = end + 1 + length
        if at > len(body):
            raise BrokenContract(f"The service's answer about many jobs ends within the records of job {job_id}.")
        entries[job_id] = _read_entry(head, body[end + 1 : at], answer)
    return entries


def _head(line: bytes) -> dict[str, Any]:
    try:
        head = json.loads(line)
    except (ValueError, RecursionError):
        head = None
    if not isinstance(head, dict):
        raise BrokenContract("The service's answer about many jobs has an entry that is no line of JSON.")
    return head


def _read_entry(head: Mapping[str, Any], records: bytes, answer: Answer) -> Answer:
    problem = head.get("problem")
    if problem is None:
        state = head.get("state")
        known = JobState.read(state) if isinstance(state, str) else None
        return _log_answer(_count(head, "next_offset"), _count(head, "size"), known, head, records, answer)
    status = problem.get("status") if isinstance(problem, dict) else None
    if not isinstance(status, int) or not 400 <= status < 600:
        raise BrokenContract("The service's answer about many jobs has a problem without a status.")
    headers = {"content-type": "application/problem+json"}
    size = problem.get("size", head.get("size"))
    if _is_count(size):
        headers["job-log-size"] = str(size)
    return Answer(status, headers, json.dumps(problem).encode(), answer.at)


def _log_answer(
    next_offset: int, size: int, state: JobState | None, head: Mapping[str, Any], records: bytes, answer: Answer
) -> Answer:
    headers = {
        "job-log-next-offset": str(next_offset),
        "job-log-size": str(size),
        "job-log-complete": "true" if head.get("complete") is True else "false",
    }
    if state is not None:
        headers["job-status"] = state.value
    if head.get("scalars"):
        headers["job-scalars-size"] = str(_count(head, "scalars"))
    return Answer(200, headers, records, answer.at)


def _count(head: Mapping[str, Any], name: str) -> int:
    value = head.get(name)
    if not _is_count(value):
        raise BrokenContract(f"The service's answer about many jobs has an entry without a usable {name}.")
    return value


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63
