# SPDX-License-Identifier: Apache-2.0
"""The protocols that every service implements: ``TrainingService`` for workers, ``LogFollower`` for triggerers.

The worker side is synchronous, the trigger side asynchronous. A new service is a package beside this file, and a hook.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Protocol, Self, runtime_checkable

from airflow_provider_jobapi.training.job import TrainingJob
from airflow_provider_jobapi.training.job_file import InputFile, digest_of
from airflow_provider_jobapi.training.logs import LogChunk
from airflow_provider_jobapi.training.model import FoundFile, kind_of, unsafe_to_load
from airflow_provider_jobapi.training.status import JobStatus
from airflow_provider_jobapi.training.units import count_text, size_text

Handle = dict[str, Any]
"""The small JSON-able value by which a service finds a job again. Never holds a secret."""

Cursor = Any
"""The small JSON-able value after which a log continues; None for the beginning."""


NO_CHECKPOINTS = (
    "This service keeps no checkpoints: where this job fails, a retry trains from the beginning, unless the script "
    "keeps its own."
)
"""What the log says once of a service without checkpoints."""


@dataclass(frozen=True, slots=True)
class Submission:
    """A job that its service has accepted.

    :ivar handle: What the service finds it by.
    :ivar skew: The clock of this machine minus the service's, measured when the service answered.
    :ivar inputs: The files that the job was submitted with; empty where it was only found.
    """

    handle: Handle
    skew: timedelta
    inputs: tuple[InputFile, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One file of a job's model.

    :ivar path: Its path inside the model.
    :ivar size: Bytes.
    :ivar sha256: In hex; None where the service knows no hashes.
    """

    path: str
    size: int
    sha256: str | None


@dataclass(frozen=True, slots=True)
class Model:
    """The model that a job has left.

    :ivar kind: What it is, such as ``saved_model``, ``onnx``, ``safetensors``, or ``files`` for anything else; see
        :class:`~airflow_provider_jobapi.training.model.ModelKind`.
    :ivar files: Its files.
    :ivar root: Its folder, relative to the job's working directory; empty where the service does not say.
    :ivar unsafe: Whether the service, which has seen the files, says that to load it can run code in them.
    """

    kind: str
    files: tuple[ModelFile, ...]
    root: str = ""
    unsafe: bool = False

    @property
    def unsafe_to_load(self) -> bool:
        """Whether to load the model can run code that is in its files, as with a pickle."""
        return self.unsafe or unsafe_to_load(self.kind, _found(self.files))


@dataclass(frozen=True, slots=True)
class FetchedModel:
    """A model that was fetched.

    :ivar location: Its directory, as a URI.
    :ivar files: Its files.
    :ivar kind: What it is, as in :class:`Model`; told by the names of the files where a service does not say.
    :ivar unsafe: As in :class:`Model`.
    """

    location: str
    files: tuple[ModelFile, ...]
    kind: str = ""
    unsafe: bool = False

    def __post_init__(self) -> None:
        """Set the kind from the files where it is not given."""
        if not self.kind:
            object.__setattr__(self, "kind", kind_of(_found(self.files)).value)

    @property
    def unsafe_to_load(self) -> bool:
        """Whether to load the model can run code that is in its files, as with a pickle."""
        return self.unsafe or unsafe_to_load(self.kind, _found(self.files))

    @property
    def sha256(self) -> str | None:
        """The SHA-256 over the paths and hashes of its files; None where the hash of one is not known."""
        known = [(file.path, file.sha256) for file in self.files if file.sha256 is not None]
        return digest_of(known) if len(known) == len(self.files) else None


@dataclass(frozen=True, slots=True)
class KeptWork:
    """The files that a job left in its working directory, where its service keeps that for a while.

    :ivar files: Its files.
    :ivar left_out: How many more entries it has that cannot be fetched, such as links.
    :ivar until: When it is removed, where the service says so.
    """

    files: tuple[ModelFile, ...]
    left_out: int = 0
    until: datetime | None = None

    def sentence(self) -> str:
        """Say what is there, and for how long."""
        size = size_text(sum(file.size for file in self.files))
        until = "" if self.until is None else f" until {self.until.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
        return f"Its working directory has {count_text(len(self.files), 'file')} ({size}){until}"


