# SPDX-License-Identifier: Apache-2.0
"""Jobs by our id: created once, and found again after a lost answer, a killed worker, and a list that is late.

No id can be chosen on ModelArts, and its API has no token by which a repeated creation is known. But names are unique,
and ours hold our id.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from airflow_provider_jobapi.exceptions import (
    BrokenContract,
    InvalidJob,
    JobConflict,
    JobGone,
    ServiceUnavailable,
    TrainingError,
)
from airflow_provider_jobapi.services.answer import Answer
from airflow_provider_jobapi.services.base import Handle, Submission
from airflow_provider_jobapi.services.modelarts import planning
from airflow_provider_jobapi.services.modelarts.connection import ModelArtsConnection
from airflow_provider_jobapi.services.modelarts.mapping import (
    SEARCH_PAGE,
    Details,
    Dialect,
    Found,
    Key,
    Plan,
    dialect_of,
    key_of,
)
from airflow_provider_jobapi.services.modelarts.refusals import Duplicate
from airflow_provider_jobapi.services.modelarts.session import Session
from airflow_provider_jobapi.services.modelarts.wire import Call, skew
from airflow_provider_jobapi.services.retry import Retry, sleep

LATE = Retry(total=8.0, attempts=3)
"""How long a job is looked for whose creation was not answered: the answer, or the list of jobs, may be slow."""

LOOKS = 16
"""How often it is looked for meanwhile."""

MOST_PAGES = 20
"""Of a search for one id, which is in the name of one job unless somebody plays tricks."""

_unanswered: set[str] = set()
"""Our ids of those jobs whose creation this process has asked for and not seen through. Airflow's operator makes a new
service when it is killed, so they are the process's; no lock, for signal handlers."""


class Jobs:
    """The jobs of one connection.

    :param session: The way there, opened when it is used.
    :param retry: How a call is repeated while the service is unavailable.
    """

    def __init__(
        self,
        connection: ModelArtsConnection,
        session: Callable[[], Session],
        retry: Retry,
        log: logging.Logger,
    ) -> None:
        self._connection = connection
        self._session = session
        self._retry = retry
        self._log = log
        self.dialect: Dialect = dialect_of(connection.dialect)

    @contextmanager
    def apart(self, retry: Retry) -> Iterator[Jobs]:
        """The same with a session of its own, for a signal handler, which may have interrupted whoever holds a lock
        of the process's session.
        """
        session = self._session().apart(retry.total / 2)
        try:
            yield Jobs(self._connection, lambda: session, retry, self._log)
        finally:
            session.close()

    def send(self, call: Call, retry: Retry | None = None) -> Answer:
        """Send a call, repeated while ModelArts is unavailable."""
        session = self._session()
        return (retry or self._retry).call(lambda: session.send(call), self._log)

    def details(self, handle: Handle, retry: Retry | None = None) -> tuple[Details, timedelta]:
        """Where a job stands, asked in the dialect in which it was created; and our clock minus the service's.

        :raises JobGone: when somebody deleted it.
        """
        dialect, key = key_of(handle)
        answer = self.send(dialect.details(key), retry)
        return dialect.read_details(answer), skew(answer)

    def is_over(self, handle: Handle) -> bool:
        """Whether there is nothing left to stop, as far as that can be learnt."""
        try:
            return self.details(handle)[0].over
        except JobGone:
            return True
        except TrainingError:
            return False

    def search(self, job_id: str) -> tuple[Found, timedelta] | None:
        """The job whose name and description hold our id, and our clock minus the service's."""
        return next((pair for pair in self._named(job_id) if planning.owned(pair[0], job_id)), None)

    def submission(self, job_id: str, found: Found) -> Submission:
        """Where the output is, the job itself tells: options may have moved it, or the connection changed."""
        handle = self.handle(job_id, found.name, found.key, "")
        details, measured = self.details(handle)
        return Submission(handle | {"name": details.status.name, "output": details.train_url}, measured)

    def handle(self, job_id: str, name: str, key: Key, output: str) -> Handle:
        """The handle of a job of this dialect."""
        handle = {"job_id": job_id, "name": name, "dialect": self.dialect.version, "modelarts_id": key.id}
        return handle | ({"version_id": key.version} if key.version else {}) | {"output": output}

    def find_late(self, job_id: str) -> Submission | None:
        """Look some seconds for a job whose creation this process has asked for and not seen through.

        A worker that is killed has no other way to learn what it must stop. May be called from a signal handler.
        """
        if job_id not in _unanswered:
            return None
        until = time.monotonic() + LATE.total
        with self.apart(LATE) as asking:
            for _ in range(LOOKS):
                if (found := asking.search(job_id)) is not None:
                    _unanswered.discard(job_id)
                    return asking.submission(job_id, found[0])
                if time.monotonic() > until:
                    break
                sleep(LATE.total / LOOKS)
        _unanswered.discard(job_id)
        return None

    @contextmanager
    def creating(self, job_id: str) -> Iterator[None]:
        """What is done within has created a job; one that it leaves unclear is looked for by :meth:`find_late`."""
        _unanswered.add(job_id)
        try:
            yield
        except (ServiceUnavailable, BrokenContract):
            raise
        except TrainingError:
            _unanswered.discard(job_id)
            raise
        _unanswered.discard(job_id)

    def create(self, plan: Plan, job_id: str, digest: str) -> tuple[Key, timedelta]:
        """Create the job, or find it where an answer was lost: no two jobs may come of one id.

        :raises JobConflict: when the id belongs to a job with another content.
        """
        session, call = self._session(), self.dialect.create(plan)
        tried = False

        def once() -> tuple[Key, timedelta]:
            nonlocal tried
            if tried and (there := self.search(job_id)) is not None:
                return _same(there[0], digest), there[1]
            tried = True
            try:
                answer = session.send(call)
            except Duplicate as error:
                there = self._of_this_name(plan.name, job_id, error)
                return _same(there[0], digest), there[1]
            return self.dialect.read_created(answer), skew(answer)

        return self._retry.call(once, self._log)

    def _of_this_name(self, name: str, job_id: str, refused: Duplicate) -> tuple[Found, timedelta]:
        """Our job, which has its name already.

        :raises InvalidJob: when it is somebody else's.
        :raises ServiceUnavailable: when the list does not show it yet.
        """
        named = list(self._named(job_id))
        if ours := [(each, measured) for each, measured in named if planning.owned(each, job_id)]:
            return ours[0]
        if any(each.name == name for each, _ in named):
            raise InvalidJob(
                f"{refused} Its description says that it is not the one of this task: delete it there.",
                field="job_name",
            )
        raise ServiceUnavailable(f"{refused} The list of its jobs does not show it yet.")

    def _named(self, job_id: str) -> Iterator[tuple[Found, timedelta]]:
        """The jobs whose name ends with our id."""
        for page in range(MOST_PAGES):
            answer = self.send(self.dialect.search(job_id, self._connection.workspace_id, page))
            found = self.dialect.read_search(answer)
            yield from ((each, skew(answer)) for each in found if each.name.endswith(f"-{job_id}"))
            if len(found) < SEARCH_PAGE:
                break


def check_same(name: str, known: str | None, digest: str) -> None:
    """Whether the job that is there is the one that is asked for.

    :raises JobConflict: when it is another.
    """
    if known not in {None, digest}:
        raise JobConflict(f"ModelArts has the job {name} with another script, data or options.")


def _same(there: Found, digest: str) -> Key:
    check_same(there.name, planning.digest_in(there.description), digest)
    return there.key
