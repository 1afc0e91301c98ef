# SPDX-License-Identifier: Apache-2.0
"""The programs of container engines and of a registry that these tests start."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

PACKAGES = {
    "podman": "podman",
    "runc": "runc",
    "dockerd": "docker.io",
    "containerd": "containerd",
    "docker-registry": "docker-registry",
    "busybox": "busybox-static",
}
"""The program, and the package of Debian that has it."""

_MORE = ("/usr/sbin", "/sbin", "/usr/local/sbin")
"""Where daemons are, which a user's PATH may leave out."""


def program(name: str) -> Path | None:
    """The path of a program; None where there is none."""
    found = shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", ""), *_MORE)))
    return None if found is None else Path(found)


def missing(*names: str) -> str:
    """Why these programs cannot be started here; empty when they can."""
    if os.geteuid() != 0:
        return "container engines are started as root only"
    absent = [name for name in names if program(name) is None]
    if not absent:
        return ""
    packages = " ".join(dict.fromkeys(PACKAGES[name] for name in absent))
    return f"there is no {' and no '.join(absent)} here (Debian: apt-get install --no-install-recommends {packages})"
