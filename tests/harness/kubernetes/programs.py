# SPDX-License-Identifier: Apache-2.0
"""Where the programs of Kubernetes are, and why there are none."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import time
from pathlib import Path

VERSION = "1.20.2"
BUILD = "tests/harness/kubernetes/build.sh"
BUILDING_PATIENCE = 1200.0
"""Seconds to wait for a build that is under way: 300 on two idle cores, more beside the tests."""

_BUILT_BY = 8
"""Characters of the SHA-256 of build.sh in the name of the cache's folder: what a changed one builds is another."""


def folder() -> Path:
    """The folder of the programs: the one that is named, else the cache, as build.sh has it."""
    named = os.environ.get("JOBAPI_TEST_KUBERNETES")
    if named:
        return Path(named)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    digest = hashlib.sha256((Path(__file__).parent / "build.sh").read_bytes()).hexdigest()[:_BUILT_BY]
    return cache / "airflow-provider-jobapi" / f"kubernetes-{VERSION}-{digest}"


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
