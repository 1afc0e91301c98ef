# SPDX-License-Identifier: Apache-2.0
"""A job directory with a real supervisor, without any server.

As a fixture (``from tests.harness.supervised import supervised``)::

    def test_something(supervised) -> None:
        job = supervised("echo hello; exit 3")
        assert job.record()["exit_code"] == 3
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_jobapi.server.run import supervisor
from airflow_provider_jobapi.training.logs import parse_records
from tests.harness.bench import end_processes
from tests.harness.server import poll

SUPERVISOR = Path(supervisor.__file__).parent


class Supervised:
    """One job of one directory."""

    def __init__(self, directory: Path, steps: list[dict[str, Any]], **spec: Any) -> None:
        self.directory = directory
        self.work = directory / "work"
        self.work.mkdir(parents=True)
        self.processes: list[subprocess.Popen[bytes]] = []
        defaults = {"env": {"PATH": os.environ["PATH"]}, "cwd": str(self.work)}
        spec = {"steps": [defaults | step for step in steps], "log_bound": 10**6, "grace": 2} | spec
        (directory / "spec.json").write_text(json.dumps(spec))

    def start(self, python: str = sys.executable) -> subprocess.Popen[bytes]:
        """Start a supervisor; a second one may be started too."""
        command = [python, "-I", "-S", str(SUPERVISOR), str(self.directory)]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, cwd="/")
        self.processes.append(process)
        return process

    def record(self, timeout: float = 30.0) -> dict[str, Any]:
        """Wait for the exit record."""
        path = self.directory / "exit.json"
        poll(path.exists, timeout, "the exit record")
        return dict(json.loads(path.read_bytes()))

    def lines(self) -> list[str]:
        """The lines of the log so far."""
        path = self.directory / "log"
        content = path.read_bytes() if path.exists() else b""
        return [line.text for line in parse_records(content[: content.rfind(b"\n") + 1])]

    def wait_for_line(self, text: str, timeout: float = 30.0) -> None:
        """Wait until a line of the log is this text."""
        poll(lambda: text in self.lines(), timeout, f"the line {text!r} in the log")

    def stop(self, **request: Any) -> None:
        """Ask the supervisor to end the job."""
        (self.directory / "stop.new").write_text(json.dumps({"by": "a test"} | request))
        (self.directory / "stop.new").rename(self.directory / "stop")

    def end(self) -> None:
        """End everything."""
        end_processes(self.directory)
        for process in self.processes:
            process.wait(20)


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Callable[..., Supervised]]:
    """Make and start a supervised job of a shell command (or of ``steps``)."""
    jobs: list[Supervised] = []

    def make(command: str = "", *, start: bool = True, limits: Any = None, **spec: Any) -> Supervised:
        step = {"name": "training", "argv": ["/bin/sh", "-c", command], "limits": limits}
        job = Supervised(tmp_path / f"job{len(jobs)}", spec.pop("steps", [step]), **spec)
        jobs.append(job)
        if start:
            job.start()
        return job

    yield make
    for job in jobs:
        job.end()