def _found(files: Iterable[ModelFile]) -> list[FoundFile]:
    return [FoundFile(file.path, file.size) for file in files]


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


@dataclass(frozen=True, slots=True)
class ScalarChunk(LogChunk):
    """The result of one read of a job's scalars: the points that it wrote into event files of TensorBoard.

    Each line is one of :mod:`~airflow_provider_jobapi.training.jobapi_metrics`, with the time of the point.

    :ivar at_end: Whether the service had no more when it answered.
    """

    at_end: bool = False


@runtime_checkable
class ScalarFollower(Protocol):
    """What a :class:`LogFollower` also is where its service reads the job's event files.

    The scalars can be read from their start again, as long as the job is known.

    :ivar has_scalars: Whether the job has any, as far as is known from what was read of its log.
    """

    has_scalars: bool

    async def read_scalars(self, cursor: Cursor) -> ScalarChunk:
        """Return the points after the cursor; waits until there are some, or the job is over.

        May be called while a :meth:`LogFollower.read` waits, whose answers say whether there is anything to read.

        :raises TrainingError: as a read of the log.
        """


class TrainingService(Protocol):
    """A system that runs jobs; called from a worker.

    A service whose class has ``keeps_checkpoints = True`` gives each job a ``CHECKPOINT_DIR`` with what the earlier
    jobs of the same ``TrainingJob.cycle`` left there, and knows ``resume_from`` and ``keep_checkpoints``. Of any other
    the log says once that a retry trains from the beginning.
    """

    def submit(self, job: TrainingJob, job_id: str) -> Submission:
        """Upload the job's files and submit the job. Idempotent: the same id is the same job.

        :raises JobConflict: when the id belongs to a job with another content.
        :raises InvalidJob: when the service cannot run such a job.
        """

    def find(self, job_id: str) -> Submission:
        """Find a job by its derived id.

        :raises JobNotFound: when the id was never used.
        :raises JobGone: when the job existed and the service has deleted it.
        """

    def status(self, handle: Handle) -> JobStatus:
        """Return the job's status."""

    def last_lines(self, handle: Handle, count: int) -> tuple[str, ...]:
        """Return the last lines of the job's log, ``count`` at most; best effort."""

    def stop(self, handle: Handle) -> None:
        """Ask the service to stop the job; a job that has ended is no error."""

    def model(self, handle: Handle) -> Model | None:
        """Return the model that the job has left; None when it left none."""

    def fetch_model(
        self, handle: Handle, destination: Any, version: str | None = None, kind: str | None = None
    ) -> FetchedModel:
        """Fetch the job's model into ``<destination>/<version>/``, so that no reader ever sees half a model.

        :param destination: A directory: anything that Airflow's ``ObjectStoragePath`` can name.
        :param version: The directory's name beneath it; by default the Unix time of the job's end.
        :param kind: The kind that the model must have; None for any.
        :raises NoSavedModel: when the job left no model, or none of this kind.
        """

    def follower(self, handle: Handle) -> LogFollower:
        """Return a follower of this job for the triggerer."""


@runtime_checkable
class KeepsWork(Protocol):
    """A service that keeps the working directory of a job that failed, or wrote no model, for a while."""

    def work(self, handle: Handle) -> KeptWork | None:
        """Return what the job has left in its working directory; None where it is gone or empty."""

    def fetch_work(self, handle: Handle, destination: Any, version: str | None = None) -> FetchedModel:
        """Fetch the files of the job's working directory into ``<destination>/<version>/``, all of them or none.

        :raises NoSavedModel: when it is gone or empty.
        """


@runtime_checkable
class OffersEnvironment(Protocol):
    """A service whose connection has environment variables for its jobs, which may be secret."""

    def offered(self) -> Mapping[str, str]:
        """Return them; called on the worker alone, which hides the secrets among them in the lines of its jobs."""
