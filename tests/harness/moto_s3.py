# SPDX-License-Identifier: Apache-2.0
"""A second S3 server for the tests: moto's, which keeps conditions and has folder objects; rclone has neither."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import requests

from tests.harness import keeper
from tests.harness.s3 import BUCKET, KEY, SECRET
from tests.harness.server import poll


@dataclass(frozen=True)
class MotoS3:
    """A running server."""

    url: str

    def put(self, key: str, content: bytes = b"") -> None:
        """Write an object under any key, also one that ends in ``/``."""
        headers = self._signed | {"Content-Type": "application/octet-stream"}
        requests.put(f"{self.url}/{BUCKET}/{key}", content, headers=headers, timeout=10).raise_for_status()

    @property
    def _signed(self) -> dict[str, str]:
        # It checks no signatures, but only what seems to be signed may write.
        return {"Authorization": f"AWS4-HMAC-SHA256 Credential={KEY}/20261130/us-east-1/s3/aws4_request"}

    def obstore(self) -> Any:
        """A file system of obstore."""
        from obstore.fsspec import FsspecStore

        config: Any = {"access_key_id": KEY, "secret_access_key": SECRET, "endpoint": self.url, "region": "us-east-1"}
        return FsspecStore("s3", config=config, client_options={"allow_http": True})

    def s3fs(self) -> Any:
        """A file system of s3fs, as Airflow's Amazon provider makes it."""
        from s3fs import S3FileSystem

        return S3FileSystem(
            key=KEY, secret=SECRET, client_kwargs={"endpoint_url": self.url, "region_name": "us-east-1"}
        )


@contextmanager
def serve() -> Iterator[MotoS3]:
    """Start a server with one empty bucket."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    keeper.keep(process.pid)
    try:
        poll(lambda: _listens(process, port), 60, "moto to listen")
        server = MotoS3(f"http://127.0.0.1:{port}")
        server.put("")
        yield server
    finally:
        process.kill()
        process.wait(10)


@pytest.fixture(scope="session")
def moto_s3() -> Iterator[MotoS3]:
    """One server for the whole test run."""
    with serve() as running:
        yield running


def _listens(process: subprocess.Popen[bytes], port: int) -> bool:
    assert process.poll() is None, "moto ended"
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
