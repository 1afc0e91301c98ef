# SPDX-License-Identifier: Apache-2.0
"""What the kill matrix asks of the service that trains, from what the service keeps itself: no client between."""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import psutil

from airflow_provider_jobapi.training.logs import LogLine, parse_records
from tests.harness.modelarts import ModelArts, lines
from tests.harness.modelarts.runs import Runs
from tests.harness.proxy_faults import ScriptedProxy
from tests.harness.server import Server
from tests.harness.waiting import wait_for

ENDED = ("SUCCESSFUL", "FAILED", "STOPPED")


@dataclass(frozen=True)
class Job:
    """A job; ``status`` in the words of the jobAPI."""

    job_id: str
    status: str
    started: bool


class Remote(ABC):
    """A service.

    :cvar creates: The requests that make a job, ``METHOD /target``.
    :cvar looks: Those that follow one.
    :cvar logins: Those for a token.
    """

    creates: ClassVar[str]
    looks: ClassVar[str]
    logins: ClassVar[str]

    def __init__(self, port: int) -> None:
        self._port = port
        self._ways: list[ScriptedProxy] = []

    def way(self, shift: timedelta = timedelta()) -> ScriptedProxy:
        """A way to the service; not opened yet."""
        self._ways.append(ScriptedProxy(self._port, shift=shift))
        return self._ways[-1]

    @abstractmethod
    def connection(self, way: ScriptedProxy, **extra: Any) -> dict[str, Any]:
        """The Airflow connection that takes a way."""

    @abstractmethod
    def jobs(self, name: str) -> list[Job]:
        """Every job of this name that there ever was, the oldest first."""

    @abstractmethod
    def job(self, job_id: str) -> Job:
        """A job."""

    @abstractmethod
    def records(self, job_id: str) -> list[LogLine]:
        """The job's log as it really is."""

    @abstractmethod
    def folder(self, job_id: str) -> Path:
        """The directory below which everything of the job runs."""

    @abstractmethod
    def work(self, job_id: str) -> Path:
        """The directory in which the script runs."""

    @abstractmethod
    def told_to_stop(self, job_id: str) -> list[float]:
        """When the service was told to stop the job, on the clock ``time.monotonic()``."""

    @abstractmethod
    def kill(self) -> None:
        """End the service as a power cut would; its jobs go on."""

    @abstractmethod
    def restart(self) -> None:
        """Start it again."""

    def alive(self, job_id: str) -> list[psutil.Process]:
        """The processes of the job and of what watches over it."""
        found = []
        folder = str(self.folder(job_id))
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.status() != psutil.STATUS_ZOMBIE and (
                    folder in " ".join(process.cmdline()) or process.cwd().startswith(folder)
                ):
                    found.append(process)
        return found

    def wait_for(self, job_id: str, *states: str, seconds: float = 60.0) -> Job:
        """Wait until a job is in one of the states, or else has ended."""
        wanted = states or ENDED

        def look() -> list[Job]:
            job = self.job(job_id)
            assert job.status in {*wanted, "PENDING", "RUNNING"}, job
            return [job] if job.status in wanted else []

        (found,) = wait_for(f"job {job_id} is {wanted}", look, seconds)
        return found

    def finish(self, job_id: str, code: int = 0) -> None:
        """Let the script end."""
        place = self.work(job_id)
        (place / "finish.new").write_text(str(code))
        (place / "finish.new").rename(place / "finish")


