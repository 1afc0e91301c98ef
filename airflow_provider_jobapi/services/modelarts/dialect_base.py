# SPDX-License-Identifier: Apache-2.0
"""What the two dialects of the ModelArts API (v1 and v2) have in common: their interface and the values they exchange.

A dialect builds requests and parses answers. It does no I/O.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.services.answer import Answer
from airflow_provider_jobapi.services.modelarts.calls import Call
from airflow_provider_jobapi.services.modelarts.catalogue import Lists
from airflow_provider_jobapi.services.modelarts.plan import Plan
from airflow_provider_jobapi.training.status import JobState, JobStatus

SEARCH_PAGE = 50
"""Jobs on one page of a search. A job id is in the name of at most one job."""


@dataclass(frozen=True, slots=True)
class ModelArtsKey:
    """The identifiers of a job on ModelArts.

    :ivar id: The job's id.
    :ivar version: The id of its version; v1 only. Each job of this provider has one version.
    """

    id: str
    version: str = ""


@dataclass(frozen=True, slots=True)
class Overrides:
    """Which choices of this provider the DAG's ``service_options`` replace.

    :ivar nodes: The number of machines, if they have it.
    """

    flavor: bool
    engine: bool
    nodes: int | None = None


@dataclass(frozen=True, slots=True)
class FoundJob:
    """One result of a search."""

    key: ModelArtsKey
    name: str
    description: str


@dataclass(frozen=True, slots=True)
class JobDetails:
    """The state of a job.

    :ivar phase: The service's own name of the state.
    :ivar nodes: The number of machines.
    :ivar train_url: The OBS folder of the job's output.
    :ivar tasks: The names of the logs; empty in v1, where they are requested separately.
    """

    status: JobStatus
    phase: str
    nodes: int
    train_url: str
    tasks: tuple[str, ...] = ()

    @property
    def over(self) -> bool:
        """Whether there is nothing left to stop: the job has ended or is being stopped."""
        return self.status.status.ended or self.status.stopping


class Dialect(Lists, Protocol):
    """One version of the API."""

    version: str

    def overrides(self, more: Mapping[str, Any]) -> Overrides:
        """Return which choices the DAG's own request fields replace.

        :raises InvalidJob: if a field is not allowed.
        """

    def create(self, plan: Plan) -> Sequence[Call]:
        """Build the request that creates a job, first as the documents' procedure has it.

        :returns: The requests to try in this order while the service refuses their arguments.
        """

    def read_created(self, answer: Answer) -> ModelArtsKey:
        """Parse the keys of the created job."""

    def search(self, job_id: str, workspace_id: str, page: int, page_size: int = SEARCH_PAGE) -> Call:
        """Build the request for the jobs whose name contains a job id.

        :param page: The number of the page, from 0.
        """

    def read_search(self, answer: Answer) -> Sequence[FoundJob]:
        """Parse one page of a search."""

    def details(self, key: ModelArtsKey) -> Call:
        """Build the request for the state of a job."""

    def read_details(self, answer: Answer) -> JobDetails:
        """Parse the state of a job."""

    def stop(self, key: ModelArtsKey) -> Call:
        """Build the request that stops a job."""

    def delete(self, key: ModelArtsKey) -> Call:
        """Build the request that deletes a job."""

    def logs(self, key: ModelArtsKey) -> Call | None:
        """Build the request for the names of the logs; None if the details contain them."""

    def read_logs(self, answer: Answer) -> tuple[str, ...]:
        """Parse the names of the logs."""

    def tail(self, key: ModelArtsKey, log: str, lines: int) -> Call:
        """Build the request for the end of a log."""

    def read_tail(self, answer: Answer) -> tuple[str, ...]:
        """Parse the end of a log, oldest line first; it may have more lines than were requested."""


def finish_time(state: JobState, started: datetime | None, duration: int | None) -> datetime | None:
    """Return when a job ended, or None if that is unknown.

    :param duration: In milliseconds.
    """
    if not state.ended or started is None or duration is None:
        return None
    return started + timedelta(milliseconds=max(0, duration))


def refuse_reserved(body: Mapping[str, Any], names: Sequence[str], prefix: str) -> None:
    """Refuse options that would prevent the job from being found again.

    :raises InvalidJob: naming the option.
    """
    for name in names:
        if name in body:
            raise InvalidJob(
                f"service_options cannot set {prefix}{name}: the provider needs it to find the job again; remove it.",
                field="service_options",
            )


def nested(options: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return an object inside the options; an empty one if it is missing.

    :raises InvalidJob: if it is not an object.
    """
    value = options.get(name, {})
    if not isinstance(value, Mapping):
        raise InvalidJob(
            f"service_options has {name!r} of type {type(value).__name__}; expected an object.",
            field="service_options",
        )
    return value


def without_nulls(body: Mapping[str, Any]) -> dict[str, Any]:
    """Remove the fields that the DAG's options set to null."""
    return {
        name: without_nulls(value) if isinstance(value, Mapping) else value
        for name, value in body.items()
        if value is not None
    }
