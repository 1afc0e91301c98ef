# SPDX-License-Identifier: Apache-2.0
"""Remove what an engine leaves on the machine: processes, mounts and cgroups, each found by the engine's own folder.

As a program it does so when its stdin ends, as with tests that are killed by SIGKILL and can remove nothing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import psutil

from tests.harness.waiting import NotInTime, wait_for

FOLDERS = tuple(Path("/run", name) for name in ("containerd", "docker", "netns", "runc"))
"""What containerd and runc make in any case, and leave empty."""


class Watch:
    """Removes what an engine has left when this process ends, however it does."""

    def __init__(self, home: Path, *cgroup_names: str) -> None:
        self._watching = subprocess.Popen(
            [sys.executable, "-m", "tests.harness.containers.left_behind"],
            stdin=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[3],
            start_new_session=True,  # what is sent to the group of the tests is not for it
        )
        assert self._watching.stdin is not None
        # Not as arguments, by which it would be one of the engine's processes.
        self._watching.stdin.write("\n".join([str(home), *cgroup_names]) + "\n\n")
        self._watching.stdin.flush()

    def end(self) -> None:
        """Remove it now."""
        assert self._watching.stdin is not None
        self._watching.stdin.close()
        self._watching.wait(120)


def processes(home: Path) -> list[psutil.Process]:
    """Every process of an engine, the containers' included: those that name its folder, and their descendants."""
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.pid != os.getpid() and any(str(home) in word for word in process.cmdline()):
                found[process.pid] = process
                found |= {child.pid: child for child in process.children(recursive=True)}
    return list(found.values())


def mounts(home: Path) -> list[str]:
    """What is mounted below a folder, the deepest first."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    found = [line.split()[4].replace("\\040", " ") for line in lines]
    return sorted((place for place in found if place.startswith(f"{home}/")), key=len, reverse=True)


def cgroups(name: str) -> list[Path]:
    """The cgroups of this name with those inside, the deepest first; in every hierarchy."""
    root = Path("/sys/fs/cgroup")
    tops = [*root.glob(f"*/{name}"), *root.glob(name)]
    found = [Path(place) for top in tops for place, _, _ in os.walk(top)]  # unlike rglob, also while others remove some
    return sorted({place for place in found if place.is_dir()}, key=lambda place: len(place.parts), reverse=True)


def remove(home: Path, *cgroup_names: str, folders: Iterable[Path] = ()) -> None:
    """Remove all of it.

    :param folders: Those with a place of their own, which are removed where they are empty.
    """
    gone = processes(home)
    for process in gone:
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(gone, timeout=30)
    for place in mounts(home):
        subprocess.run(["umount", "--lazy", place], check=False, capture_output=True)
    with suppress(NotInTime):
        wait_for("the cgroups are gone", lambda: not any(map(_removed, cgroup_names)), 3, 0.1)
    for folder in folders:
        for place, _, _ in os.walk(folder, topdown=False):
            with suppress(OSError):
                Path(place).rmdir()


def _removed(cgroup: str) -> list[Path]:
    """Remove the cgroups that no process is in; returns those that are left."""
    for place in cgroups(cgroup):
        with suppress(OSError):
            place.rmdir()
    return cgroups(cgroup)


def _watch() -> None:
    """Be the program of a :class:`Watch`."""
    home, *cgroup_names = iter(lambda: sys.stdin.readline().rstrip("\n"), "")
    sys.stdin.read()
    try:
        remove(Path(home), *cgroup_names, folders=FOLDERS)
    finally:
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    _watch()
