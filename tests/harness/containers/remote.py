# SPDX-License-Identifier: Apache-2.0
"""Podman as the kill matrix looks at it: its containers, their log files and its own record of what it has started."""

from __future__ import annotations

import asyncio
import json
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psutil

from airflow_provider_jobapi.services.train_container import names
from airflow_provider_jobapi.training.logs import LogLine
from tests.harness.containers.engine import Engine
from tests.harness.proxy_faults import ScriptedProxy
from tests.harness.remote import Job, Remote
from tests.harness.waiting import wait_for

NUMBERED = "localhost/numbered:1"
"""The train of the kill matrix, see :func:`make_numbered`."""

_LOG = "root/overlay-containers/{}/userdata/ctr.log"

_TRAIN = b"""
import json, os, runpy, signal, sys

signal.signal(signal.SIGTERM, lambda *_: os._exit(143))  # the first process of a container ignores it by default
options = ("lines", "burst", "pause", "stubborn")
sys.argv = ["numbered.py", *(f"--{each}={os.environ[each.upper()]}" for each in options if each.upper() in os.environ)]
os.chdir("/tmp")
code = 0
try:
    runpy.run_path("/numbered.py", run_name="__main__")
except SystemExit as end:
    code = end.code
print(json.dumps({"state": "failure" if code else "success", "message": f"code {code}"}), flush=True)
sys.exit(code)
"""


def make_numbered(engine: Engine, script: Path) -> None:
    """Make the image of a train that runs the script of the other services, whose arguments it has as variables."""
    files = {"/train.py": _TRAIN, "/numbered.py": script.read_bytes()}
    engine.make_image(NUMBERED, files, 'ENTRYPOINT ["python", "-u", "/train.py"]')


_WHOLE = b"""
import json, os, sys

if sys.argv[1] == "run_algorithm":
    path = "/opt/pht_train/model/weights"
    open(path, "wb").write(os.urandom(1000))
    answer = {"state": "success", "message": "ran", "export_files": [path]}
    answer["rebase"] = {"type": "docker", "from": "localhost/base:1"}
else:
    answer = {"requirements": [], "unmet": []}
print(json.dumps(answer))
"""


def make_whole(engine: Engine) -> None:
    """Make ``localhost/whole:1``, a train with all that its successor needs, which is another with each run."""
    files = {"/train.py": _WHOLE, "/opt/pht_train/model/": b""}
    engine.make_image("localhost/whole:1", files, 'ENTRYPOINT ["python", "-u", "/train.py"]')


class SocketProxy(ScriptedProxy):
    """The fault proxy in front of a Unix socket."""

    def __init__(self, socket: Path, *, shift: timedelta = timedelta()) -> None:
        super().__init__(0, shift=shift)
        self._socket = socket

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_unix_connection(self._socket)


