# SPDX-License-Identifier: Apache-2.0
"""The server without its HTTP side, in this process: registry, storage and a real runner with real supervisors.

As a fixture (``from tests.harness.bench import bench``), or by hand with other settings::

    with Bench(tmp_path, cpus=1) as bench:
        job = bench.wait(bench.submit("print('hello')"))
        assert job.state == "SUCCESSFUL", bench.log(job)
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self

import pytest

from airflow_provider_jobapi.server.config import Settings
from airflow_provider_jobapi.server.run.engines import make_engine
from airflow_provider_jobapi.server.run.engines.local import is_locked
from airflow_provider_jobapi.server.run.runner import Runner
from airflow_provider_jobapi.server.run.supervisor import process_bound, process_tree
from airflow_provider_jobapi.server.store import layout
from airflow_provider_jobapi.server.store.clients import ClientRegistry
from airflow_provider_jobapi.server.store.database import Database
from airflow_provider_jobapi.server.store.job_record import Job
from airflow_provider_jobapi.server.store.jobs import JobRegistry
from airflow_provider_jobapi.server.store.storages import Storages
from airflow_provider_jobapi.training.job_file import JobFile
from airflow_provider_jobapi.training.logs import parse_records
from tests.harness.server import poll

CLIENT = "airflow"

WRITE_MODEL = """
import os, pathlib
place = pathlib.Path(os.environ["MODEL_DIR"], "1")
(place / "variables").mkdir(parents=True)
(place / "saved_model.pb").write_bytes(b"graph")
(place / "variables" / "variables.index").write_bytes(b"index")
"""


class Bench:
    """A root with one client and, from ``start`` on, a runner.

    :param idle_pause: Seconds between two turns of a runner that has nothing to do.
    :param settings: Settings other than their defaults.
    """

    def __init__(self, home: Path, *, idle_pause: float = 5.0, **settings: Any) -> None:
        self.settings = Settings(
            **{
                "root": home / "root",
                "grace": timedelta(seconds=2),
                "cpus": 4,
                "memory": 8_000,
                "python": (Path(sys.executable),),
                "jobs_as_root": os.geteuid() == 0,
            }
            | settings
        )
        if isinstance(self.settings.python, Path):
            self.settings = replace(self.settings, python=(self.settings.python,))
        layout.prepare_root(self.settings.root)
        self.database = Database(self.settings.root / "jobapi.sqlite")
        self.clients = ClientRegistry(self.settings, self.database)
        if not self.clients.all():
            self.clients.add(CLIENT)
        self.storages = Storages(self.settings, self.database)
        engine = make_engine(self.settings)
        self.registry = JobRegistry(self.settings, self.database, self.storages, engine.capacity)
        self.runner = Runner(self.settings, self.registry, self.storages, self.clients, engine, idle_pause=idle_pause)

    def submit(
        self,
        script: str = "print('hello')",
        *,
        client: str = CLIENT,
        command: str = "python3 train.py",
        files: Mapping[str, bytes | str] | None = None,
        env: Mapping[str, str] | None = None,
        name: str = "bench",
        resume_from: str = "",
        **execution: Any,
    ) -> Job:
        """Store a job's files, submit it, and answer it as it stands."""
        job_id = str(uuid.uuid4())
        storage = self.storages.of(client)
        for path, content in {"train.py": script, **(files or {})}.items():
            with storage.writer(f"jobs/{name}-{job_id}/{path}") as writer:
                writer.write(content.encode() if isinstance(content, str) else content)
                writer.commit()
        variables = [{"name": key, "value": value} for key, value in (env or {}).items()]
        job = {"name": name, "env": variables, "execution": {"command": command, **execution}}
        job |= {"resumeFrom": resume_from} if resume_from else {}
        return self.registry.submit(client, job_id, JobFile.model_validate({"job": job}))[0]

    def get(self, job: Job) -> Job:
        """The job as it stands now."""
        return self.registry.get(*job.key)

    def wait(self, job: Job, *states: str, timeout: float = 30.0) -> Job:
        """Wait until a job is in one of some states; by default, until it has ended."""

        def look() -> Job | None:
            current = self.get(job)
            return current if (current.state in states if states else current.state.ended) else None

        try:
            return poll(look, timeout, f"a job that is {self.get(job).state} to end")
        except AssertionError as error:
            raise AssertionError(f"{error} It says {self.get(job).message!r}, and its log:\n{self.log(job)}") from None

    def wait_for_line(self, job: Job, text: str, timeout: float = 30.0) -> None:
        """Wait until the job's log holds a text."""
        poll(lambda: text in self.log(job), timeout, f"{text!r} in the log")

    def log(self, job: Job) -> str:
        """The whole records of the job's log so far, without their times."""
        try:
            content = (job.directory / "log").read_bytes()
        except FileNotFoundError:
            return ""
        return "".join(line.text + "\n" for line in parse_records(content[: content.rfind(b"\n") + 1]))

    def __enter__(self) -> Self:
        self.runner.start()
        return self

    def __exit__(self, *_unused: object) -> None:
        self.runner.stop()
        for job in (*self.registry.placed(), *self.registry.waiting()):
            end_processes(job.directory)
        self.database.close()


def supervisor_of(directory: Path) -> int:
    """The process id of the supervisor that holds this directory."""
    return int(json.loads((directory / "started").read_bytes())["pid"])


def end_processes(directory: Path) -> None:
    """End a supervisor and all that it started, whatever state they are in."""
    if is_locked(directory):
        os.kill(supervisor_of(directory), signal.SIGKILL)
    poll(lambda: not is_locked(directory), 10, "a killed supervisor to be gone")
    mark = f"JOB_DIRECTORY={directory}".encode()
    assert process_tree.end_marked(mark) == []
    process_bound.remove_group(mark)


def files_with(folder: Path, content: bytes) -> list[Path]:
    """The files below a folder that hold something, while a server may remove some of them."""
    found = []
    for each, _, names in os.walk(folder):  # Path.rglob fails where a folder is removed
        for path in (Path(each, name) for name in names):
            with suppress(FileNotFoundError):
                if path.is_file() and not path.is_symlink() and content in path.read_bytes():
                    found.append(path)
    return found


def processes_of(directory: Path) -> list[int]:
    """The processes of a job that are alive."""
    return process_tree.marked(f"JOB_DIRECTORY={directory}".encode())


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A bench of this test's own, its runner running."""
    with Bench(tmp_path) as bench:
        yield bench


# A process that has imported everything gives birth to the runners, which are many and short-lived.
_nursery = multiprocessing.get_context("forkserver")


class RunnerProcess:
    """A runner in a process of its own, to be killed.

    :param home: As for :class:`Bench`, which must have made the root.
    """

    def __init__(self, home: Path) -> None:
        _nursery.set_forkserver_preload(["tests.harness.bench"])
        ours, theirs = _nursery.Pipe()
        self.process = _nursery.Process(target=_run, args=(home, theirs))
        self.process.start()
        theirs.close()
        assert ours.recv() == "up"
        ours.close()

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.kill()
        self.process.join()


def _run(home: Path, up: Connection) -> None:
    bench = Bench(home)
    bench.runner.start()
    up.send("up")
    signal.pause()
