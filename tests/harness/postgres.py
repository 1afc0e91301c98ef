# SPDX-License-Identifier: Apache-2.0
"""A PostgreSQL of the test's own: in a temporary folder, reached by a socket in it, killable."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Self

import psutil

from tests.harness import keeper
from tests.harness.waiting import NotInTime, wait_for

NAME = "airflow"
"""The user and the database."""


def missing() -> str:
    """Why no PostgreSQL can be started here; empty when one can."""
    if _programs() is None:
        return "there is no PostgreSQL server here (Debian: apt-get install postgresql)"
    for name in ("psycopg2", "asyncpg"):
        try:
            __import__(name)
        except ImportError:
            return f"the Python package {name} is missing, which Airflow needs for PostgreSQL"
    return ""


def _programs() -> Path | None:
    """The folder of ``initdb`` and ``postgres``; Debian keeps them off the PATH."""
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda place: int(place.parent.name.split(".")[0]))
    found = shutil.which("initdb")
    if found:
        places.append(Path(found).resolve().parent)
    usable = [place for place in places if (place / "initdb").exists() and (place / "postgres").exists()]
    return usable[-1] if usable else None


def _user() -> int | None:
    """Whom to run it as: PostgreSQL refuses root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name).pw_uid
    return 65534


class Postgres:
    """One PostgreSQL server; a context manager that leaves nothing behind."""

    def __init__(self) -> None:
        programs = _programs()
        assert programs is not None, missing()
        self._programs = programs
        self._user = _user()
        # Not below pytest's folder, which is closed to the other user; a socket's path must be short, too.
        self.home = Path(tempfile.mkdtemp(prefix="pg-"))
        if self._user is not None:
            os.chown(self.home, self._user, -1)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The address, as SQLAlchemy reads it."""
        return f"postgresql+psycopg2://{NAME}@/{NAME}?host={self.home}"

    def __enter__(self) -> Self:
        try:
            self._run(
                "initdb", "--pgdata", "data", "--username", NAME, "--auth", "trust", "--no-sync", "--encoding", "UTF8"
            )
            self.start()
            self._run("createdb", "--host", str(self.home), "--username", NAME, NAME)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.home, ignore_errors=True)

    def start(self) -> None:
        """Start it (again) and wait until it answers."""
        with (self.home / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    self._programs / "postgres",
                    *("-D", "data", "-k", str(self.home)),
                    *("-c", "listen_addresses=", "-c", "max_connections=200", "-c", "fsync=off"),
                ],
                cwd=self.home,
                user=self._user,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_for("PostgreSQL answers", self._ready, 60)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End it: SIGINT cuts its connections and shuts down, SIGKILL is a crash."""
        if self._process is None:
            return
        backends: list[psutil.Process] = []
        with suppress(psutil.Error):
            backends = psutil.Process(self._process.pid).children(recursive=True)
        keeper.end(self._process, how)
        # After a crash the backends notice by themselves; the next start is refused until they have.
        with suppress(NotInTime):
            wait_for("PostgreSQL's processes have ended", lambda: not any(map(_alive, backends)), 30)
        self._process = None

    def _ready(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError(f"PostgreSQL ended:\n{(self.home / 'server.log').read_text()[-3000:]}")
        command = [self._programs / "pg_isready", "--quiet", "--host", self.home, "--username", NAME]
        return subprocess.run(command, check=False).returncode == 0

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self._programs / program, *arguments], cwd=self.home, user=self._user, capture_output=True, check=False
        )
        assert done.returncode == 0, f"{program}: {done.stderr.decode()}"


def _alive(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False
