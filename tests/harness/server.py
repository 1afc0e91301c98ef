# SPDX-License-Identifier: Apache-2.0
"""The real jobAPI server in a process of its own, for every test that needs one.

As a fixture (``from tests.harness.server import jobapi, jobapi_server``; the first is fresh for a test, the second is
shared by a test run)::

    def test_something(jobapi: Server) -> None:
        answer = jobapi.request("GET", "/api/v2/storage")

By hand::

    with Server.start(tmp_path / "root", "--grace", "2s") as server:
        server.kill()      # SIGKILL; its jobs go on
        server.restart()   # on the same root, port, client and secret

The connection is the one in the file that the server names at its first start.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, TypeVar

import pytest
import requests
import yaml

from airflow_provider_jobapi.services.jobapi.connection import JobApiConnection
from tests.harness.waiting import wait_for

T = TypeVar("T")
START_TIMEOUT = 30.0
AS_ROOT = ("--jobs-as-root",) if os.geteuid() == 0 else ()
"""The option without which a server of root refuses to run jobs."""


class Server:
    """A running ``jobapi serve``.

    :ivar url: The base URL, such as ``http://127.0.0.1:40123``.
    :ivar client_id: The login of the connection.
    :ivar secret: The password of the connection.
    :ivar token_url: Where the tokens are.
    :ivar connection: The Airflow connection as the server wrote it: conn_type, host, port, login, password.
    :ivar root: The server's root directory.
    :ivar process: The process.
    """

    def __init__(self, root: Path, *options: str, env: Mapping[str, str] | None = None) -> None:
        self.root = root
        self.options = options
        self.env = dict(env or {})
        self.url = ""
        self.port = 0
        self.connection: dict[str, Any] = {}
        self.process: subprocess.Popen[bytes]
        self.output = root.parent / f"{root.name}.server.log"
        self._token = ""

    @classmethod
    def start(cls, root: Path, *options: str, env: Mapping[str, str] | None = None) -> Self:
        """Start a server on a free port and wait until it answers.

        :param root: Its root directory, made when it is not there.
        :param options: More options of ``jobapi serve``.
        :param env: More environment variables.
        """
        server = cls(root, *options, env=env)
        server.restart()
        return server

    @property
    def client_id(self) -> str:
        return str(self.connection["login"])

    @property
    def secret(self) -> str:
        return str(self.connection["password"])

    @property
    def token_url(self) -> str:
        fields = {name: value for name, value in self.connection.items() if name != "conn_type"}
        return JobApiConnection.of(**fields).token_url

    def restart(self, *options: str) -> None:
        """Start the server (again) on the same root and port.

        :param options: Options in place of those of the first start, if there are any.
        """
        self.options = options or self.options
        clean = {name: value for name, value in os.environ.items() if not name.startswith("JOBAPI_")}
        command = [sys.executable, "-m", "airflow_provider_jobapi.cli", "serve"]
        command += ["--root", str(self.root), "--port", str(self.port), *self.options]
        command += () if {"--users", *AS_ROOT} & set(self.options) else AS_ROOT
        self.output.parent.mkdir(parents=True, exist_ok=True)
        with self.output.open("ab") as output:
            begin = output.tell()
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=clean | self.env,
                start_new_session=True,  # Ctrl-C is for the program that ends the jobs first and then the server
            )
        try:
            poll(lambda: self._ready(begin), START_TIMEOUT, "the server to start")
        except BaseException:
            self.stop()
            raise

    def stop(self, timeout: float = 20.0) -> int:
        """End the server as a service manager would; answers its exit code."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                return self.process.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()
                raise AssertionError(f"The server did not end within {timeout} s of SIGTERM:\n{self.log()}") from None
        return self.process.wait()

    def kill(self) -> None:
        """End the server as a power cut would. Jobs and their supervisors go on."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def log(self) -> str:
        """What the server has printed."""
        return self.output.read_text(errors="replace") if self.output.exists() else ""

    def token(self) -> str:
        """A fresh token."""
        answer = requests.post(
            f"{self.url}/oauth/token",
            data={"grant_type": "client_credentials"},
            auth=(self.client_id, self.secret),
            timeout=30,
        )
        assert answer.status_code == 200, answer.text
        return str(answer.json()["access_token"])

    def request(self, method: str, path: str, *, timeout: float = 60.0, **more: Any) -> requests.Response:
        """Send a request with a token; the arguments are those of ``requests.request``."""
        self._token = self._token or self.token()
        given = dict(more.pop("headers", None) or {})

        def send() -> requests.Response:
            headers = {"Authorization": f"Bearer {self._token}"} | given
            return requests.request(method, f"{self.url}{path}", headers=headers, timeout=timeout, **more)

        answer = send()
        if answer.status_code == 401 and "Authorization" not in given:  # the token has expired
            self._token = self.token()
            answer = send()
        return answer

    def put(self, key: str, content: bytes | str) -> None:
        """Store an object."""
        data = content.encode() if isinstance(content, str) else content
        answer = self.request("PUT", f"/api/v2/storage/objects/{key}", data=data)
        assert answer.status_code in {200, 201}, answer.text

    def submit(
        self,
        script: str = "print('hello')\n",
        *,
        job_id: str | None = None,
        name: str = "test",
        files: Mapping[str, bytes | str] | None = None,
        command: str = "python3 train.py",
        **execution: Any,
    ) -> str:
        """Upload a job's files, submit it, and answer its id.

        :param script: The source of train.py.
        :param files: More files of the working directory.
        :param execution: More fields of ``job.execution``, such as ``resources={"cpus": 1}``.
        """
        job_id = job_id or str(uuid.uuid4())
        for path, content in {"train.py": script, **(files or {})}.items():
            self.put(f"jobs/{name}-{job_id}/{path}", content)
        document = {"job": {"name": name, "execution": {"command": command, **execution}}}
        answer = self.request("POST", f"/api/v2/jobs/{job_id}", data=yaml.safe_dump(document))
        assert answer.status_code in {200, 201}, answer.text
        return job_id

    def status(self, job_id: str) -> dict[str, Any]:
        """The status object of a job."""
        answer = self.request("GET", f"/api/v2/jobs/{job_id}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def wait_for(self, job_id: str, *states: str, timeout: float = 60.0) -> dict[str, Any]:
        """Wait until a job is in one of some states (by default: has ended), and answer its status object."""
        wanted = states or ("SUCCESSFUL", "FAILED", "STOPPED")

        def look() -> dict[str, Any] | None:
            status = self.status(job_id)
            if status["status"] in {"SUCCESSFUL", "FAILED", "STOPPED"} - set(wanted):
                raise AssertionError(f"The job ended otherwise: {status}\n{self.job_log(job_id)}")
            return status if status["status"] in wanted else None

        return poll(look, timeout, f"job {job_id} to be {' or '.join(wanted)}")

    def job_log(self, job_id: str) -> str:
        """The whole log of a job so far, the records' times included."""
        return self.request("GET", f"/api/v2/jobs/{job_id}/logs").text

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_unused: object) -> None:
        self.stop()

    def _ready(self, begin: int) -> bool:
        if self.process.poll() is not None:
            raise AssertionError(f"The server ended with code {self.process.returncode}:\n{self.log()}")
        printed = self.log()[begin:]
        if first := re.search(r"connection for Airflow is in (.*), which only", printed):
            found = re.search(r"AIRFLOW_CONN_JOBAPI_DEFAULT=.*", Path(first[1]).read_text())
            assert found
            self.connection = json.loads(shlex.split(found[0])[0].partition("=")[2])
        if found := re.search(r"^jobAPI server \S+ listens at (http://\S+:(\d+));", printed, re.MULTILINE):
            self.url, self.port = found[1], int(found[2])
            return True
        return False


