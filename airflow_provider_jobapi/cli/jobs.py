# SPDX-License-Identifier: Apache-2.0
"""The jobs of any service, as the commands use them: by the job's id, from a job file.

A jobAPI takes a job file as it is. For any other service the job file becomes a
:class:`~airflow_provider_jobapi.training.job.TrainingJob`, so its command must be of the form that a training job has.
"""

from __future__ import annotations

import asyncio
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.training.job import REQUIREMENTS_NAME, SCRIPT_NAME, TrainingJob

if TYPE_CHECKING:
    from airflow_provider_jobapi.services.base import FetchedModel, Handle, LogFollower, Submission, TrainingService
    from airflow_provider_jobapi.services.files.sources import Source
    from airflow_provider_jobapi.services.jobapi.service import JobApiService
    from airflow_provider_jobapi.training.job_file import JobFile
    from airflow_provider_jobapi.training.logs import LogChunk
    from airflow_provider_jobapi.training.status import JobStatus


class Jobs:
    """The jobs of a user on a service.

    :param user: The user, from whom the ids of jobs are derived.
    """

    def __init__(self, service: TrainingService, user: str) -> None:
        self.service = service
        self.user = user
        self._handles: dict[str, Handle] = {}

    def handle(self, job_id: str) -> Handle:
        """Find the handle of a job.

        :raises JobNotFound: when the id was never used.
        :raises JobGone: when it was, and the job is gone.
        """
        if job_id not in self._handles:
            self._handles[job_id] = self.service.find(job_id).handle
        return self._handles[job_id]

    def submit(
        self,
        job_file: JobFile,
        sources: Mapping[str, Source],
        job_id: str,
        job: TrainingJob | None = None,
        cycle: str = "",
    ) -> Submission:
        """Upload the files and submit the job.

        :param sources: The files that the job file names as its inputs, by their path.
        :param job: The job of which the job file was made, if it was.
        :param cycle: What this job and those before it with the same content have in common, whose checkpoints it
            continues.
        :raises InvalidJob: when the service cannot run this job.
        """
        made = job or training_job(job_file, sources)
        if getattr(self.service, "keeps_checkpoints", False):
            made = made.model_copy(update={"cycle": cycle})
        elif made.resume_from:
            raise InvalidJob("This service keeps no checkpoints: leave out --resume-from.", field="job.resumeFrom")
        submission = self.service.submit(made, job_id)
        self._handles[job_id] = submission.handle
        return submission

    def status(self, job_id: str) -> JobStatus:
        """Get the status of a job."""
        return self.service.status(self.handle(job_id))

    def list(self, limit: int) -> tuple[list[JobStatus], bool]:  # noqa: ARG002 -- for services that have a list
        """List the newest jobs, and whether there are more.

        :raises InvalidJob: when the service has no such list.
        """
        raise InvalidJob("This service has no list of a user's jobs; name a JOB_ID.")

    def read_log(self, job_id: str) -> Iterator[LogChunk]:
        """Read the log up to now, in chunks; a follower can continue after the last one."""
        yield from asyncio.run(_read_until_quiet(self.follower(job_id)))

    def stop(self, job_id: str) -> None:
        """Stop a job; one that has ended is no error."""
        self.service.stop(self.handle(job_id))

    def fetch_model(self, job_id: str, destination: str, version: str | None, kind: str | None = None) -> FetchedModel:
        """Fetch a job's model into ``<destination>/<version>/``.

        :param kind: The kind that it must have; None for any.
        """
        return self.service.fetch_model(self.handle(job_id), destination, version, kind)

    def fetch_work(self, job_id: str, destination: str, version: str | None) -> FetchedModel:
        """Fetch the files of a job's working directory into ``<destination>/<version>/``.

        :raises InvalidJob: when the service keeps no working directories.
        """
        from airflow_provider_jobapi.services.base import KeepsWork

        if not isinstance(self.service, KeepsWork):
            raise InvalidJob("This service keeps no working directories of jobs; --work is for a jobAPI.")
        return self.service.fetch_work(self.handle(job_id), destination, version)

    def environment(self, job_id: str) -> str:
        """Get the packages of a job as requirements that install the same.

        :raises InvalidJob: when the service keeps no list of them, or not yet.
        """
        read = getattr(self.service, "environment", None)
        text: str | None = None if read is None else read(self.handle(job_id))
        if text is None:
            why = "its environment is not made, or was made by an earlier server"
            why = "its service keeps none" if read is None else why
            raise InvalidJob(f"Job {job_id} has no list of its packages: {why}.")
        return text

    def follower(self, job_id: str) -> LogFollower:
        """Make a follower of a job's log."""
        return self.service.follower(self.handle(job_id))


