# SPDX-License-Identifier: Apache-2.0
"""The one seam between Airflow and the services that run jobs.

The worker side is synchronous, as Airflow's workers are; the trigger side is asynchronous, as its triggerer is. A new
service is a room beside this file that keeps these two protocols, and a hook.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Any, Protocol, Self

from airflow_provider_jobapi.training.job import TrainingJob
from airflow_provider_jobapi.training.job_file import InputFile
from airflow_provider_jobapi.training.logs import LogChunk
from airflow_provider_jobapi.training.status import JobStatus

Handle = dict[str, Any]
"""The small JSON-able value that finds a job again on its service. Never holds a secret."""

Cursor = Any
"""The small JSON-able value after which a log continues; None for the beginning."""


@dataclass(frozen=True, slots=True)
class Submission:
    """A job that is on its service.

    :ivar handle: How to find it again.
    :ivar skew: Our clock minus the service's, measured when the service answered.
    :ivar inputs: The files that the job was submitted with; none where it was only found.
    """

    handle: Handle
    skew: timedelta
    inputs: tuple[InputFile, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One file of a job's SavedModel: its path inside the model, its size in bytes, its SHA-256 in hex."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class FetchedModel:
    """A SavedModel that was fetched.

    :ivar location: The directory that holds ``saved_model.pb``, as a URI.
    :ivar files: What it is made of.
    """

    location: str
    files: tuple[ModelFile, ...]


class LogFollower(Protocol):
    """Follows one job from the triggerer; an asynchronous context manager.

    :ivar replayable: Whether the log can be read from its start for as long as the job is known, each line with the
        same time and stream. Where it is False, as for a log whose head is rotated away, a trigger that is restarted
        goes on at the cursor that it has kept.
    """

    replayable: bool

    async def __aenter__(self) -> Self:
        """Open what the follower needs."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""

    async def read(self, cursor: Cursor) -> LogChunk:
        """Return the lines after the cursor; waits until there is news or the service's own pace has passed.

        A read that was cancelled is repeated at the same cursor.

        :raises ServiceUnavailable: when it is worth trying again.
        :raises ConnectionProblem: when the service refuses the connection.
        """

    async def status(self) -> JobStatus:
        """Return the job's status; may be called while a :meth:`read` waits."""

    async def stop(self) -> None:
        """Ask the service to stop the job; a job that has ended is no error."""


class TrainingService(Protocol):
    """Runs jobs; called from a worker."""

    def submit(self, job: TrainingJob, job_id: str) -> Submission:
        """Bring the job's files and the job to the service. Idempotent: the same id is the same job.

        :raises JobConflict: when the id belongs to a job with another content.
        """

    def find(self, job_id: str) -> Submission:
        """Find a job by the id that we derived.

        :raises JobNotFound: when the id was never used.
        :raises JobGone: when it was, and the job is gone.
        """

    def status(self, handle: Handle) -> JobStatus:
        """Where the job stands."""

    def last_lines(self, handle: Handle, count: int) -> tuple[str, ...]:
        """The last lines of the job's log, at most ``count``; best effort."""

    def stop(self, handle: Handle) -> None:
        """Ask the service to stop the job; a job that has ended is no error."""

    def fetch_model(self, handle: Handle, destination: Any, version: str | None = None) -> FetchedModel:
        """Fetch the job's SavedModel into ``<destination>/<version>/``, so that no reader ever sees half a model.

        :param destination: A directory: anything that Airflow's ``ObjectStoragePath`` can name.
        :param version: The directory's name beneath it; by default the Unix time of the job's end.
        :raises NoSavedModel: when the job wrote none.
        """

    def follower(self, handle: Handle) -> LogFollower:
        """A follower of this job for the triggerer."""
