# SPDX-License-Identifier: Apache-2.0
"""Runs jobs as processes of this machine. A job has a folder, and a log in another folder."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

from airflow_provider_jobapi.exceptions import JobNotFound, NoSavedModel
from airflow_provider_jobapi.services.base import FetchedModel, Handle, Model, ModelFile, Submission
from airflow_provider_jobapi.training.job import TrainingJob
from airflow_provider_jobapi.training.logs import LogChunk, LogLine
from airflow_provider_jobapi.training.status import JobState, JobStatus

POLL_INTERVAL = 0.1
"""Seconds between two looks into the log."""


class FolderService:
    """Runs jobs in a folder.

    :param folder: The folder for the jobs.
    :param logs: The folder for their logs.
    """

    def __init__(self, folder: str, logs: str) -> None:
        self._folder = Path(folder)
        self._logs = Path(logs)

    def submit(self, job: TrainingJob, job_id: str) -> Submission:
        """Write the job's files and start its script."""
        place, log = self._folder / job_id, self.log({"job_id": job_id})
        with suppress(FileExistsError):
            place.mkdir(parents=True)
            for name, content in job.files().items():
                (place / name).write_text(str(content))
            log.parent.mkdir(parents=True, exist_ok=True)
            self._start(f"({job.command()}); echo $? > ended.part; mv ended.part ended", place, log)
        return self.find(job_id)

    def find(self, job_id: str) -> Submission:
        """Find a job by its id."""
        if not (self._folder / job_id).is_dir():
            raise JobNotFound(f"{self._folder} has no job {job_id}.")
        return Submission({"job_id": job_id}, timedelta())

    def status(self, handle: Handle) -> JobStatus:
        """Get the status of a job."""
        place = self._folder / handle["job_id"]
        ended = place / "ended"
        state, code, time = JobState.RUNNING, None, None
        if ended.exists():
            code = int(ended.read_text())
            state = JobState.FAILED if code else JobState.SUCCESSFUL
            state = JobState.STOPPED if code < 0 else state
            time = datetime.fromtimestamp(ended.stat().st_mtime, UTC)
        return JobStatus(
            job_id=handle["job_id"], name=place.name, status=state, exit_code=code, finish_time=time,
            submission_time=self.started(handle), start_time=self.started(handle),
        )  # fmt: skip

    def started(self, handle: Handle) -> datetime:
        """Get the time at which a job's process was started."""
        return datetime.fromtimestamp((self._folder / handle["job_id"] / "pid").stat().st_mtime, UTC)

    def log(self, handle: Handle) -> Path:
        """The file of a job's log."""
        return self._logs / f"{handle['job_id']}.log"

    def last_lines(self, handle: Handle, count: int) -> tuple[str, ...]:
        """Get the last lines of a job's log."""
        return tuple(self.log(handle).read_text().splitlines()[-count:])

    def stop(self, handle: Handle) -> None:
        """Stop a job."""
        place = self._folder / handle["job_id"]
        if not (place / "ended").exists():
            with suppress(ProcessLookupError):
                os.killpg(int((place / "pid").read_text()), signal.SIGKILL)
            (place / "ended").write_text("-9")

    def model(self, handle: Handle) -> Model | None:
        """Get the model that a job has left."""
        folder = self._folder / handle["job_id"] / "model"
        files = tuple(ModelFile(path.name, path.stat().st_size, None) for path in sorted(folder.iterdir()))
        return Model("files", files) if files else None

    def fetch_model(
        self, handle: Handle, destination: Any, version: str | None = None, kind: str | None = None
    ) -> FetchedModel:
        """Copy a job's model."""
        model, target = self.model(handle), Path(str(destination)) / (version or "1")
        if model is None or kind not in {None, model.kind}:
            raise NoSavedModel(f"Job {handle['job_id']} left no such model.")
        shutil.copytree(self._folder / handle["job_id"] / "model", target)
        return FetchedModel(target.as_uri(), model.files)

    def follower(self, handle: Handle) -> FolderFollower:
        """Make a follower of a job."""
        return FolderFollower(self, handle)

    def _start(self, command: str, place: Path, log: Path) -> None:
        (place / "model").mkdir()
        with log.open("wb") as output:
            process = subprocess.Popen(
                ["sh", "-c", command],
                cwd=place,
                env={**os.environ, "MODEL_DIR": str(place / "model"), "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        (place / "pid").write_text(str(process.pid))


class FolderFollower:
    """Follows the log of a job, which may be read from its start as often as one likes.

    A cursor is the number of bytes that were read.
    """

    replayable = True

    def __init__(self, service: FolderService, handle: Handle) -> None:
        self._service = service
        self._handle = handle

    async def __aenter__(self) -> Self:
        """Open nothing."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close nothing."""

    async def read(self, cursor: Any) -> LogChunk:
        """Read the lines after the cursor."""
        status = await self.status()
        begin = cursor or 0
        content = await asyncio.to_thread(self._service.log(self._handle).read_bytes)
        end = content.rfind(b"\n") + 1
        if end <= begin and not status.status.ended:
            await asyncio.sleep(POLL_INTERVAL)
        lines = content[begin:end].decode().splitlines()
        return LogChunk(
            tuple(LogLine(self._started(), line) for line in lines), max(begin, end), status.status, status.status.ended
        )

    def _started(self) -> datetime:
        """The time of all lines, which have none of their own: the same however often the log is read."""
        return self._service.started(self._handle)

    async def status(self) -> JobStatus:
        """Get the status of the job."""
        return await asyncio.to_thread(self._service.status, self._handle)

    async def stop(self) -> None:
        """Stop the job."""
        await asyncio.to_thread(self._service.stop, self._handle)
