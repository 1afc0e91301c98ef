# SPDX-License-Identifier: Apache-2.0
"""A real MLflow server for the tests, with a SQLite database and artifacts of its own.

It has an environment of its own, which uv keeps in its cache, since MLflow and Airflow may want other versions of the
same libraries; JOBAPI_TEST_MLFLOW may name another ``mlflow``.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.harness.server import poll

PACKAGE = "mlflow>=3,<4"

QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


@dataclass(frozen=True)
class Mlflow:
    """A running server."""

    url: str
    command: list[str]

    @property
    def connection(self) -> dict[str, Any]:
        """The Airflow connection to it."""
        return {"conn_type": "mlflow", "host": self.url}

    def get(self, path: str, **params: Any) -> dict[str, Any]:
        """Ask the REST API."""
        answer = requests.get(f"{self.url}/api/2.0/mlflow/{path}", params=params, timeout=60)
        assert answer.ok, answer.text
        return dict(answer.json())

    def post(self, path: str, **body: Any) -> dict[str, Any]:
        """Tell the REST API."""
        answer = requests.post(f"{self.url}/api/2.0/mlflow/{path}", json=body, timeout=60)
        assert answer.ok, answer.text
        return dict(answer.json())

    def versions(self, name: str) -> list[dict[str, Any]]:
        """The versions of a registered model, the first one first."""
        found = self.get("model-versions/search", filter=f"name='{name}'").get("model_versions", [])
        return sorted(found, key=lambda each: int(each["version"]))

    def run(self, run_id: str) -> dict[str, Any]:
        """A run."""
        return dict(self.get("runs/get", run_id=run_id)["run"])

    def download(self, uri: str, folder: Path) -> dict[str, bytes]:
        """What MLflow's own client gets for a model."""
        command = [*self.command, "artifacts", "download", "--artifact-uri", uri, "--dst-path", str(folder)]
        environ = {**os.environ, **QUIET, "MLFLOW_TRACKING_URI": self.url}
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def command() -> list[str]:
    """The command ``mlflow``."""
    if named := os.environ.get("JOBAPI_TEST_MLFLOW"):
        return [named]
    uv = shutil.which("uv")
    if uv is None:
        pytest.skip("no MLflow server: install uv, or name an mlflow by JOBAPI_TEST_MLFLOW")
    found = [uv, "tool", "run", "--quiet", "--python", sys.executable, "--from", PACKAGE, "mlflow"]
    tried = subprocess.run([*found, "--version"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"no MLflow server: uv cannot install it: {tried.stderr[-500:]}")
    return found


@pytest.fixture(scope="session")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mlflow]:
    """One MLflow server for the whole test run."""
    home, mlflow = tmp_path_factory.mktemp("mlflow"), command()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    stores = ["--backend-store-uri", f"sqlite:///{home}/mlflow.db", "--artifacts-destination", str(home / "artifacts")]
    place = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    with (home / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [*mlflow, "server", *stores, *place],
            env={**os.environ, **QUIET},
            cwd=home,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        poll(lambda: _answers(process, url, home), 600, "MLflow to answer")
        yield Mlflow(url, mlflow)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)


def define(monkeypatch: pytest.MonkeyPatch, connection: Mapping[str, Any], name: str = "mlflow_default") -> None:
    """Let Airflow find a connection in its environment."""
    monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(dict(connection)))


def _answers(process: subprocess.Popen[bytes], url: str, home: Path) -> bool:
    assert process.poll() is None, (home / "server.log").read_text()
    try:
        return requests.get(f"{url}/health", timeout=5).ok
    except requests.RequestException:
        return False
