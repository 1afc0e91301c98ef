# SPDX-License-Identifier: Apache-2.0
"""Record the packages of a job's environment beside the job, as requirements that make the same environment again.

``build_environment.py`` leaves the list in the environment, which is shared and may be removed; the record stays as
long as the job. The user of the job has made the environment, so nothing in it is trusted: no link is followed, and
what is read is bounded.
"""

from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path
from urllib.parse import unquote

from airflow_provider_jobapi.server.run.build_environment import INSTALLED
from airflow_provider_jobapi.server.store.job_record import ENVIRONMENT_NAME
from airflow_provider_jobapi.training.masking import without_credentials
from airflow_provider_jobapi.training.requirement_text import EXACT, PYTHON, options_of

_WHEEL = re.compile(r"[\w.-]+ @ file://\S*/jobs/[0-9a-f-]{36}/work/([^\s#]+\.whl)(?:#\S*)?", re.IGNORECASE)

_MOST_BYTES = 10**6
"""Of a list of packages."""


def heading(job_id: str, version: str, requirements: str) -> str:
    """The first lines of a record, which say how the same environment is made.

    :param version: The version of the job's Python.
    :param requirements: The requirements of the job, which may name package indexes.
    """
    minor = ".".join(version.split(".")[:2])
    indexes = [line for line, option in options_of(requirements) if option.index_use]
    return "\n".join([
        f"# The packages of job {job_id}, Python {version}. Given as requirements, they make this environment again.",
        f"# jobapi: {PYTHON} =={minor}.*",
        f"# jobapi: {EXACT}",
        *indexes,
        "",
    ])  # fmt: skip


def record(directory: Path) -> None:
    """Write the record of a job whose environment is made, unless there is one.

    :param directory: The job's directory, with its ``spec.json``.
    :raises OSError: when there is no list of packages, or it cannot be written.
    :raises ValueError: when there is none that can be read.
    """
    place = directory / ENVIRONMENT_NAME
    if place.exists():
        return
    about = json.loads((directory / "spec.json").read_bytes()).get("environment")
    if about is None:  # of an earlier server
        return
    lines = (_shown(line) for line in _read(about["target"]).splitlines() if not line.startswith("#"))
    incoming = place.with_suffix(".new")
    incoming.write_text(about["heading"] + "".join(f"{line}\n" for line in lines), encoding="utf-8")
    incoming.replace(place)


def _shown(line: str) -> str:
    """A line of the list; a wheel that was a file of the job is named as its requirements name it."""
    if matched := _WHEEL.fullmatch(line):
        return f"./{unquote(matched[1])}"
    return without_credentials(line)


def _read(target: str) -> str:
    folder = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        handle = os.open(INSTALLED, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    finally:
        os.close(folder)
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode) or status.st_size > _MOST_BYTES:
            raise ValueError(f"the list of packages in {target} is no file of at most {_MOST_BYTES:,} bytes")
        return file.read(_MOST_BYTES).decode("utf-8", "replace")