def poll(look: Callable[[], T], timeout: float, what: str) -> T:
    """Wait for a true answer, asked for fifty times a second; see :func:`~tests.harness.waiting.wait_for`."""
    return wait_for(what, look, timeout, 0.02)


def renew(server: Server) -> None:
    """Give the server's client another secret, as its operator does."""
    command = [sys.executable, "-m", "airflow_provider_jobapi.cli", "client", "renew", server.client_id]
    command += ["--root", str(server.root), "--port", str(server.port)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"AIRFLOW_CONN_JOBAPI_DEFAULT=.*", printed)
    assert found, printed
    server.connection = json.loads(shlex.split(found[0])[0].partition("=")[2])
    server._token = ""


@contextmanager
def running(root: Path, *options: str) -> Iterator[Server]:
    """A server that is stopped at the end, jobs that were left running included."""
    server = Server.start(root, *options)
    try:
        yield server
    finally:
        stop_jobs(server)
        server.stop()


def stop_jobs(server: Server) -> None:
    """Stop every job of a server that still goes, and wait until none does."""
    if server.process.poll() is not None:
        return
    going = [
        job["job_id"]
        for state in ("PENDING", "RUNNING")
        for job in server.request("GET", "/api/v2/jobs", params={"status": state}).json()["jobs"]
    ]
    for job_id in going:
        server.request("POST", f"/api/v2/jobs/{job_id}/stop")
    for job_id in going:
        server.wait_for(job_id)


@pytest.fixture
def jobapi(tmp_path: Path) -> Iterator[Server]:
    """A server of this test's own."""
    with running(tmp_path / "jobapi", "--grace", "2s") as server:
        yield server


@pytest.fixture(scope="session")
def jobapi_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for the whole test run."""
    with running(tmp_path_factory.mktemp("server") / "jobapi", "--grace", "2s") as server:
        yield server
