# SPDX-License-Identifier: Apache-2.0
"""A script for the framework containers of SageMaker ("script mode"): ``sourcedir.tar.gz`` and its hyperparameters.

The container's toolkit downloads the archive that ``sagemaker_submit_directory`` names, unpacks it into the working
directory, installs its ``requirements.txt`` by pip, and runs the file that ``sagemaker_program`` names. It reads each
value as JSON, as SageMaker's Python SDK writes it (sagemaker-training-toolkit, README.md). A list of requirements that
is whole (``# jobapi: exact``) has another name in the archive, and :mod:`.start` installs it: the toolkit calls pip
without ``--no-deps``.
"""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.services.files.sources import Source, measure
from airflow_provider_jobapi.services.sagemaker_ack import start
from airflow_provider_jobapi.training import pip_directions
from airflow_provider_jobapi.training.job import REQUIREMENTS_NAME, TrainingJob
from airflow_provider_jobapi.training.requirement_text import Directions, named_index, wheels_of

ARCHIVE = "sourcedir.tar.gz"
PROGRAM = "jobapi_start.py"
CONSTRAINTS = "jobapi_constraints.txt"
_DIRECTIONS = Path(pip_directions.__file__)
"""A module of the starter's, for requirements with directions."""
CHANNEL = "training"
"""The channel of the data files of a script; the toolkit names its folder in ``SM_CHANNEL_TRAINING``."""


def in_archive(job: TrainingJob) -> frozenset[str]:
    """Return the paths of the job's files that belong to its code; the others are data."""
    own = set(job.source) | set(wheels_of(job.requirements))
    own |= {job.script_name} if job.script is not None else set()
    return frozenset(own | ({REQUIREMENTS_NAME} if job.requirements.strip() else set()))


def check_requirements(job: TrainingJob) -> None:
    """Refuse a package index that is given by a name, which only a jobAPI server knows.

    :raises InvalidJob: saying what to do.
    """
    if named := named_index(job.requirements):
        raise InvalidJob(
            f"requirements has {named!r}, and SageMaker has no names of package indexes: give the index's address.",
            field="requirements",
        )


def archive_files(job: TrainingJob, sources: Mapping[str, Source]) -> dict[str, Source]:
    """Return the files of the archive, by their path in it.

    :param sources: All files of the job, by their path in the working directory.
    :raises InvalidJob: when a file of the job has the name of one of this provider's.
    """
    code = in_archive(job)
    found = {path: source for path, source in sources.items() if path in code}
    if taken := {PROGRAM, start.JOB, CONSTRAINTS, start.REQUIREMENTS, _DIRECTIONS.name} & sources.keys():
        raise InvalidJob(
            f"{min(taken)} is the name of a file of this provider: give yours another one.", field="source"
        )
    directions = Directions.of(job.requirements)
    if REQUIREMENTS_NAME in found and directions.exact:
        found[start.REQUIREMENTS] = found.pop(REQUIREMENTS_NAME)
    elif bounds := directions.constraints:
        found[CONSTRAINTS] = measure(CONSTRAINTS, "".join(f"{each}\n" for each in bounds))
        found[REQUIREMENTS_NAME] = measure(REQUIREMENTS_NAME, f"-c {CONSTRAINTS}\n{job.requirements.rstrip()}\n")
    arguments = [*(f"--{each.name.lower()}={each.value}" for each in job.env), *job.arguments]
    data = sorted(sources.keys() - code)
    settings = {"program": list(job.program), "arguments": arguments, "data": data, "channel": CHANNEL}
    if followed := _followed(directions):
        settings |= followed
        found[_DIRECTIONS.name] = measure(_DIRECTIONS.name, _DIRECTIONS.read_text(encoding="utf-8"))
    found[start.JOB] = measure(start.JOB, json.dumps(settings, sort_keys=True))
    found[PROGRAM] = measure(PROGRAM, Path(start.__file__).read_text(encoding="utf-8"))
    return found


def _followed(directions: Directions) -> dict[str, Any]:
    """Return what :mod:`.start` has to do with the requirements, which the toolkit cannot."""
    whole = {"exact": True, "constraints": list(directions.constraints)} if directions.exact else {}
    return whole | ({"requires_python": ",".join(directions.python)} if directions.python else {})


def pack(files: Mapping[str, Source], target: Path) -> None:
    """Write the archive. The same files make the same bytes, so that it is uploaded once."""
    with (
        target.open("wb") as file,
        gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for path in sorted(files):
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = files[path].size, 0o644
            with files[path].open(lambda _: None) as content:
                # Read in chunks by tarfile, and verified against the hash that was measured.
                archive.addfile(entry, cast("BinaryIO", io.BufferedReader(_Raw(content))))


def hyperparameters(job_name: str, url: str, region: str) -> dict[str, str]:
    """Return the hyperparameters that the toolkit reads.

    :param job_name: The ``trainingJobName``.
    :param url: Where the archive is, such as ``s3://bucket/key/sourcedir.tar.gz``.
    """
    values: dict[str, Any] = {
        "sagemaker_program": PROGRAM,
        "sagemaker_submit_directory": url,
        "sagemaker_region": region,
        "sagemaker_job_name": job_name,
        "sagemaker_container_log_level": 20,
    }
    return {name: json.dumps(value) for name, value in values.items()}


class _Raw(io.RawIOBase):
    """A measured file as tarfile reads it."""

    def __init__(self, content: Any) -> None:
        self._content = content

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        chunk = self._content.read(len(buffer))
        buffer[: len(chunk)] = chunk
        return len(chunk)
