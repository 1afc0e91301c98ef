# SPDX-License-Identifier: Apache-2.0
"""The engines that the tests start: they run, and leave nothing behind, also after a crash."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.containers import left_behind
from tests.harness.containers.engine import BASE, Dockerd, Engine, Podman
from tests.harness.containers.programs import missing
from tests.harness.containers.registry import PASSWORD, USER, Registry
from tests.harness.waiting import wait_for


def test_an_image_with_our_own_python_runs(engine: Engine) -> None:
    client = engine.client
    image = engine.make_image("localhost/hello:1", {"/hello.py": b"import json; print(json.dumps([1]))"}, "USER 1000")
    assert image
    container = client.create_container(
        "localhost/hello:1", ["python", "/hello.py"], host_config=client.create_host_config(network_mode="none")
    )
    client.start(container)
    assert client.wait(container)["StatusCode"] == 0
    assert client.logs(container, stdout=True, stderr=False) == b"[1]\n"
    client.remove_container(container)


def test_the_registry_takes_an_image_of_its_user_only(engine: Engine, registry: Registry) -> None:
    client, name = engine.client, f"{registry.address}/{engine.name}/base"
    client.tag(BASE, name, "1")
    assert "error" in client.push(name, "1")
    client.push(name, "1", auth_config={"username": USER, "password": PASSWORD})
    assert registry.tags(f"{engine.name}/base") == ["1"]
    client.remove_image(f"{name}:1")


@pytest.mark.parametrize("kind", [Podman, Dockerd])
def test_an_engine_that_crashed_leaves_nothing_behind(kind: type[Engine], image_tree: Path) -> None:
    if why := missing(*kind.programs):
        pytest.skip(why)
    before = _links()
    with kind() as engine:
        engine.load(image_tree, BASE)
        client = engine.client
        container = client.create_container(
            BASE, ["sleep", "600"], host_config=client.create_host_config(network_mode="none")
        )
        client.start(container)
        assert left_behind.mounts(engine.home)
        pid = client.inspect_container(container)["State"]["Pid"]
        engine.stop(signal.SIGKILL)
        assert Path(f"/proc/{pid}").exists()
    assert not Path(f"/proc/{pid}").exists()
    assert not left_behind.processes(engine.home)
    assert not left_behind.mounts(engine.home)
    assert not left_behind.cgroups(engine.cgroup)
    assert not engine.home.exists()
    assert _links() == before


def _links() -> list[str]:
    listed = subprocess.run(["ip", "-brief", "link"], capture_output=True, text=True, check=True).stdout
    return sorted(line.split()[0] for line in listed.splitlines())


TESTS = """
import os, signal, sys, time
from pathlib import Path
from tests.harness.containers.engine import BASE, Podman
engine = Podman().__enter__()
engine.load(Path(sys.argv[1]), BASE)
client = engine.client
container = client.create_container(BASE, ["sleep", "600"], host_config=client.create_host_config(network_mode="none"))
client.start(container)
print(engine.home, client.inspect_container(container)["State"]["Pid"], flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_tests_that_are_killed_leave_nothing_behind(image_tree: Path) -> None:
    if why := missing(*Podman.programs):
        pytest.skip(why)
    killed = subprocess.run(
        [sys.executable, "-c", TESTS, image_tree],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[3],
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    home, pid = killed.stdout.split()
    wait_for("the engine's folder is gone", lambda: not Path(home).exists(), 30)
    assert not Path(f"/proc/{pid}").exists()
    assert not left_behind.mounts(Path(home))
