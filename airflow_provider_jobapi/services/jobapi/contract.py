# SPDX-License-Identifier: Apache-2.0
"""The requests to a jobAPI and the parsing of its answers. Pure: worker and triggerer differ only in their I/O.

A service is not trusted: an answer of another shape than the contract's is a :class:`BrokenContract`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, urlsplit

from pydantic import ValidationError

from airflow_provider_jobapi.exceptions import BrokenContract
from airflow_provider_jobapi.services.answer import Answer, sentence
from airflow_provider_jobapi.training import job_features
from airflow_provider_jobapi.training.job_file import JobFile
from airflow_provider_jobapi.training.job_limits import JobLimits
from airflow_provider_jobapi.training.logs import LogLine, parse_records
from airflow_provider_jobapi.training.status import JobState, JobStatus

PAGE = 1024 * 1024
"""The most bytes of log in one answer."""

LONGEST_WAIT = 25
"""The most seconds for which a log request may be held open (RFC 7240 ``Prefer: wait``)."""

LISTING_PAGE = 10_000
"""The most files of one page of a listing; a service that knows no pages lists all."""

LARGEST_ANSWER = 4 * PAGE
"""The most bytes of any answer that is read into memory; a model's listing may be long."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request, as a value.

    :ivar path: The path below the API's own, quoted.
    :ivar subject: What is requested, for error messages, such as ``job 1234``.
    """

    method: str
    path: str
    subject: str
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None


@dataclass(frozen=True, slots=True)
class Storage:
    """The storage of the jobs' files, and its credentials.

    :ivar protocol: ``s3``, or ``http`` for the storage that the jobAPI is itself.
    :ivar limits: What one job may ask for, where the service says so.
    :ivar features: What the service understands beyond the first version of the contract.
    """

    protocol: str
    endpoint: str
    bucket: str
    region: str
    access_key: str
    secret_key: str = field(repr=False)
    state: str
    message: str
    limits: JobLimits = field(default_factory=JobLimits)
    features: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class LogPage:
    """Lines of the log or of the scalars, and the state of them and of the job that came with them.

    :ivar scalars: The bytes of the scalars; 0 from a service that has none.
    """

    lines: tuple[LogLine, ...]
    next_offset: int
    size: int
    complete: bool
    state: JobState | None
    scalars: int = 0


def _job(job_id: str, *more: str) -> str:
    return "/".join(("/jobs", quote(job_id, safe=""), *more))


def submit(job_id: str, job_file: JobFile, cycle: str = "") -> Request:
    """Submit a job; the same id and the same job are the same submit.

    :param cycle: What the jobs of one clear cycle of a task have in common. A server that does not know checkpoints
        ignores it, and it is no part of the job, whose digest stays what it was.
    """
    headers = {"Content-Type": "application/json"} | ({"Job-Cycle": cycle} if cycle else {})
    return Request("POST", _job(job_id), f"job {job_id}", headers=headers, body=job_file.canonical())


def status(job_id: str) -> Request:
    """Request a job's status."""
    return Request("GET", _job(job_id), f"job {job_id}")


def stop(job_id: str) -> Request:
    """Request the stop of a job."""
    return Request("POST", _job(job_id, "stop"), f"job {job_id}")


def jobs(limit: int) -> Request:
    """Request the newest jobs of the client."""
    return Request("GET", "/jobs", "the jobs", params={"limit": str(limit)})


def log_page(job_id: str, offset: int, *, limit: int = PAGE, wait: int = 0, known: JobState | None = None) -> Request:
    """Request the log from an offset on.

    :param limit: The most bytes.
    :param wait: Seconds for which the service may hold the request until there are lines or the state changes.
    :param known: The state that is known already.
    """
    params = {"offset": str(offset), "limit": str(limit)}
    if known is not None and known is not JobState.UNKNOWN:
        params["known"] = known.value
    return Request(
        "GET",
        _job(job_id, "logs"),
        f"the log of job {job_id}",
        params=params,
        headers={"Prefer": f"wait={wait}"} if wait else {},
    )


def scalars_page(job_id: str, offset: int, *, wait: int = 0) -> Request:
    """Request the scalars from an offset on."""
    params = {"offset": str(offset), "limit": str(PAGE)}
    headers = {"Prefer": f"wait={wait}"} if wait else {}
    return Request("GET", _job(job_id, "scalars"), f"the scalars of job {job_id}", params=params, headers=headers)


def model(job_id: str, after: str | None = None, kind: str | None = None) -> Request:
    """Request a page of the listing of the job's model.

    :param after: The ``next`` of the page before.
    :param kind: The kind that is wanted, where the job left models of several.
    """
    params = _page(after) | ({} if kind is None else {"kind": kind})
    return Request("GET", _job(job_id, "model"), f"the model of job {job_id}", params=params)


def work(job_id: str, after: str | None = None) -> Request:
    """Request a page of the listing of the job's working directory.

    :param after: The ``next`` of the page before.
    """
    return Request("GET", _job(job_id, "work"), f"the working directory of job {job_id}", params=_page(after))


def _page(after: str | None) -> dict[str, str]:
    return {"limit": str(LISTING_PAGE)} | ({} if after is None else {"after": after})


def environment(job_id: str) -> Request:
    """Request the list of the job's packages."""
    return Request("GET", _job(job_id, "environment"), f"the environment of job {job_id}")


def storage() -> Request:
    """Request the storage of the jobs' files."""
    return Request("GET", "/storage", "the storage")


def read_status(answer: Answer, job_id: str) -> JobStatus:
    """Read a status object.

    :raises BrokenContract: when the answer is not one, or another job's.
    """
    read = _status(read_object(answer, "status"), f"status of job {job_id}")
    if read.job_id not in {"", job_id}:
        raise BrokenContract(
            f"The service returned the status of job {sentence(read.job_id, 60)} instead of job {job_id}."
        )
    return read.model_copy(update={"job_id": job_id})


def _status(content: Mapping[str, Any], what: str) -> JobStatus:
    values = {name: value for name, value in content.items() if value is not None}
    values.setdefault("job_id", values.pop("id", ""))
    try:
        read = JobStatus.model_validate(values)
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise BrokenContract(f"The service's {what} has no usable {where}.") from None
    words = {name: sentence(getattr(read, name)) for name in ("container_id", "name")}
    words["message"] = sentence(read.message, 2_000)
    if read.environment is not None:
        words["environment"] = sentence(read.environment, 200)
    reason = None if read.reason is None else sentence(read.reason)
    return read.model_copy(update={"reason": reason, **words})


def read_job_page(answer: Answer) -> tuple[list[JobStatus], bool]:
    """Read a page of the client's jobs, the newest first, and whether there are more.

    :raises BrokenContract: when the answer is not one.
    """
    found = read_jobs(answer)
    if not all(isinstance(each, dict) for each in found):
        raise BrokenContract("The service's list of jobs holds an entry that is not a status object.")
    return [_status(each, "list of jobs") for each in found], bool(read_object(answer, "list of jobs").get("next"))


def read_jobs(answer: Answer) -> list[Any]:
    """Read a page of the client's jobs.

    :raises BrokenContract: when the answer is not one.
    """
    found = read_object(answer, "list of jobs").get("jobs")
    if not isinstance(found, list):
        raise BrokenContract("The service's list of jobs has no jobs; check that the connection's host is a jobAPI's.")
    return found


