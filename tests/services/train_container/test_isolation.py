# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.services.train_container.isolation import (
    NOBODY,
    SETTINGS,
    Isolation,
    read_isolation,
)

DATA = {"Type": "bind", "Source": "/srv/patients", "Target": "/data", "ReadOnly": True}


def test_the_default_is_the_strictest() -> None:
    made = read_isolation()
    assert made == Isolation()
    assert made.loosened() == {}
    got = made.configuration(keeps_files=True, mounts=[DATA])
    assert got == {
        "User": NOBODY,
        "Tty": False,
        "OpenStdin": False,
        "Volumes": {"/opt/pht_train/model": {}},
        "HostConfig": {
            "NetworkMode": "none",
            "ReadonlyRootfs": True,
            "Tmpfs": {"/tmp": "rw,noexec,nosuid,nodev,size=67108864,mode=1777"},
            "CapDrop": ["ALL"],
            "CapAdd": [],
            "SecurityOpt": ["no-new-privileges"],
            "Privileged": False,
            "PublishAllPorts": False,
            "IpcMode": "private",
            "Mounts": [DATA],
            "Memory": 2 * 1024**3,
            "MemorySwap": 2 * 1024**3,
            "NanoCpus": 1_000_000_000,
            "PidsLimit": 256,
        },
    }
    assert made.configuration(keeps_files=False)["Volumes"] == {}


LOOSER: dict[str, tuple[Any, str, Any]] = {
    "network": ("bridge", "NetworkMode", "bridge"),
    "read_only_root": (False, "ReadonlyRootfs", False),
    "tmpfs": ({"/tmp": "128m"}, "Tmpfs", {"/tmp": "rw,noexec,nosuid,nodev,size=134217728,mode=1777"}),
    "writable": (["/opt/model/"], "Volumes", {"/opt/model": {}}),
    "new_privileges": (True, "SecurityOpt", []),
    "user": (0, "User", "0"),
    "memory": ("4g", "Memory", 4 * 1024**3),
    "cpus": (2.5, "NanoCpus", 2_500_000_000),
    "pids": (1_000, "PidsLimit", 1_000),
    "capabilities": (["cap_chown", "CHOWN"], "CapAdd", ["CHOWN"]),
}


def test_every_setting_can_be_loosened() -> None:
    assert LOOSER.keys() == SETTINGS.keys() == {each.name for each in fields(Isolation)}


@pytest.mark.parametrize("name", LOOSER)
def test_each_is_loosened_by_its_name_and_nothing_else_is(name: str) -> None:
    value, key, expected = LOOSER[name]
    with_root = {"user": "0"} if name == "capabilities" else {}
    made = read_isolation({name: value}, with_root)
    got, strict = made.configuration(keeps_files=True), read_isolation(with_root).configuration(keeps_files=True)
    flat, plain = got.pop("HostConfig") | got, strict.pop("HostConfig") | strict
    assert flat[key] == expected
    also = {"memory": {"MemorySwap"}}.get(name, set())
    assert {each for each in flat if flat[each] != plain[each]} == {key} | also
    assert name in made.loosened()


def test_no_limits() -> None:
    made = read_isolation({"memory": "unlimited", "cpus": "unlimited", "pids": "unlimited"})
    assert (
        not {"Memory", "MemorySwap", "NanoCpus", "PidsLimit"}
        & made.configuration(keeps_files=True)["HostConfig"].keys()
    )
    assert made.loosened().keys() == {"memory", "cpus", "pids"}


def test_tighter_is_not_looser() -> None:
    tighter = {"memory": "64m", "cpus": 0.5, "pids": 20, "tmpfs": {}, "writable": [], "user": "1000:1000"}
    assert read_isolation(tighter).loosened() == {}


def test_the_last_layer_wins() -> None:
    made = read_isolation({"network": "bridge", "cpus": 4}, None, {"network": "none"})
    assert (made.network, made.cpus) == ("none", 4)