class OnPodman(Remote):
    """Podman's service of the Docker API, behind proxies. A job is a container that was started.

    :param engine: One of Podman.
    """

    creates = r"^POST /v[\d.]+/containers/create"
    builds = r"^POST /v[\d.]+/containers/create\?name=jobapi-[-0-9a-f]{36}-successor"
    commits = r"^POST /v[\d.]+/commit"
    pushes = r"^POST /v[\d.]+/images/.+/push"
    removes = r"^DELETE /v[\d.]+/containers/jobapi-[-0-9a-f]{36}\?"
    starts = r"^POST /v[\d.]+/containers/[^/]+/start"
    looks = r"^GET /v[\d.]+/containers/[^/]+/(json|logs)"
    logins = r"^NONE "

    def __init__(self, engine: Engine) -> None:
        super().__init__(0)
        self.engine = engine
        self._seen: dict[str, dict[str, Any]] = {}

    def way(self, shift: timedelta = timedelta()) -> ScriptedProxy:
        self._ways.append(SocketProxy(self.engine.socket, shift=shift))
        return self._ways[-1]

    def connection(self, way: ScriptedProxy, **extra: Any) -> dict[str, Any]:
        settings = {"engine": f"tcp://127.0.0.1:{way.port}", "poll_interval": 0.5, "grace": 2, "station": "Leipzig"}
        return {"conn_type": "train_container", "extra": settings | extra}

    def jobs(self, name: str) -> list[Job]:
        with self._client() as client:
            found = client.containers(all=True, filters={"label": [f"{names.NAME}={name}"]})
            inspected = [client.inspect_container(each["Id"]) for each in found]
        return [self._job(each) for each in sorted(inspected, key=lambda each: str(each["Created"]))]

    def job(self, job_id: str) -> Job:
        return self._job(self._inspect(job_id))

    def records(self, job_id: str) -> list[LogLine]:
        """The job's log as its file has it, which needs no engine."""
        inspected = self._seen.get(job_id) or self._inspect(job_id)
        lines, text = [], ""
        with suppress(FileNotFoundError):
            for line in (self.engine.home / _LOG.format(inspected["Id"])).read_text().splitlines():
                time, _, kind, part = line.split(" ", 3)
                text += part
                if kind == "F":
                    lines.append(LogLine(datetime.fromisoformat(time), text))
                    text = ""
        return lines

    def folder(self, job_id: str) -> Path:
        return Path(f"/proc/{self._inspect(job_id)['State']['Pid']}/root")

    def work(self, job_id: str) -> Path:
        return self.folder(job_id) / "tmp"

    def alive(self, job_id: str) -> list[psutil.Process]:
        """The container's processes by their cgroup, and its monitor by its arguments."""
        with self._client() as client:
            found = client.containers(all=True, filters={"label": [f"{names.JOB_ID}={job_id}"]})
        return [process for each in found for process in _processes(str(each["Id"]))]

    def told_to_stop(self, job_id: str) -> list[float]:
        container = (self._seen.get(job_id) or self._inspect(job_id))["Id"]
        return [each.at for way in self._ways for each in way.sent(f"^POST .*/containers/{container}/stop")]

    def kill(self) -> None:
        self.engine.stop(signal.SIGKILL)

    def restart(self) -> None:
        self.engine.start()

    def starts_of(self, job_id: str) -> int:
        """How often the engine has started containers of this job, by its own record."""
        return self.started()[names.container_name(job_id)]

    def started(self) -> Counter[str]:
        """How often each container was started, by its name."""
        events = [json.loads(line) for line in (self.engine.home / "tmp" / "events" / "events.log").open()]
        return Counter(str(each["Name"]) for each in events if (each["Type"], each["Status"]) == ("container", "start"))

    def started_trains(self, name: str) -> list[str]:
        """The containers in which algorithms were started for jobs of this name; each is there once a start."""
        events = [json.loads(line) for line in (self.engine.home / "tmp" / "events" / "events.log").open()]
        wanted = {names.NAME: name, names.COMMAND: "run_algorithm"}.items()
        return [
            str(each["Name"])
            for each in events
            if (each["Type"], each["Status"]) == ("container", "start") and wanted <= each["Attributes"].items()
        ]

    def pause(self, job_id: str) -> None:
        """Freeze a container, as somebody else may."""
        with self._client() as client:
            client.pause(names.container_name(job_id))

    def volumes(self) -> list[str]:
        """The names of all volumes."""
        with self._client() as client:
            return [str(each["Name"]) for each in client.volumes()["Volumes"] or []]

    def check_nothing_is_left(self) -> None:
        """No container runs, none was started twice, none waits for its start, and none that is gone left anything."""

        def left() -> list[str]:
            with self._client() as client:
                return [str(each["Names"]) for each in client.containers(all=True) if each["State"] != "exited"]

        wait_for("no container runs", lambda: not left(), 20)
        assert set(self.started().values()) <= {1}, self.started()
        volumes = [each for each in self.volumes() if not each.endswith(("-started", "-stop", "-end"))]
        assert len(volumes) == len(self.engine.containers()), volumes  # each has one, for its export files

    def _inspect(self, job_id: str) -> dict[str, Any]:
        with self._client() as client:
            found: dict[str, Any] = client.inspect_container(names.container_name(job_id))
        self._job(found)
        return found

    def _job(self, inspected: dict[str, Any]) -> Job:
        state, job_id = inspected["State"], str(inspected["Config"]["Labels"][names.JOB_ID])
        started = not str(state["StartedAt"]).startswith("0001-")
        if started:
            self._seen[job_id] = inspected
        if state["Status"] in {"exited", "stopped"}:
            stopped = names.stop_record(job_id) in self.volumes()
            status = "STOPPED" if stopped else "FAILED" if state["ExitCode"] else "SUCCESSFUL"
        else:
            status = "RUNNING" if started else "PENDING"
        return Job(job_id, status, started)

    @contextmanager
    def _client(self) -> Iterator[Any]:
        """A client of this thread's own: a row does its parts in threads."""
        from docker import APIClient

        client = APIClient(base_url=self.engine.url, version="1.41", timeout=60)
        try:
            yield client
        finally:
            client.close()


def _processes(container: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.status() != psutil.STATUS_ZOMBIE and (
                container in " ".join(process.cmdline()) or container in Path(f"/proc/{process.pid}/cgroup").read_text()
            ):
                found.append(process)
    return found