class JobApiJobs(Jobs):
    """The jobs of a client on a jobAPI."""

    service: JobApiService

    def handle(self, job_id: str) -> Handle:
        """Make the handle, without a request."""
        return {"job_id": job_id}

    def submit(
        self,
        job_file: JobFile,
        sources: Mapping[str, Source],
        job_id: str,
        job: TrainingJob | None = None,  # noqa: ARG002 -- the job file is the job here
        cycle: str = "",
    ) -> Submission:
        """Upload the files and submit the job file as it is."""
        return self.service.submit_file(job_file, sources, job_id, cycle)

    def list(self, limit: int) -> tuple[list[JobStatus], bool]:
        """List the newest jobs of the client, and whether there are more.

        :param limit: The number of jobs, at most; the service's own bound is 1,000.
        """
        return self.service.jobs(limit)

    def read_log(self, job_id: str) -> Iterator[LogChunk]:
        """Read the log up to now, in chunks."""
        return self.service.read_log(self.handle(job_id))


async def _read_until_quiet(follower: LogFollower) -> list[LogChunk]:
    """Read the log until a read brings no line."""
    chunks: list[LogChunk] = []
    async with follower:
        while not chunks or (chunks[-1].lines and not chunks[-1].complete):
            chunks.append(await follower.read(chunks[-1].cursor if chunks else None))
    return chunks


_COMMAND = "[pip3 install -r requirements.txt &&] python3 SCRIPT [ARGUMENT …]"
_QUOTED = re.compile(r"""'[^']*'|"[^"$`\\]*\"""")
_PLAIN = re.compile(r"[\w\s./=:,@%+&-]*")
"""What a shell takes as it is."""


@dataclass(frozen=True, slots=True)
class Command:
    """The parts of a job file's command."""

    script: str
    arguments: tuple[str, ...]
    requirements: bool
    python: int

    @classmethod
    def parse(cls, command: str) -> Command:
        """Read a command of the form that a training job has.

        :raises InvalidJob: when it has another form.
        """
        parts = re.split(r"\s+&&\s+", command.strip())
        try:
            words = [shlex.split(part) for part in parts]
        except ValueError:
            words = []
        plain = _PLAIN.fullmatch(_QUOTED.sub("", command)) is not None
        pip = [word[0] for word in words[:-1] if word[1:] == ["install", "-r", REQUIREMENTS_NAME]]
        run = words[-1] if words else []
        installs = pip in (["pip"], ["pip3"])
        if (
            not plain
            or len(words) != 1 + installs
            or len(run) < 2
            or run[0] not in {"python", "python3"}
            or "/" in run[1]
        ):
            raise InvalidJob(
                f"The service of this connection runs no shell command; job.execution.command must be {_COMMAND}.",
                field="job.execution.command",
            )
        return cls(run[1], tuple(run[2:]), installs, 3 if run[0] == "python3" else 2)


class _File:
    """A measured file as the data of a job."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def open(self, _mode: str) -> Any:
        """Open the file."""
        return self._source.open(lambda _: None)

    def text(self) -> str:
        """Read the file as a text.

        :raises InvalidJob: when it is not UTF-8.
        """
        try:
            return b"".join(self._source.open(lambda _: None)).decode()
        except UnicodeDecodeError:
            raise InvalidJob(f"{self._source.name} is not UTF-8; save it as UTF-8.") from None


def training_job(job_file: JobFile, sources: Mapping[str, Source]) -> TrainingJob:
    """Make the training job that a job file describes.

    :param sources: The files of the job, by their path.
    :raises InvalidJob: when the command has another form than that of a training job, or its script is missing.
    """
    spec, execution = job_file.job, job_file.job.execution
    command = Command.parse(execution.command)
    files = {path: _File(source) for path, source in sources.items()}
    wanted = [command.script, *([REQUIREMENTS_NAME] if command.requirements else [])]
    if missing := [name for name in wanted if name not in files]:
        raise InvalidJob(f"job.execution.command names {missing[0]}, which is not in FOLDER.", field="job.inputs")
    variables = {f"--{each.name.lower()}={each.value}" for each in spec.env}
    return TrainingJob.of(
        name=spec.name,
        script=files[command.script].text(),
        arguments=[each for each in command.arguments if each not in variables],
        env=[each.model_dump() for each in spec.env],
        image=execution.image,
        completion_time=execution.completion_time,
        resources=execution.resources.model_dump(),
        resume_from=spec.resume_from,
        keep_checkpoints=spec.keep_checkpoints,
        requirements=files[REQUIREMENTS_NAME].text() if command.requirements else "",
        python_major_version=command.python,
        data={path: file for path, file in files.items() if path not in {SCRIPT_NAME, *wanted, REQUIREMENTS_NAME}},
    )