@pytest.mark.parametrize(
    ("image_user", "user"),
    [
        ("", NOBODY),
        ("0", NOBODY),
        ("00:5", NOBODY),
        ("root", NOBODY),
        ("train", NOBODY),
        ("1000", "1000"),
        ("1000:5", "1000:5"),
    ],
)
def test_the_user(image_user: str, user: str) -> None:
    assert read_isolation().user_for(image_user) == user
    assert read_isolation({"user": "7"}).user_for(image_user) == "7"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"privileged": True}, "isolation has 'privileged', which is not known; it may hold network, read_only_root"),
        ({"Network": "none"}, "isolation has 'Network'"),
        ({"network": "container:abc"}, "no other container's"),
        ({"network": ""}, "isolation.network cannot be ''"),
        ({"network": None}, "isolation.network cannot be None"),
        ({"read_only_root": "no"}, "isolation.read_only_root cannot be 'no': it is true or false"),
        ({"new_privileges": 1}, "isolation.new_privileges cannot be 1: it is true or false"),
        ({"tmpfs": ["/tmp"]}, 'such as {"/tmp": "64m"}'),
        ({"tmpfs": {"tmp": "1m"}}, "isolation.tmpfs cannot be 'tmp': it is a folder of the container"),
        ({"tmpfs": {"/a/../b": "1m"}}, "without '..'"),
        ({"tmpfs": {"/": "1m"}}, "it is a folder of the container"),
        ({"tmpfs": {"/proc/x": "1m"}}, "it belongs to the system"),
        ({"tmpfs": {"/a:ro": "1m"}}, "without '..' and ':'"),
        ({"tmpfs": {"/tmp": "large"}}, "isolation.tmpfs['/tmp'] cannot be 'large': it is a size such as 512m"),
        ({"tmpfs": {"/tmp": 0}}, "it is a size such as 512m"),
        ({"tmpfs": {"/tmp": "3g"}}, "larger than isolation.memory"),
        ({"writable": "/opt"}, "it is a list of folders"),
        ({"writable": ["opt"]}, "isolation.writable cannot be 'opt'"),
        ({"writable": ["/tmp/model"]}, "it overlaps /tmp/model; name only one"),
        ({"writable": ["/a", "/a/b"]}, "it overlaps /a/b"),
        ({"capabilities": "CHOWN"}, "it is a list of capabilities"),
        ({"capabilities": ["ALL"], "user": 0}, "name each capability"),
        ({"capabilities": ["X Y"], "user": 0}, "name each capability"),
        ({"capabilities": ["CHOWN"]}, "only root has them; set isolation.user to '0' as well"),
        ({"capabilities": ["CHOWN"], "user": "1000"}, "only root has them"),
        ({"user": "root"}, "isolation.user cannot be 'root': it is a user and group by number"),
        ({"user": -1}, "isolation.user cannot be -1"),
        ({"user": True}, "isolation.user cannot be True"),
        ({"memory": "1m"}, "isolation.memory cannot be '1m': it is at least 16m"),
        ({"memory": 1.5}, "isolation.memory cannot be 1.5: it is a size"),
        ({"memory": -5}, "isolation.memory cannot be -5"),
        ({"memory": None}, "isolation.memory cannot be None"),
        ({"cpus": 0}, "isolation.cpus cannot be 0: it is a number of CPUs"),
        ({"cpus": float("nan")}, "isolation.cpus cannot be nan"),
        ({"cpus": True}, "isolation.cpus cannot be True"),
        ({"pids": 0}, "isolation.pids cannot be 0"),
        ({"pids": "many"}, "isolation.pids cannot be 'many'"),
    ],
)
def test_what_is_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidJob) as caught:
        read_isolation(given)
    assert words in str(caught.value)
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize(
    ("text", "size"),
    [(512, 512 * 2**20), ("512", 512 * 2**20), ("1G", 2**30), ("2 GiB", 2**31), ("99999999b", 99_999_999)],
)
def test_sizes(text: Any, size: int) -> None:
    assert read_isolation({"memory": text}).memory == size


@pytest.mark.parametrize(
    ("mount", "words"),
    [
        ({**DATA, "ReadOnly": False}, "'/data': the station's data are mounted read-only"),
        ({"Type": "bind", "Source": "/srv", "Target": "/data"}, "mounted read-only"),
        ({**DATA, "Source": "/"}, "must not see the machine itself"),
        ({**DATA, "Source": "/var/run/docker.sock"}, "must not see the machine itself"),
        ({**DATA, "Source": "/proc/1"}, "must not see the machine itself"),
        ({**DATA, "Target": "/"}, "it is a folder of the container"),
        ({**DATA, "Target": "/tmp"}, "it overlaps /tmp (tmpfs)"),
        ({**DATA, "Target": "/opt"}, "it overlaps /opt/pht_train/model (writable)"),
        ({**DATA, "Target": "/data/more"}, "it overlaps /data (data)"),
    ],
)
def test_mounts_that_are_refused(mount: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidJob) as caught:
        Isolation().configuration(keeps_files=True, mounts=[DATA, mount] if "/data/" in mount["Target"] else [mount])
    assert words in str(caught.value)
