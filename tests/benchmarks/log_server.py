# SPDX-License-Identifier: Apache-2.0
"""Servers of logs, each in a process of its own: ``python -m tests.benchmarks.log_server here|bare ROOT COUNT``.

``here`` is the HTTP side of this package's server, with jobs that count as running and whose logs the benchmark
writes. ``bare`` is the least that one would write with FastAPI: a long poll that looks at the size of its file four
times a second. Each prints one line of JSON: its port, and the token and the ids of its jobs.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response

CLIENT = "benchmark"
JOB_FILE = '{"job":{"execution":{"command":"true"},"name":"benchmark"}}'
LOOK_SECONDS = 0.25


@dataclass(frozen=True)
class LogServer:
    """A running server of logs."""

    pid: int
    port: int
    token: str
    logs: dict[str, Path]

    def cpu(self) -> float:
        """The seconds of a core that it has used."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    async def share(self, seconds: float) -> float:
        """Measure for some seconds how much of a core it uses, in percent."""
        before, begin = self.cpu(), time.monotonic()
        await asyncio.sleep(seconds)
        return (self.cpu() - before) / (time.monotonic() - begin) * 100


@contextmanager
def log_server(kind: str, count: int) -> Iterator[LogServer]:
    """Start a server with ``count`` jobs, and stop it at the end.

    :param kind: ``here`` or ``bare``.
    """
    with tempfile.TemporaryDirectory(prefix="log-server-") as folder:
        command = [sys.executable, "-m", "tests.benchmarks.log_server", kind, folder, str(count)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            try:
                said = json.loads(next(line for line in process.stdout if line.startswith("{")))
                logs = {job_id: Path(path) for job_id, path in said["logs"].items()}
                yield LogServer(process.pid, said["port"], said["token"], logs)
            finally:
                process.kill()


class _Idle:
    """In place of the runner and of housekeeping, whose work is not measured here."""

    def start(self) -> None:
        """Do nothing."""

    def stop(self) -> None:
        """Do nothing."""

    def sweep(self) -> None:
        """Do nothing."""


def _serve_here(root: Path, count: int) -> None:
    from sqlalchemy import insert

    from airflow_provider_jobapi.server import serve
    from airflow_provider_jobapi.server.config import Settings
    from airflow_provider_jobapi.server.http.app import build, create_app
    from airflow_provider_jobapi.server.http.connections import LimitedProtocol
    from airflow_provider_jobapi.server.store import layout
    from airflow_provider_jobapi.server.store.database import jobs
    from airflow_provider_jobapi.server.store.reserve import open_database

    settings = Settings(root=root, jobs_as_root=os.geteuid() == 0)
    serve._raise_file_limit()
    layout.prepare_root(root)
    database = open_database(root)
    secret = build(settings, database).clients.add(CLIENT)
    ids, now = [str(uuid.uuid4()) for _ in range(count)], datetime.now(UTC)
    same = {"client_id": CLIENT, "name": "benchmark", "digest": "0" * 64, "job_file": JOB_FILE, "state": "RUNNING"}
    same |= {"submitted": now, "placed": now, "started": now, "gpu_ids": [], "message": ""}
    with database.write() as connection:
        connection.execute(insert(jobs), [{**same, "job_id": job_id} for job_id in ids])
    logs = {job_id: layout.job_directory(root, CLIENT, job_id) / "log" for job_id in ids}
    for path in logs.values():
        path.parent.mkdir()
        path.touch()
    components = build(settings, database)
    components.registry.placed()  # as the runner does first
    form = {"grant_type": "client_credentials", "client_id": CLIENT, "client_secret": secret}
    answer = components.tokens.answer("POST", "", form)
    idle: Any = _Idle()
    app = create_app(replace(components, runner=idle, housekeeper=idle))
    _run(app, logs, answer.body["access_token"], LimitedProtocol)


def _serve_bare(root: Path, count: int) -> None:
    app = FastAPI()
    logs = {str(uuid.uuid4()): root / f"{number}.log" for number in range(count)}
    for path in logs.values():
        path.touch()

    @app.get("/api/v2/jobs/{job_id}/logs")
    async def get_logs(request: Request, job_id: str, offset: int = 0) -> Response:
        if request.headers.get("authorization") != "Bearer token":
            return Response(status_code=401)
        path, end = logs[job_id], time.monotonic() + 25
        while path.stat().st_size <= offset and time.monotonic() < end:  # noqa: ASYNC110 -- the usual way
            await asyncio.sleep(LOOK_SECONDS)
        handle = os.open(path, os.O_RDONLY)
        try:
            body = os.pread(handle, 2**20, offset)
        finally:
            os.close(handle)
        return Response(body, headers={"Job-Log-Next-Offset": str(offset + len(body))})

    _run(app, logs, "token", "h11")


def _run(app: Any, logs: dict[str, Path], token: str, protocol: Any) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as listener:
        places = {job_id: str(path) for job_id, path in logs.items()}
        said = {"port": listener.getsockname()[1], "token": token, "logs": places}
        print(json.dumps(said), flush=True)
        config = uvicorn.Config(
            app, http=protocol, ws="none", access_log=False, proxy_headers=False, log_level="warning", backlog=4096
        )
        uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    {"here": _serve_here, "bare": _serve_bare}[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]))
