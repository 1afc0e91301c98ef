# SPDX-License-Identifier: Apache-2.0
"""The command ``jobapi`` as a person runs it: a process of its own, with pipes or with a terminal.

::

    command = Command(tmp_path, server.connection)
    assert command("status", job_id).out.startswith("job:")
    with command.start("logs", "-f", job_id) as following:
        following.wait_for("epoch 3")
        following.interrupt()
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import pty
import signal
import subprocess
import sys
import termios
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tests.harness.server import poll

PATIENCE = 60.0


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def sentence(self) -> str:
        """The one sentence on stderr of a command that was refused."""
        assert self.out == "", self.out
        assert self.err.startswith("jobapi: "), self.err
        assert self.err.count("\n") == 1, self.err
        assert "Traceback" not in self.err
        return self.err.removeprefix("jobapi: ").rstrip("\n")


class Command:
    """Starts the command in a folder, with a connection in the variable that the server prints."""

    def __init__(self, folder: Path, connection: Mapping[str, Any] | None) -> None:
        self.folder = folder
        hidden = ("JOBAPI_", "AIRFLOW_CONN_", "COLUMNS", "LC_", "LANG", "NO_COLOR", "TERM")
        self.env = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
        self.env |= {"LC_ALL": "C.UTF-8", "TERM": "xterm-256color", "TZ": "UTC"}
        if connection is not None:
            self.env["AIRFLOW_CONN_JOBAPI_DEFAULT"] = json.dumps(connection)

    def __call__(self, *arguments: str, env: Mapping[str, str] | None = None, stdin: bytes = b"") -> Done:
        """Run the command to its end."""
        ran = subprocess.run(
            self._command(arguments),
            cwd=self.folder,
            env=self.env | (env or {}),
            input=stdin,
            capture_output=True,
            timeout=120,
            check=False,
        )
        return Done(ran.returncode, ran.stdout.decode(errors="replace"), ran.stderr.decode(errors="replace"))

    def start(self, *arguments: str, terminal: str = "", env: Mapping[str, str] | None = None) -> Running:
        """Start the command.

        :param terminal: ``out``, ``err`` or both words: what is a terminal and no pipe.
        """
        return Running(self._command(arguments), self.folder, self.env | (env or {}), terminal)

    def _command(self, arguments: tuple[str, ...]) -> list[str]:
        return [sys.executable, "-m", "airflow_provider_jobapi.cli", *arguments]


class Running:
    """A command that runs; a context manager that ends it."""

    def __init__(self, command: list[str], folder: Path, env: Mapping[str, str], terminal: str) -> None:
        self._parts: dict[str, bytearray] = {"out": bytearray(), "err": bytearray()}
        self._ends: dict[str, int] = {}
        giving: dict[str, int] = {}
        for name in self._parts:
            self._ends[name], giving[name] = pty.openpty() if name in terminal.split() else os.pipe()
            if name in terminal.split():
                termios.tcsetwinsize(giving[name], (24, 80))
        # Whoever runs the tests in the background of a shell has them ignore Ctrl-C, and their children with them.
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=giving["out"],
            stderr=giving["err"],
            preexec_fn=functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 -- one system call
        )
        for end in giving.values():
            os.close(end)
        self._threads = [threading.Thread(target=self._read, args=(name,), daemon=True) for name in self._parts]
        for thread in self._threads:
            thread.start()

    @property
    def out(self) -> str:
        return bytes(self._parts["out"]).decode(errors="replace")

    @property
    def err(self) -> str:
        return bytes(self._parts["err"]).decode(errors="replace")

    def wait_for(self, text: str, where: str = "out") -> None:
        """Wait until a text was printed."""

        def look() -> bool:
            if text in getattr(self, where):
                return True
            assert self.process.poll() is None, f"ended with {self.process.returncode}: {self.out}\n{self.err}"
            return False

        poll(look, PATIENCE, f"{text!r} on {where}; so far: {self.out[-500:]}\n{self.err[-500:]}")

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self.process.send_signal(signal.SIGINT)

    def wait(self) -> Done:
        """Wait for the end."""
        code = self.process.wait(PATIENCE)
        for thread in self._threads:
            thread.join(PATIENCE)
        return Done(code, self.out, self.err)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for thread in self._threads:
            thread.join(PATIENCE)
        for end in self._ends.values():
            os.close(end)

    def _read(self, name: str) -> None:
        with contextlib.suppress(OSError):  # EIO: the other end of a terminal is closed
            while part := os.read(self._ends[name], 65_536):
                self._parts[name] += part
