# SPDX-License-Identifier: Apache-2.0
"""Upload and fetch files over the http storage of a server, beside curl and, where there is one, rclone on an S3.

``JOBAPI_TEST_RCLONE`` names the rclone; its own S3 server is the other end. Without it the rows of small files are left
out.
"""

from __future__ import annotations

import logging
import math
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from airflow_provider_jobapi.services.base import ModelFile
from airflow_provider_jobapi.services.files.destinations import destination_of
from airflow_provider_jobapi.services.files.models import fetch
from airflow_provider_jobapi.services.files.sources import Source, measure_all
from airflow_provider_jobapi.services.files.transfers import upload
from airflow_provider_jobapi.services.jobapi.client import Client
from airflow_provider_jobapi.services.jobapi.http_streams import StreamingHttpStore
from airflow_provider_jobapi.services.jobapi.tokens import tokens_of
from airflow_provider_jobapi.services.retry import Retry
from tests.benchmarks.table import Row
from tests.harness.airflow import free_ports
from tests.harness.client import connection
from tests.harness.server import Server, poll, running

_FILES = int(os.environ.get("JOBAPI_BENCH_FILES", "2000"))
_LARGE = int(os.environ.get("JOBAPI_BENCH_MIB", "512")) * 2**20
_ROUNDS = 3
_LOG = logging.getLogger(__name__)


def measure() -> list[Row]:
    """Measure both ways, with the hash of every file and all of it on the disk."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        with running(folder / "root", "--storage-bound", "4GB") as server:
            return [*_large(server, folder), *_small(server, folder)]


def _large(server: Server, folder: Path) -> list[Row]:
    file, got = folder / "large", folder / "got"
    with file.open("wb") as out:
        for _ in range(_LARGE // 2**20):
            out.write(os.urandom(2**20))
    sources = measure_all({"large": file})
    url = f"{server.url}/api/v2/storage/objects/here/large"
    curl = ["curl", "-sSf", "-H", f"Authorization: Bearer {server.token()}"]

    def sent_with_curl() -> None:
        subprocess.run([*curl, "-T", str(file), "-o", os.devnull, url], check=True)

    def fetched_with_curl() -> None:
        got.mkdir()
        subprocess.run([*curl, "-o", str(got / "large"), url], check=True)

    def removed() -> None:
        subprocess.run([*curl, "-X", "DELETE", url], check=True)

    sent, fetched = _ways(server, got, "here", sources)
    up = _in_turn(sent, sent_with_curl, removed)
    sent()
    down = _in_turn(fetched, fetched_with_curl, lambda: shutil.rmtree(got))
    size = f"{_LARGE // 2**20} MiB"
    return [
        Row(f"{size}, up", *up, "s", 1 / 0.9, anchor_is="curl"),
        Row(f"{size}, down", *down, "s", 1 / 0.8, anchor_is="curl"),
    ]


def _in_turn(ours: Callable[[], None], theirs: Callable[[], None], tidy: Callable[[], None]) -> tuple[float, float]:
    """The best times of both; a file whose pages are new to a virtual machine takes several times as long."""
    best = [math.inf, math.inf]
    for turn in range(2 * _ROUNDS):
        best[turn % 2] = min(best[turn % 2], _seconds((ours, theirs)[turn % 2]))
        tidy()
    return best[0], best[1]


def _small(server: Server, folder: Path) -> list[Row]:
    rclone = os.environ.get("JOBAPI_TEST_RCLONE")
    if not rclone:
        return []
    small = folder / "small"
    small.mkdir()
    for number in range(_FILES):
        (small / f"{number:05}").write_bytes(os.urandom(10_000))
    sources = measure_all({path.name: path for path in small.iterdir()})
    here = [_seconds(way) for way in _ways(server, folder / "many", "small", sources)]
    up, down = _rclone(rclone, small, folder)
    what = f"{_FILES:,} files of 10 KB"
    return [
        Row(f"{what}, up", here[0], up, "s", 1.0, anchor_is="rclone"),
        Row(f"{what}, down", here[1], down, "s", 1.0, anchor_is="rclone"),
    ]


def _ways(
    server: Server, place: Path, directory: str, sources: dict[str, Source]
) -> tuple[Callable[[], None], Callable[[], None]]:
    """What uploads the files, and what fetches them."""
    settings = connection(server)
    store = StreamingHttpStore(Client(settings, tokens_of(settings), lambda _: None))
    keys = {ModelFile(path, each.size, each.sha256): f"{directory}/{path}" for path, each in sources.items()}

    def fetched() -> None:
        fetch("job", keys, destination_of(str(place), "1"), lambda: store, Retry(), _LOG, None)

    return lambda: upload(store, directory, sources, Retry(), _LOG, "Uploading"), fetched


def _rclone(rclone: str, small: Path, folder: Path) -> tuple[float, float]:
    """Copy files to an S3 that rclone serves from a folder, and back."""
    served, port = folder / "s3", free_ports(1)[0]
    (served / "data").mkdir(parents=True)
    command = [rclone, "serve", "s3", "--auth-key", "key,secret", "--addr", f"127.0.0.1:{port}", str(served)]
    remote = f":s3,provider=Rclone,access_key_id=key,secret_access_key=secret,endpoint='http://127.0.0.1:{port}':data"
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            there = [rclone, "lsf", remote]
            poll(lambda: subprocess.run(there, check=False, capture_output=True).returncode == 0, 30, "rclone's S3")
            copy = [rclone, "copy", "--transfers", "16", "--checkers", "16"]
            return (
                _seconds(lambda: subprocess.run([*copy, str(small), f"{remote}/x"], check=True)),
                _seconds(lambda: subprocess.run([*copy, f"{remote}/x", str(folder / "back")], check=True)),
            )
        finally:
            process.terminate()


def _seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin
