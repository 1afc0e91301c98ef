# SPDX-License-Identifier: Apache-2.0
"""A train that tries to see, to change and to use what it must not, in real containers of both engines."""

from __future__ import annotations

import io
import json
import socket
import tarfile
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_jobapi.services.train_container.isolation import NOBODY, read_isolation
from tests.harness.containers.engine import Engine

ATTEMPTS = b"""
import ctypes, json, os, socket, sys
report = {}
def attempt(name):
    def run(function):
        try:
            report[name] = function() or True
        except BaseException as error:
            report[name] = repr(error)
    return run
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\\t" in line)
report["capabilities"] = [int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")]
report["no_new_privileges"] = status["NoNewPrivs"].strip()
report["user"] = [os.getuid(), os.getgid()]
report["links"] = sorted(os.listdir("/sys/class/net")) if os.path.exists("/sys/class/net") else None
report["processes"] = sorted(int(each) for each in os.listdir("/proc") if each.isdigit())
report["environment"] = sorted(os.environ)
report["hosts"] = [name for line in open("/etc/hosts") for name in line.partition("#")[0].split()[1:]]
report["data"] = open("/data/rows.csv").read()
blocks = [each.path for each in os.scandir("/dev") if os.path.exists(each.path)]
report["devices"] = [each for each in blocks if os.stat(each).st_mode & 0o170000 == 0o060000]
@attempt("write_root")
def _(): open("/etc/written", "w").write("x")
@attempt("write_etc")
def _(): open("/etc/passwd", "a").close()
@attempt("write_data")
def _(): open("/data/rows.csv", "a").close()
@attempt("add_data")
def _(): open("/data/more.csv", "w").close()
@attempt("write_tmp")
def _(): open("/tmp/x", "w").write("x")
@attempt("fill_tmp")
def _(): open("/tmp/large", "wb").write(b"x" * 80 * 1024**2)
@attempt("write_model")
def _(): open("/opt/pht_train/model/weights", "w").write("w")
@attempt("network")
def _(): socket.create_connection(("1.1.1.1", 53), timeout=3)
@attempt("raw_socket")
def _(): socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
@attempt("become_root")
def _(): os.setuid(0)
@attempt("mount")
def _():
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"none", b"/tmp", b"tmpfs", 0, None):
        raise OSError(ctypes.get_errno())
@attempt("engine")
def _(): [open(each) for each in ("/var/run/docker.sock", "/run/podman/podman.sock")]
@attempt("kernel")
def _(): open("/proc/sysrq-trigger", "w").write("h")
@attempt("forks")
def _():
    children = []
    try:
        while True:
            child = os.fork()
            if not child:
                import time; time.sleep(60); os._exit(0)
            children.append(child)
            if len(children) > 100:
                return "no limit"
    finally:
        for child in children:
            os.kill(child, 9); os.waitpid(child, 0)
print(json.dumps(report))
"""


@pytest.fixture(scope="module")
def image(engine: Engine) -> str:
    name = "localhost/attempts:1"
    engine.make_image(name, {"/attempts.py": ATTEMPTS, "/opt/pht_train/model/before": b"1"}, "LABEL a=b")
    return name


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "rows.csv").write_text("a,b\n1,2\n")
    tmp_path.chmod(0o755)
    return tmp_path


def run(
    engine: Engine, image: str, folder: Path, given: dict[str, Any], then: Any = None
) -> tuple[dict[str, Any], Any]:
    """What the train reports, and what ``then`` finds in the container that has ended."""
    mount = {"Type": "bind", "Source": str(folder), "Target": "/data", "ReadOnly": True}
    config = read_isolation({"pids": 30, "memory": "512m"}, given).configuration(keeps_files=True, mounts=[mount])
    client = engine.client
    made = client.create_container_from_config({"Image": image, "Cmd": ["python", "/attempts.py"], **config})["Id"]
    try:
        client.start(made)
        code = client.wait(made)["StatusCode"]
        said = client.logs(made, stdout=True, stderr=False)
        assert code == 0, client.logs(made)
        return json.loads(said), None if then is None else then(client, made)
    finally:
        client.remove_container(made, v=True, force=True)


