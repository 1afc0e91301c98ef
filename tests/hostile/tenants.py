# SPDX-License-Identifier: Apache-2.0
"""Clients of one real server, each with its own secret, and a server on which no job can begin."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from airflow_provider_jobapi.server.run.engines.local import is_locked
from tests.harness.server import Server, poll


@dataclass
class Tenant:
    """A client of a server. Safe for threads once it has its token."""

    url: str
    client_id: str
    secret: str
    token: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        answer = requests.post(
            f"{self.url}/oauth/token",
            data={"grant_type": "client_credentials"},
            auth=(self.client_id, self.secret),
            timeout=30,
        )
        assert answer.status_code == 200, answer.text
        self.token = str(answer.json()["access_token"])

    def request(
        self, method: str, path: str, session: requests.Session | None = None, **more: Any
    ) -> requests.Response:
        """Send a request with the client's token; the path is sent as it is written here, ``..`` included."""
        headers = {"Authorization": f"Bearer {self.token}"} | dict(more.pop("headers", None) or {})
        with session or requests.Session() as sender:
            prepared = sender.prepare_request(requests.Request(method, f"{self.url}/", headers=headers, **more))
            query = prepared.url.partition("?")[2] if prepared.url else ""
            prepared.url = f"{self.url}{path}" + (f"?{query}" if query else "")
            return sender.send(prepared, timeout=60, allow_redirects=False)

    def put(self, key: str, content: bytes) -> requests.Response:
        """Store an object."""
        return self.request("PUT", f"/api/v2/storage/objects/{key}", data=content)

    def submit(self, job_id: str, command: str = "true", **execution: Any) -> requests.Response:
        """Submit a job."""
        body = {"job": {"name": "test", "execution": {"command": command, **execution}}}
        return self.request("POST", f"/api/v2/jobs/{job_id}", data=json.dumps(body))

    def status(self, job_id: str) -> dict[str, Any]:
        """The status object of a job."""
        answer = self.request("GET", f"/api/v2/jobs/{job_id}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def run(self, script: str, *, name: str = "test", **execution: Any) -> dict[str, Any]:
        """Run a Python script as a job and answer its status object when it has ended."""
        job_id = str(uuid.uuid4())
        assert self.put(f"jobs/{name}-{job_id}/train.py", script.encode()).status_code == 201
        body = {"job": {"name": name, "execution": {"command": "python3 train.py", **execution}}}
        answer = self.request("POST", f"/api/v2/jobs/{job_id}", data=json.dumps(body))
        assert answer.status_code == 201, answer.text

        def ended() -> dict[str, Any] | None:
            status = self.status(job_id)
            return status if status["status"] in {"SUCCESSFUL", "FAILED", "STOPPED"} else None

        return poll(ended, 90, f"job {job_id} of {self.client_id} to end")

    def log(self, job_id: str) -> str:
        """The texts of a job's log."""
        answer = self.request("GET", f"/api/v2/jobs/{job_id}/logs")
        assert answer.status_code == 200, answer.text
        return "\n".join(line.partition(" ")[2] for line in answer.text.splitlines())


def tenant_of(server: Server) -> Tenant:
    """The first client of a server."""
    return Tenant(server.url, server.client_id, server.secret)


def add_client(server: Server, name: str, *options: str) -> Tenant:
    """Make another client, as an operator does: with the command line, while the server runs."""
    command = [sys.executable, "-m", "airflow_provider_jobapi.cli", "client", "add", name]
    command += ["--root", str(server.root), "--url", server.url, *options]
    printed = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert printed.returncode == 0, printed.stderr
    found = re.search(r"AIRFLOW_CONN_JOBAPI_DEFAULT=.*", printed.stdout)
    assert found, printed.stdout
    fields = json.loads(shlex.split(found[0])[0].partition("=")[2])
    return Tenant(server.url, fields["login"], fields["password"])


@dataclass
class Held:
    """A server, and the file whose appearance ends the job that has its CPU."""

    server: Server
    let_go: Path


@contextmanager
def hold_the_cpu(root: Path, *options: str) -> Iterator[Held]:
    """A server with one CPU that a job of another client has taken. It is killed before that job ends."""
    let_go = root.parent / "let-go"
    with Server.start(root, "--cpus", "1", "--memory", "1000000", "--grace", "1s", *options) as server:
        holder = add_client(server, "holder", "--trust-all-clients")
        job_id = str(uuid.uuid4())
        command = f"while ! test -e {shlex.quote(str(let_go))}; do sleep 0.1; done"
        answer = holder.submit(job_id, command, resources={"memory": 100_000})
        assert answer.status_code == 201, answer.text
        directory = root / "clients" / "holder" / "jobs" / job_id
        poll(lambda: holder.status(job_id)["status"] == "RUNNING" and is_locked(directory), 60, "the CPU to be taken")
        try:
            yield Held(server, let_go)
        finally:
            server.kill()
            let_go.touch()
            poll(lambda: not is_locked(directory), 60, "the last job to end")
