# SPDX-License-Identifier: Apache-2.0
"""Create a job on ModelArts once, and find it again after a lost answer, a killed worker, or while lists are stale.

ModelArts chooses the ids of jobs and has no token by which it would recognise a repeated creation. But names of jobs
are unique, and contain this provider's job id.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
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
from airflow_provider_jobapi.services.modelarts import plan as plans
from airflow_provider_jobapi.services.modelarts.api_session import ApiSession
from airflow_provider_jobapi.services.modelarts.calls import Call, skew
from airflow_provider_jobapi.services.modelarts.connection import ModelArtsConnection
from airflow_provider_jobapi.services.modelarts.dialect_base import (
    SEARCH_PAGE,
    Dialect,
    FoundJob,
    JobDetails,
    ModelArtsKey,
)
from airflow_provider_jobapi.services.modelarts.dialects import dialect_of, read_handle
from airflow_provider_jobapi.services.modelarts.errors import ArgumentsRefused, Duplicate, NoSuchApi
from airflow_provider_jobapi.services.retry import Retry, sleep


@dataclass(frozen=True, slots=True)
class SearchLimits:
    """Limits of a search for a job by its id.

    :ivar page_size: Jobs on one page.
    :ivar pages: Pages of one search. The id is in the name of one job, unless other jobs are named after it.
    :ivar seconds: Time for which a job is searched for whose creation was not answered, since the answer or the list
        of jobs may be late.
    :ivar searches: Searches in this time.
    """

    page_size: int = SEARCH_PAGE
    pages: int = 20
    seconds: float = 8.0
    searches: int = 16


DEFAULT_SEARCH = SearchLimits()

_unanswered: set[str] = set()
"""Ids of jobs whose creation this process has requested and got no answer for.

