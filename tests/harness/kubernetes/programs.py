# SPDX-License-Identifier: Apache-2.0
"""Where the programs of Kubernetes are, and why there are none."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from pathlib import Path

VERSION = "1.20.2"
BUILD = "tests/harness/kubernetes/build.sh"
BUILDING_PATIENCE = 1200.0
"""Seconds to wait for a build that is under way: 300 on two idle cores, more beside the tests."""

_CACHE = Path.home() / ".cache" / "airflow-provider-jobapi" / f"kubernetes-{VERSION}"


def folder() -> Path:
    """The folder of the programs."""
    return Path(os.environ.get("JOBAPI_TEST_KUBERNETES") or _CACHE)


def program(name: str) -> Path | None:
    """One of the programs; those that a distribution has may also be on PATH."""
    place = folder() / name
    if os.access(place, os.X_OK):
        return place
    found = shutil.which(name)
    return Path(found) if found else None


def missing(*names: str) -> str:
    """Why these programs cannot be started here, empty when they can; waits for a build that is under way."""
    if all(map(program, names)):
        return ""
    _wait_for_build(folder() / ".lock")
    absent = [name for name in names if program(name) is None]
    if not absent:
        return ""
    return f"{' and '.join(absent)} of Kubernetes {VERSION}: not found in {folder()}; {BUILD} builds them in 5 minutes"


def _wait_for_build(lock: Path) -> None:
    if not lock.exists():
        return
    deadline = time.monotonic() + BUILDING_PATIENCE
    with lock.open() as held:
        while time.monotonic() < deadline:
            try:
                fcntl.flock(held, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                time.sleep(1.0)