def names_of_machine() -> set[str]:
    lines = Path("/etc/hosts").read_text().splitlines()
    return {socket.gethostname(), *(name for line in lines for name in line.partition("#")[0].split()[1:])}


def test_nothing_of_the_machine_can_be_seen_or_changed(engine: Engine, image: str, folder: Path) -> None:
    report, _ = run(engine, image, folder, {})
    assert report["user"] == [int(each) for each in NOBODY.split(":")]
    assert report["capabilities"] == [0] * 5
    assert report["no_new_privileges"] == "1"
    assert report["links"] in (["lo"], None)
    assert report["processes"] == [1]
    assert set(report["environment"]) <= {"PATH", "HOSTNAME", "HOME", "container", "TERM"}
    assert report["data"] == "a,b\n1,2\n"
    assert not {*report["hosts"]} & (names_of_machine() - {"localhost"})
    assert report["devices"] == []
    assert report["write_tmp"] == 1
    forbidden = {
        "write_root", "write_etc", "write_data", "add_data", "fill_tmp", "network", "raw_socket", "become_root",
        "mount", "engine", "kernel", "forks",
    }  # fmt: skip
    assert {name: report[name] for name in forbidden if report[name] is True or report[name] == "no limit"} == {}
    assert (folder / "rows.csv").read_text() == "a,b\n1,2\n"
    assert [each.name for each in folder.iterdir()] == ["rows.csv"]


def test_what_is_written_for_the_successor_outlives_the_end(engine: Engine, image: str, folder: Path) -> None:
    def model(client: Any, container: str) -> list[bytes]:
        found = []
        for name in ("before", "weights"):
            stream, _ = client.get_archive(container, f"/opt/pht_train/model/{name}")
            with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as tar:
                content = tar.extractfile(name)
                assert content is not None
                found.append(content.read())
        return found

    before = engine.client.volumes()["Volumes"] or []
    report, contents = run(engine, image, folder, {"user": "0"}, model)
    assert report["write_model"] == 1
    assert contents == [b"1", b"w"]
    assert len(engine.client.volumes()["Volumes"] or []) == len(before)


def test_what_is_loosened_is_loosened(engine: Engine, image: str, folder: Path) -> None:
    loose = {
        "network": "host", "read_only_root": False, "capabilities": ["NET_RAW"], "user": "0", "pids": 200,
        "tmpfs": {"/tmp": "100m"}, "memory": "512m", "new_privileges": True,
    }  # fmt: skip
    report, _ = run(engine, image, folder, loose)  # not "bridge": the engine would leave a bridge on this machine
    assert len(report["links"]) > 1
    assert report["user"] == [0, 0]
    assert report["capabilities"][2] == 1 << 13
    assert report["no_new_privileges"] == "0"
    assert report["forks"] == "no limit"
    allowed = {"write_root", "write_etc", "fill_tmp", "raw_socket", "become_root"}
    assert {name: report[name] for name in allowed if isinstance(report[name], str)} == {}
    for name in ("write_data", "add_data", "mount", "engine"):
        assert isinstance(report[name], str), name


def test_memory_has_a_limit(engine: Engine, image: str, folder: Path) -> None:
    config = read_isolation({"memory": "32m", "tmpfs": {}}).configuration(keeps_files=False)
    client = engine.client
    command = ["python", "-c", "x = bytearray(200 * 1024**2); print(len(x))"]
    made = client.create_container_from_config({"Image": image, "Cmd": command, **config})["Id"]
    try:
        client.start(made)
        assert client.wait(made)["StatusCode"] == 137
        assert client.logs(made, stdout=True, stderr=False) == b""
    finally:
        client.remove_container(made, v=True, force=True)
