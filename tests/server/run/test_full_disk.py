# SPDX-License-Identifier: Apache-2.0
"""On a full disk the server and ``jobapi gc`` start, and free space."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from airflow_provider_jobapi.server.store.reserve import Reserve
from tests.harness.server import START_TIMEOUT, Server, poll, running
from tests.harness.small_disk import fill, small_disk, take_all_files


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", "24m", "nr_inodes=2000") as place:
        yield place


def jobapi(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "airflow_provider_jobapi.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Server:
    """A server that ran a job, and was stopped."""
    with running(tmp_path_factory.mktemp("full") / "root", "--grace", "2s") as server:
        server.wait_for(server.submit("print('hello')", files={"rows.bin": bytes(2**20)}))
        poll(lambda: len(list((server.root / "reserve").glob("*"))) == 8, 20, "the reserve")
    for large in (server.root / "reserve", *server.root.glob("clients/*/environments")):
        shutil.rmtree(large)
    return server


@pytest.fixture
def stopped(disk: Path, root: Server) -> Server:
    """A copy of that server on a small disk, with a reserve."""
    place = shutil.copytree(root.root, disk / "root")
    assert Reserve(place).keep()
    copy = Server(place, *root.options)
    copy.connection, copy.output = root.connection, disk.parent / "server.log"
    return copy


@pytest.mark.parametrize("take", [fill, take_all_files])
def test_the_server_starts_on_a_full_disk(disk, stopped, take):
    take(disk)
    stopped.restart()
    try:
        jobs = stopped.request("GET", "/api/v2/jobs").json()["jobs"]
        assert [job["status"] for job in jobs] == ["SUCCESSFUL"]
        assert stopped.request("DELETE", f"/api/v2/jobs/{jobs[0]['job_id']}").status_code == 204
    finally:
        stopped.stop()


@pytest.mark.parametrize("take", [fill, take_all_files])
def test_gc_starts_on_a_full_disk_and_frees_what_retention_allows(disk, stopped, take):
    take(disk)
    answer = jobapi("gc", "--root", str(stopped.root), "--retention", "1s")
    assert "1 jobs are gone" in answer.stdout, answer.stderr
    assert answer.returncode == 0
    assert not list(stopped.root.glob("clients/*/jobs/*"))


def test_gc_without_a_reserve_removes_what_can_be_made_again(disk, stopped):
    """As after an update of a server that made none."""
    shutil.rmtree(stopped.root / "reserve")
    data = stopped.root / "clients" / "airflow" / "data"
    (data / "0123.part").write_bytes(bytes(2**20))
    fill(disk)
    answer = jobapi("gc", "--root", str(stopped.root), "--retention", "1s")
    assert "1 jobs are gone" in answer.stdout, answer.stderr
    assert not list(data.glob("*.part"))


def test_a_log_that_cannot_be_written_ends_no_server(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    command = [sys.executable, "-m", "airflow_provider_jobapi.cli", "serve", "--jobs-as-root", "--port", str(port)]
    with Path("/dev/full").open("w") as full:
        process = subprocess.Popen([*command, "--root", str(tmp_path / "root")], stdout=full, stderr=full)
    try:
        poll(lambda: answers(port), START_TIMEOUT, "the server to answer")
    finally:
        process.terminate()
        process.wait(20)


def answers(port: int) -> bool:
    try:
        return requests.get(f"http://127.0.0.1:{port}/healthz", timeout=5).status_code == 200
    except requests.ConnectionError:
        return False


def test_gc_of_a_server_that_runs_on_a_full_disk_frees_it(disk, stopped):
    stopped.restart("--retention", "2s", "--grace", "2s")
    try:
        fill(disk)
        assert "collects now" in jobapi("gc", "--root", str(stopped.root)).stdout
        poll(lambda: not list(stopped.root.glob("clients/*/jobs/*")), 20, "the job to be gone")
        assert stopped.request("GET", "/api/v2/jobs").json()["jobs"] == []
    finally:
        stopped.stop()


@pytest.mark.parametrize(
    "command", [("client", "list"), ("client", "renew", "airflow"), ("client", "remove", "airflow")]
)
def test_clients_can_be_managed_on_a_full_disk(disk, stopped, command):
    fill(disk)
    answer = jobapi(*command, "--root", str(stopped.root))
    assert answer.returncode == 0, answer.stderr
    assert "airflow" in answer.stdout


def test_a_full_disk_where_nothing_can_be_freed_is_named(disk, stopped):
    shutil.rmtree(stopped.root / "reserve")
    fill(disk)
    for command in (("gc",), ("serve", "--port", "0", "--jobs-as-root")):
        answer = jobapi(*command, "--root", str(stopped.root))
        assert answer.returncode == 2
        assert "disk is full" in answer.stderr, answer.stderr
        assert "Traceback" not in answer.stderr


def test_the_reserve_is_made_again_when_there_is_room(disk):
    root = disk / "root"
    root.mkdir()
    reserve = Reserve(root)
    assert reserve.keep()
    assert reserve.release()
    fill(disk)
    assert not reserve.keep()
    assert not list((root / "reserve").iterdir())
    (disk / "filler").unlink()
    assert reserve.keep()