def read_skew(answer: Answer) -> timedelta:
    """The clock of this machine minus the service's; zero where the service does not send its time."""
    try:
        server_time = datetime.fromisoformat(answer.headers.get("job-time", ""))
        return answer.at - (server_time if server_time.tzinfo else server_time.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        return timedelta(0)


def read_log_page(answer: Answer, offset: int, stream: str = "log") -> LogPage:
    """Read a page of a log.

    :param stream: ``log`` or ``scalars``.
    :raises BrokenContract: when its offsets, its size or its records cannot be true.
    """
    if len(answer.body) > PAGE:
        raise BrokenContract(f"The service sent {len(answer.body):,} bytes of {stream}; at most {PAGE:,} are allowed.")
    next_offset, size = _count(answer, f"job-{stream}-next-offset"), _count(answer, f"job-{stream}-size")
    if next_offset != offset + len(answer.body) or size < next_offset:
        raise BrokenContract(
            f"The service sent {len(answer.body)} bytes of {stream} from offset {offset} and says that they end at "
            f"{next_offset} of {size}, which is inconsistent."
        )
    word = answer.headers.get("job-status")
    state = None if word is None else JobState.read(word)
    complete = answer.headers.get(f"job-{stream}-complete", "").strip().lower() == "true"
    ended = state is not None and state.ended
    scalars = _count(answer, "job-scalars-size") if "job-scalars-size" in answer.headers else 0
    return LogPage(parse_records(answer.body), next_offset, size, complete and ended, state, scalars)


def read_size(answer: Answer, stream: str = "log") -> int:
    """The size of a log that ends before the requested offset (HTTP 416)."""
    return _count(answer, f"job-{stream}-size")


def read_storage(answer: Answer) -> Storage:
    """Read the storage of the jobs' files. SAP's service sends endpoint and keys only, which means S3 over TLS."""
    content = read_object(answer, "storage")

    def text(name: str, default: str = "") -> str:
        value = content.get(name)
        if not isinstance(value, str | None):
            raise BrokenContract(f"The service's storage has a {name} that is not a text.")
        return value or default

    read = Storage(
        protocol=text("protocol", "s3").lower(),
        endpoint=text("endpoint"),
        bucket=text("bucket", "data"),
        region=text("region"),
        access_key=text("accessKey"),
        secret_key=text("secretKey"),
        state=text("status", "READY").upper(),
        message=sentence(text("message")),
        limits=JobLimits.of_header(answer.headers.get("job-limits", "")),
        features=job_features.of_header(answer.headers.get("job-features", "")),
    )
    if read.protocol not in {"s3", "http"}:
        raise BrokenContract(f"The service's storage has the protocol {read.protocol[:40]!r}; expected http or s3.")
    return read


_S3_FIELDS = {
    "bucket": r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}",
    "region": r"[A-Za-z0-9_-]{0,64}",
    "access_key": r"[\x21-\x7e]{1,1024}",
    "secret_key": r"[\x21-\x7e]{1,1024}",
}


def check_s3(storage: Storage, url: str) -> None:
    """Check the fields of an S3 storage, which obstore does not.

    :param url: The endpoint as a URL.
    :raises BrokenContract: when they are not complete or cannot be.
    """
    if not (storage.endpoint and storage.access_key and storage.secret_key):
        raise BrokenContract("The service's storage is S3 without endpoint, accessKey and secretKey.")
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or re.search(r"[^\x21-\x7e]|[\\\"<>^`{|}]|@", url):
        raise BrokenContract(
            f"The service's storage has the endpoint {sentence(url, 80)!r}, which is not a valid address."
        )
    for name, allowed in _S3_FIELDS.items():
        if not re.fullmatch(allowed, getattr(storage, name)):
            raise BrokenContract(f"The service's storage is S3 with an invalid {name}.")


def read_environment(answer: Answer) -> str | None:
    """Read the list of a job's packages; None where it has none yet."""
    found = read_object(answer, "environment").get("environment")
    text = found.get("requirements") if isinstance(found, dict) else None
    if not isinstance(text, str) and found is not None:
        raise BrokenContract("The service's environment of the job has no requirements.")
    return text


def read_objects(answer: Answer) -> tuple[list[tuple[str, int, str | None]], str | None]:
    """Read a page of the storage's listing: key, size and SHA-256 of each object, and where the next page begins."""
    content = read_object(answer, "listing")
    objects, following = content.get("objects"), content.get("next")
    if not isinstance(objects, list) or not isinstance(following, str | None):
        raise BrokenContract("The service's listing of the storage has no list of objects.")
    read = []
    for entry in objects:
        key, size, sha256 = (entry.get(name) if isinstance(entry, dict) else None for name in ("key", "size", "sha256"))
        if not isinstance(key, str) or not isinstance(size, int) or not isinstance(sha256, str | None):
            raise BrokenContract("The service's listing of the storage has an object without key or size.")
        read.append((key, size, sha256))
    return read, following


def read_object(answer: Answer, what: str) -> dict[str, Any]:
    """Read an answer that is a JSON object.

    :param what: What it is, for the error.
    :raises BrokenContract: when it is something else.
    """
    try:
        content = json.loads(answer.body)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        start = sentence(answer.body[:200].decode("utf-8", errors="replace"), 60)
        raise BrokenContract(
            f"The service's {what} is not a JSON object but begins with {start!r}; check that the connection's host is "
            "the address of a jobAPI."
        )
    return content


def _count(answer: Answer, name: str) -> int:
    text = answer.headers.get(name, "")
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise BrokenContract(
            f"The service sent a log page whose header {name} is {sentence(text, 40)!r}, not a number."
        )
    return int(text)
