# SPDX-License-Identifier: Apache-2.0
"""The jobs that run: their directories, their runners' processes, and the state they are in."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.harness.modelarts.faults import write_json

_ROOT = Path(__file__).parents[3]
LAST = {"completed", "failed", "stopped", "lost"}


@dataclass(frozen=True)
class State:
    """The state of a run.

    :ivar name: creating, image, trying, waiting, running, stopping, completed, failed, stopped or lost.
    :ivar started: When it began to run, in milliseconds; None before that.
    :ivar ended: When it ended; None before that.
    :ivar exit_codes: Of each node, once it has ended by itself.
    :ivar message: Why it failed.
    """

    name: str
    started: int | None = None
    ended: int | None = None
    exit_codes: list[int] = field(default_factory=list)
    message: str = ""

    @property
    def is_last(self) -> bool:
        return self.name in LAST

    def duration(self) -> int:
        """How long it has run, in milliseconds."""
        return 0 if self.started is None else (self.ended or time.time_ns() // 10**6) - self.started


class Runs:
    """The runs of one home directory.

    :param home: The double's directory.
    :param settings: What every run gets: obs, pace, grace.
    """

    def __init__(self, home: Path, settings: dict[str, Any]) -> None:
        self._home = home
        self._settings = settings
        self._processes: list[subprocess.Popen[bytes]] = []

    def place(self, key: str) -> Path:
        return self._home / "jobs" / key

    def spec(self, key: str) -> dict[str, Any]:
        """Return the specification of a run."""
        return dict(json.loads((self.place(key) / "spec.json").read_text()))

    def prepare(self, key: str, spec: dict[str, Any]) -> None:
        """Write the specification of a run, before its creation is answered."""
        self.place(key).mkdir(parents=True, exist_ok=True)
        more = {"job_id": key, "faults": str(self._home / "faults.json")}
        write_json(self.place(key) / "spec.json", spec | self._settings | more)

    def start(self, key: str) -> None:
        """Start the runner of a run, unless it has been started before."""
        self._processes = [process for process in self._processes if process.poll() is None]
        place = self.place(key)
        if (place / "events.jsonl").exists():
            return
        environ = {name: os.environ[name] for name in ("PATH", "LANG", "MODELARTS_HOME") if name in os.environ}
        with (place / "runner.log").open("ab") as output:
            self._processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", "tests.harness.modelarts.runner", str(place)],
                    cwd=_ROOT,
                    env=environ,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
            )

    def stop(self, key: str) -> None:
        """Request that a run be stopped."""
        (self.place(key) / "stop").touch()

    def state(self, key: str) -> State:
        """The state of a run."""
        file = self.place(key) / "events.jsonl"
        events = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
        if not events:
            return State("creating")
        last = events[-1]
        name = last["state"]
        if name not in LAST and not self._is_alive(key):
            name = "lost"
        if name not in LAST | {"stopping"} and (self.place(key) / "stop").exists():
            name = "stopping"
        started = next((event["time"] for event in events if event["state"] == "running"), None)
        ended = last["time"] if name in LAST else None
        return State(name, started, ended, last.get("exit_codes", []), last.get("message", ""))

    def _is_alive(self, key: str) -> bool:
        with (self.place(key) / "lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        # It may have ended since its events were read.
        text = (self.place(key) / "events.jsonl").read_text()
        return json.loads(text.splitlines()[-1])["state"] in LAST
