# SPDX-License-Identifier: Apache-2.0
"""The seam between the runner and the engines that run jobs.

An engine places a job, reports in bulk which jobs are alive and why a job waits, cancels a job, and forgets it. It also
decides which waiting jobs have room. It never supplies logs or verdicts: the supervisor that the engine starts writes
those to the job's directory, so an engine's own exit codes and captured output, which are unreliable, are not used.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, Protocol

from airflow_provider_jobapi.server.store.job_record import Job, JobKey
from airflow_provider_jobapi.training.job_file import Resources

SUPERVISOR_ENVIRONMENT: Mapping[str, str] = MappingProxyType(
    {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
)
"""The environment variables of a supervisor. None of the server's own variables is passed on."""


class EngineState(StrEnum):
    """What an engine knows about the supervisor of a placed job."""

    QUEUED = "QUEUED"
    """The engine has accepted the job and not started its supervisor yet."""
    ACTIVE = "ACTIVE"
    """The supervisor runs or is starting."""
    GONE = "GONE"
    """No supervisor runs: it has ended, was killed, or never started. The job's directory shows which."""


class EngineStatus(NamedTuple):
    """The state of one placed job.

    :ivar message: One sentence that says why a QUEUED job waits; empty otherwise.
    """

    state: EngineState
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementRequest:
    """What an engine needs to know to run a job and to find it again.

    :ivar key: The job's client and id. An engine derives its own name for the job from it.
    :ivar directory: The job's directory on the server, which holds ``spec.json`` once the job is prepared.
    :ivar resources: The CPUs, GPUs and megabytes of memory that the job asks for.
    :ivar image: The container image that the job asks for, or an empty text.
    :ivar gpu_ids: The numbers of the GPUs that :meth:`Engine.admit` granted.
    :ivar environment: The environment variables of the supervisor.
    :ivar credentials: The credentials of package indexes, for the supervisor's relay. They go into no file and no
        variable.
    """

    key: JobKey
    directory: Path
    resources: Resources
    image: str = ""
    gpu_ids: tuple[int, ...] = ()
    environment: Mapping[str, str] = field(default_factory=lambda: SUPERVISOR_ENVIRONMENT)
    credentials: str = field(default="", repr=False)

    @classmethod
    def of(cls, job: Job) -> PlacementRequest:
        """Make the request for a job of the registry."""
        execution = job.job_file.job.execution
        return cls(
            key=job.key,
            directory=job.directory,
            resources=execution.resources,
            image=execution.image,
            gpu_ids=job.gpu_ids,
        )


@dataclass(slots=True)
class Admission:
    """Which waiting jobs an engine has room for.

    :ivar granted: The jobs to place now, each with the numbers of its GPUs.
    :ivar waits: The other jobs, each with one sentence that says why it waits.
    """

    granted: dict[JobKey, tuple[int, ...]] = field(default_factory=dict)
    waits: dict[JobKey, str] = field(default_factory=dict)


class Engine(Protocol):
    """A system that runs jobs."""

    @property
    def capacity(self) -> Resources | None:
        """The most that one job may ask for; None where the engine's own queue decides."""

    @property
    def runs_images(self) -> bool:
        """Whether a job runs in the container image that it names."""

    def admit(
        self, placed: Iterable[PlacementRequest], waiting: Iterable[PlacementRequest], *, explain: bool = True
    ) -> Admission:
        """Decide which waiting jobs are placed now. An engine with a queue of its own grants all of them.

        :param placed: The jobs that occupy the engine.
        :param waiting: The jobs that wait, in the order of their submission.
        :param explain: Whether to say why each of the others waits, which takes a look at all of them.
        """

    def place(self, request: PlacementRequest) -> None:
        """Start a supervisor on the job's directory, or put it into the engine's queue.

        May be repeated: a job that has started is never started again, since its supervisor refuses to.

        :raises OSError: when the job could not be placed.
        """

    def poll(self, requests: Iterable[PlacementRequest]) -> dict[JobKey, EngineStatus]:
        """The state of each of these placed jobs."""

    def cancel(self, request: PlacementRequest, by: str, grace: float) -> None:
        """Ask a placed job to end. May be repeated; the first request counts.

        :param by: Who stops the job; the job's message names it.
        :param grace: Seconds from SIGTERM to SIGKILL.
        :raises OSError: when the job could not be asked.
        """

    def forget(self, request: PlacementRequest) -> None:
        """Release what is kept for a job that is over, and end processes that it left running."""