They belong to the process, since Airflow's operator makes a new service when it is killed. There is no lock, since
signal handlers use them.
"""


class ModelArtsClient:
    """The jobs of one connection.

    :param session: Returns the session, called when it is needed.
    :param retry: How a request is repeated while the service is unavailable.
    :param log: Gets one line for each failed attempt.
    """

    def __init__(
        self,
        connection: ModelArtsConnection,
        session: Callable[[], ApiSession],
        retry: Retry,
        log: logging.Logger,
        search: SearchLimits = DEFAULT_SEARCH,
    ) -> None:
        self._connection = connection
        self._session = session
        self._retry = retry
        self._log = log
        self._limits = search
        self.dialect: Dialect = dialect_of(connection.dialect)
        self.lists_jobs = True
        """False once the service has turned out to have no list of jobs."""

    @contextmanager
    def separate(self, retry: Retry) -> Iterator[ModelArtsClient]:
        """Make a client with its own session, for a signal handler: the interrupted thread may hold a lock of the
        process's session.
        """
        session = self._session().separate(retry.total / 2)
        try:
            yield ModelArtsClient(self._connection, lambda: session, retry, self._log, self._limits)
        finally:
            session.close()

    def send(self, call: Call, retry: Retry | None = None) -> Answer:
        """Send a request, repeated while ModelArts is unavailable."""
        session = self._session()
        return (retry or self._retry).call(lambda: session.send(call), self._log)

    def details(self, handle: Handle, retry: Retry | None = None) -> tuple[JobDetails, timedelta]:
        """Return the state of a job, and the local clock minus the service's.

        :raises JobGone: if the job was deleted.
        """
        dialect, key = read_handle(handle)
        answer = self.send(dialect.details(key), retry)
        return dialect.read_details(answer), skew(answer)

    def is_over(self, handle: Handle) -> bool:
        """Whether there is nothing left to stop; False if that cannot be determined."""
        try:
            return self.details(handle)[0].over
        except JobGone:
            return True
        except TrainingError:
            return False

    def search(self, job_id: str) -> tuple[FoundJob, timedelta] | None:
        """Return the job whose name and description contain a job id, and the local clock minus the service's."""
        return next((pair for pair in self._named(job_id) if _is_job(pair[0], job_id)), None)

    def submission(self, job_id: str, found: FoundJob) -> Submission:
        """Return a found job. Its output folder is requested: options or the connection may have changed it."""
        handle = self.handle(job_id, found.name, found.key, "")
        details, measured = self.details(handle)
        return Submission(handle | {"name": details.status.name, "output": details.train_url}, measured)

    def handle(self, job_id: str, name: str, key: ModelArtsKey, output: str) -> Handle:
        """Return the handle of a job of this dialect."""
        handle = {"job_id": job_id, "name": name, "dialect": self.dialect.version, "modelarts_id": key.id}
        return handle | ({"version_id": key.version} if key.version else {}) | {"output": output}

    def find_unanswered(self, job_id: str) -> Submission | None:
        """Search some seconds for a job whose creation this process has requested and got no answer for.

        A worker that is killed has no other way to find the job that it must stop. Safe for signal handlers.
        """
        if job_id not in _unanswered:
            return None
        limits = self._limits
        until = time.monotonic() + limits.seconds
        with self.separate(Retry(total=limits.seconds, attempts=3)) as client:
            for _ in range(limits.searches):
                if (found := client.search(job_id)) is not None:
                    _unanswered.discard(job_id)
                    return client.submission(job_id, found[0])
                if time.monotonic() > until or not client.lists_jobs:
                    break
                sleep(limits.seconds / limits.searches)
        _unanswered.discard(job_id)
        return None

    @contextmanager
    def creating(self, job_id: str) -> Iterator[None]:
        """Wrap the creation of a job. If its result stays unknown, :meth:`find_unanswered` searches for the job."""
        _unanswered.add(job_id)
        try:
            yield
        except (ServiceUnavailable, BrokenContract):
            raise
        except TrainingError:
            _unanswered.discard(job_id)
            raise
        _unanswered.discard(job_id)

    def create(self, plan: plans.Plan, job_id: str, digest: str) -> tuple[ModelArtsKey, timedelta]:
        """Create the job, or find it if an answer was lost; one id never makes two jobs.

        :raises JobConflict: if the id belongs to a job with other content.
        """
        session, calls = self._session(), self.dialect.create(plan)
        tried = False

        def create_once() -> tuple[ModelArtsKey, timedelta]:
            nonlocal tried
            if tried and (existing := self.search(job_id)) is not None:
                return _checked(existing[0], digest), existing[1]
            tried = True
            try:
                answer = _first_accepted(session, calls)
            except Duplicate as error:
                existing = self._with_name(plan.name, job_id, error)
                return _checked(existing[0], digest), existing[1]
            return self.dialect.read_created(answer), skew(answer)

        return self._retry.call(create_once, self._log)

    def _with_name(self, name: str, job_id: str, refused: Duplicate) -> tuple[FoundJob, timedelta]:
        """Return the existing job with this name.

        :raises InvalidJob: if it is not a job of this provider.
        :raises ServiceUnavailable: if the list of jobs does not contain it yet.
        """
        named = list(self._named(job_id))
        if not self.lists_jobs:
            raise InvalidJob(
                f"{refused} This ModelArts has no list of jobs, so it cannot be found out whether the job {name} is "
                "this task's: stop and delete it in ModelArts' console, and clear the task.",
                field="job_name",
            )
        if own := [(each, measured) for each, measured in named if _is_job(each, job_id)]:
            return own[0]
        if any(each.name == name for each, _ in named):
            raise InvalidJob(
                f"{refused} Its description shows that it does not belong to this task: delete it on ModelArts.",
                field="job_name",
            )
        raise ServiceUnavailable(f"{refused} The list of jobs does not contain it yet.")

    def _named(self, job_id: str) -> Iterator[tuple[FoundJob, timedelta]]:
        """Yield the jobs whose name ends with a job id; none where the service has no list of jobs."""
        size = self._limits.page_size
        for page in range(self._limits.pages):
            try:
                answer = self.send(self.dialect.search(job_id, self._connection.workspace_id, page, size))
            except NoSuchApi as error:
                self._check_api(error)
                return
            found = self.dialect.read_search(answer)
            yield from ((each, skew(answer)) for each in found if each.name.endswith(f"-{job_id}"))
            if len(found) < size:
                break

    def _check_api(self, error: NoSuchApi) -> None:
        """Note that the list of jobs is missing, if the service has the rest of the API.

        :raises NoSuchApi: if it has not: the host or the dialect is wrong.
        """
        try:
            self.send(self.dialect.flavors())
        except NoSuchApi:
            raise error from None
        if self.lists_jobs:
            self._log.warning(
                "This ModelArts has no list of jobs: a job is found again by the object that is written to OBS when it "
                "is created, and not if the answer to its creation is lost."
            )
        self.lists_jobs = False


def check_same(name: str, known: str | None, digest: str) -> None:
    """Check that an existing job has the same content as the requested one.

    :param known: The digest of the existing job; None if unknown.
    :raises JobConflict: if it has not.
    """
    if known not in {None, digest}:
        raise JobConflict(f"ModelArts already has a job {name} with another script, data or options.")


def _first_accepted(session: ApiSession, calls: Sequence[Call]) -> Answer:
    """Send the requests one after the other until the service does not refuse the arguments of one.

    :raises ArgumentsRefused: if it refuses all; the message has both refusals.
    """
    refusals: list[ArgumentsRefused] = []
    for call in calls:
        try:
            return session.send(call)
        except ArgumentsRefused as error:
            refusals.append(error)
    first, last = refusals[0], refusals[-1]
    if str(first) == str(last):
        raise first
    raise type(last)(f"{str(first).rstrip('.')}. With spec_id in place of flavor.code: {last}")


def _is_job(found: FoundJob, job_id: str) -> bool:
    return plans.has_job_id(found.name, found.description, job_id)


def _checked(found: FoundJob, digest: str) -> ModelArtsKey:
    check_same(found.name, plans.digest_in(found.description), digest)
    return found.key
