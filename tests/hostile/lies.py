# SPDX-License-Identifier: Apache-2.0
"""Our own client before a service that lies, and what must be true of every error that comes of it."""

from __future__ import annotations

import itertools
import re
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from airflow_provider_jobapi.exceptions import TrainingError
from airflow_provider_jobapi.services import retry
from airflow_provider_jobapi.services.jobapi.connection import JobApiConnection
from airflow_provider_jobapi.services.jobapi.service import JobApiService
from airflow_provider_jobapi.services.retry import Retry
from airflow_provider_jobapi.training.job import TrainingJob
from tests.harness.hostile_server import SECRET, HostileServer, secrets_in

JOB_ID = "1b4e28ba-2fa1-11d2-883f-0016d3cca427"
HANDLE = {"job_id": JOB_ID}
TIMEOUT = 5.0
"""Seconds of silence after which the clients of these tests give up."""

BRIEF = 0.3
"""The same, where the service is made to be slow."""

_logins = itertools.count()


def connection(server: HostileServer, **extra: Any) -> JobApiConnection:
    """A connection that nobody had before, so that no token of an earlier test is at hand."""
    given = {"timeout": TIMEOUT, "token_url": f"{server.url}/oauth/token"} | extra
    return JobApiConnection.of(host=server.url, login=f"client-{next(_logins)}", password=SECRET, extra=given)


def service(server: HostileServer, **extra: Any) -> JobApiService:
    """The service behind a hostile server. It tries everything twice."""
    return JobApiService(connection(server, **extra), retry=Retry(total=30, attempts=2))


def job() -> TrainingJob:
    """A job with two files."""
    return TrainingJob.of(name="test", script="print('hello')\n", data={"train.csv": "a,b\n"})


OPERATIONS: dict[str, Callable[[JobApiService, Path], object]] = {
    "token": lambda service, _: service.token(),
    "storage": lambda service, _: service.storage(),
    "submit": lambda service, _: service.submit(job(), JOB_ID),
    "find": lambda service, _: service.find(JOB_ID),
    "status": lambda service, _: service.status(HANDLE),
    "stop": lambda service, _: service.stop(HANDLE),
    "fetch": lambda service, place: service.fetch_model(HANDLE, place),
}
"""What a worker asks of a service, but for the last lines of a log, which are best effort."""


class Refused:
    """What came of something that must fail."""

    error: TrainingError
    seconds: float


@contextmanager
def one_clear_error(*kinds: type[TrainingError], within: float = 20) -> Iterator[Refused]:
    """What happens inside must end with one error of our tree: one sentence or a few, no secret, in time.

    :param kinds: Which ones; any of our tree, where none is named.
    """
    seen = Refused()
    started = time.monotonic()
    with retry.testing():
        try:
            yield seen
        except TrainingError as error:
            seen.error, seen.seconds = error, time.monotonic() - started
        else:
            raise AssertionError("There was no error.")
    check_error(seen.error, *kinds)
    assert seen.seconds < within


def check_error(error: TrainingError, *kinds: type[TrainingError]) -> None:
    """What must be true of every error that a service's lies lead to."""
    text = str(error)
    assert isinstance(error, kinds or TrainingError), repr(error)
    assert 10 < len(text) < 1_500, text
    assert text.endswith((".", "…")), text
    assert not re.search(r"[\x00-\x1f\x7f-\x9f]", text), repr(text)
    assert "Traceback" not in text
    assert "object at 0x" not in text
    whole = "".join(traceback.format_exception(error))
    assert not secrets_in([text, repr(error), whole])


def tree(place: Path) -> set[str]:
    """Everything below a place."""
    return {path.relative_to(place).as_posix() for path in place.rglob("*")}