class JobApi(Remote):
    """A jobAPI server."""

    creates = r"^POST /api/v2/jobs/[0-9a-f-]+$"
    looks = r"^GET /api/v2/jobs/[^/]+/logs"
    logins = r"^POST /oauth/token"

    def __init__(self, server: Server) -> None:
        super().__init__(server.port)
        self.server = server

    def connection(self, way: ScriptedProxy, **extra: Any) -> dict[str, Any]:
        more = {"token_url": f"{way.url}/oauth/token", "verify": True} | extra
        return self.server.connection | {"host": way.url, "extra": more}

    def jobs(self, name: str) -> list[Job]:
        found: list[dict[str, Any]] = []
        after: dict[str, str] = {}
        while True:
            page = self.server.request("GET", "/api/v2/jobs", params={"limit": "100", **after}).json()
            found += [job for job in page["jobs"] if job["name"] == name]
            if not page["next"]:
                return [_told(job) for job in reversed(found)]
            after = {"after": page["next"]}

    def job(self, job_id: str) -> Job:
        return _told(self.server.status(job_id))

    def records(self, job_id: str) -> list[LogLine]:
        records: list[LogLine] = []
        offset = 0
        while True:
            answer = self.server.request("GET", f"/api/v2/jobs/{job_id}/logs", params={"offset": str(offset)})
            answer.raise_for_status()
            records += parse_records(answer.content)
            if offset == int(answer.headers["Job-Log-Next-Offset"]):
                return records
            offset = int(answer.headers["Job-Log-Next-Offset"])

    def folder(self, job_id: str) -> Path:
        (found,) = self.server.root.glob(f"clients/*/jobs/{job_id}")
        return found

    def work(self, job_id: str) -> Path:
        return self.folder(job_id) / "work"

    def told_to_stop(self, job_id: str) -> list[float]:
        return [each.at for way in self._ways for each in way.sent(f"/{job_id}/stop")]

    def kill(self) -> None:
        self.server.kill()

    def restart(self) -> None:
        self.server.restart()


class OnModelArts(Remote):
    """The double of ModelArts, by its files: the jobs' directories and its journal.

    :param dialect: That of the connections.
    """

    creates = r"^POST /v[12]/\w+/training-jobs$"
    looks = r"^GET /v[12]/\w+/training-jobs/"
    logins = r"^POST /v3/auth/tokens"

    _STATES: ClassVar = {
        "running": "RUNNING",
        "stopping": "RUNNING",
        "completed": "SUCCESSFUL",
        "failed": "FAILED",
        "lost": "FAILED",
        "stopped": "STOPPED",
    }

    def __init__(self, double: ModelArts, dialect: str = "v2") -> None:
        super().__init__(double.port)
        self.double = double
        self._dialect = dialect
        self._runs = Runs(double.home, {})

    def connection(self, way: ScriptedProxy, **extra: Any) -> dict[str, Any]:
        more = {"iam_url": f"{way.url}/v3", "poll_interval": 0.5} | extra
        return self.double.connection_for(self._dialect, **more) | {"host": way.url}

    def jobs(self, name: str) -> list[Job]:
        return [self.job(job_id) for known, job_id, _ in self._every() if known == name]

    def job(self, job_id: str) -> Job:
        state = self._runs.state(self.folder(job_id).name)
        return Job(job_id, self._STATES.get(state.name, "PENDING"), state.started is not None)

    def records(self, job_id: str) -> list[LogLine]:
        found = lines.read(self.folder(job_id), 0)
        return [LogLine(datetime.fromtimestamp(stamp / 1e9, UTC), text) for stamp, text in found]

    def folder(self, job_id: str) -> Path:
        (found,) = (folder for _, known, folder in self._every() if known == job_id)
        return found

    def work(self, job_id: str) -> Path:
        tmp = self.folder(job_id) / "nodes" / "0" / "tmp"
        (found,) = wait_for(f"the script of job {job_id} runs", lambda: list(tmp.glob("job-*/work")), 30)
        return found

    def told_to_stop(self, job_id: str) -> list[float]:
        key = self.folder(job_id).name
        journal = (self.double.home / "journal.jsonl").read_text()
        told = [json.loads(line) for line in journal.splitlines(keepends=True) if line.endswith("\n")]
        ours = time.monotonic() - time.time()
        return [each["time"] + ours for each in told if each["path"].endswith((f"/{key}/stop", f"/{key}/actions"))]

    def kill(self) -> None:
        self.double.kill()

    def restart(self) -> None:
        self.double.restart()

    def _every(self) -> Iterator[tuple[str, str, Path]]:
        """Name, id and directory of every job, the oldest first. The name there is ``<name>-<id>``."""
        specs = sorted(self.double.home.glob("jobs/*/spec.json"), key=lambda spec: spec.stat().st_mtime_ns)
        for spec in specs:
            name = str(json.loads(spec.read_text())["job_name"])
            yield name[:-37], name[-36:], spec.parent


def _told(status: dict[str, Any]) -> Job:
    return Job(status["job_id"], status["status"], bool(status["startTime"]))
