# SPDX-License-Identifier: Apache-2.0
"""Read the fixtures of ``data/``, and pack and unpack the recorded root of a server.

The files of a job name absolute paths: of the root, of the Python that runs the jobs, of uv, and of the script that
builds environments. They are stored as marks such as ``@ROOT@``, and unpacking writes the paths of this machine.
"""

from __future__ import annotations

import io
import json
import os
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import uv

import airflow_provider_jobapi
from tests.harness.server import Server

DATA = Path(__file__).parent / "data"
ARCHIVE = DATA / "root.tar.gz"

TEXTS = ("spec.json", "supervisor.err")
"""The files below a root in which absolute paths stand."""

LEFT_OUT = ("venvs", "uv-cache")
"""Folders that a server makes again, too large to keep."""

SERVER_OPTIONS = ("--cpus", "3", "--memory", "8192", "--grace", "2s", "--retention", "3650d")
"""The options of the server that was recorded. The tests must not depend on the time since the recording."""


def load(name: str) -> Any:
    """The content of a JSON file of ``data/``."""
    return json.loads((DATA / f"{name}.json").read_text(encoding="utf-8"))


def paths(root: Path) -> dict[str, str]:
    """What each mark stands for on this machine."""
    (builder,) = Path(airflow_provider_jobapi.__file__).parent.rglob("build_environment.py")
    return {
        "@BUILDER@": str(builder),
        "@ROOT@": str(root),
        "@UV@": str(uv.find_uv_bin()),
        "@PYTHON@": os.path.realpath(getattr(sys, "_base_executable", sys.executable)),
    }


def pack(root: Path, marks: Mapping[str, str]) -> None:
    """Write the archive of a root.

    :param marks: The mark of each absolute path.
    """
    with tarfile.open(ARCHIVE, "w:gz", compresslevel=9) as archive:
        for path in sorted(root.rglob("*")):
            if any(part in LEFT_OUT for part in path.relative_to(root).parts):
                continue
            entry = archive.gettarinfo(path, path.relative_to(root).as_posix())
            entry.uid = entry.gid = 0
            entry.uname = entry.gname = ""
            content = path.read_bytes() if entry.isfile() else b""
            if path.name in TEXTS:
                for place, mark in marks.items():
                    content = content.replace(place.encode(), mark.encode())
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


def unpack(root: Path) -> Path:
    """Unpack the recorded root to a folder, which is made; answers it."""
    with tarfile.open(ARCHIVE) as archive:
        for entry in archive.getmembers():
            entry.uid, entry.gid = os.getuid(), os.getgid()
        archive.extractall(root, filter="tar")
    for name in TEXTS:
        for path in root.rglob(name):
            content = path.read_text(encoding="utf-8")
            for mark, place in paths(root).items():
                content = content.replace(mark, place)
            path.write_text(content, encoding="utf-8")
    return root


def serve_recorded(root: Path) -> Server:
    """Start a server on an unpacked root, spoken to with the client and the secret that were recorded."""
    server = Server.start(root, *SERVER_OPTIONS)
    recorded = load("server")["connection"]
    extra = recorded["extra"] | {"token_url": f"{server.url}/oauth/token"}
    server.connection = recorded | {"host": server.url, "extra": extra}
    return server
