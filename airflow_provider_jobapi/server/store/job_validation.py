# SPDX-License-Identifier: Apache-2.0
"""Validate a job before it is accepted: its resources, its command, its inputs and its ``requirements.txt``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.server.errors import ChangedInput, MissingInput, ResourcesExceeded
from airflow_provider_jobapi.server.store.blobs import Blobs
from airflow_provider_jobapi.server.store.objects import StoredObject
from airflow_provider_jobapi.server.store.requirement_lines import Installs, check_requirements
from airflow_provider_jobapi.training.job import REQUIREMENTS_NAME
from airflow_provider_jobapi.training.job_file import InputFile, JobFile, Resources, check_input_count
from airflow_provider_jobapi.training.job_limits import JobLimits, check_python

_REQUIREMENTS_LIMIT = 10**6
"""The most bytes of a ``requirements.txt``; a lock of 300 packages and the hashes of their files has half of it."""

_FIELD = "requirements"


def check_runnable(job_file: JobFile, capacity: Resources | None, *, has_python_2: bool = False) -> None:
    """Refuse a job that this server could never run.

    :param capacity: The most that one job may ask for; None where the engine's own queue decides.
    :param has_python_2: Whether one of the server's Pythons is Python 2.7.
    :raises ResourcesExceeded: when the job asks for more than the capacity.
    :raises InvalidJob: when the command calls Python 2, and the server has none.
    """
    if capacity is not None:
        limits = JobLimits(capacity.cpus, capacity.gpus, capacity.memory)
        if excess := limits.excess(job_file.job.execution.resources):
            raise ResourcesExceeded(excess.message, field=excess.field)
    if not has_python_2:
        check_python(job_file)


def check_requirements_in(chosen: Sequence[tuple[str, StoredObject]], blobs: Blobs, installs: Installs) -> None:
    """Refuse a job whose ``requirements.txt`` the server does not install.

    :param chosen: The inputs of the job by their paths.
    :param installs: What the server installs.
    :raises InvalidJob: with the number of the first such line.
    """
    stored = dict(chosen).get(REQUIREMENTS_NAME)
    if stored is None:
        return
    if stored.size > _REQUIREMENTS_LIMIT:
        raise InvalidJob("requirements.txt is larger than 1 MB; name fewer packages.", field=_FIELD)
    try:
        text = blobs.path(stored.blob).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise InvalidJob("requirements.txt is not UTF-8; save it as UTF-8.", field=_FIELD) from None
    check_requirements(text, installs=installs, files={path for path, _ in chosen})


def choose_inputs(job_file: JobFile, place: str, there: Mapping[str, StoredObject]) -> list[tuple[str, StoredObject]]:
    """Return the inputs of a job: the files that it names, or all below its directory where it names none.

    :param place: The job's directory in the storage.
    :param there: The objects below it, by their paths in it.
    :raises MissingInput: when a file is not in the storage.
    :raises ChangedInput: when it is not the file that the job names.
    :raises InvalidJob: when there are too many, or one would be the directory of another.
    """
    named = job_file.job.inputs
    if named is None:
        chosen = sorted(there.items())
    else:
        chosen = [(file.path, _checked(index, file, place, there.get(file.path))) for index, file in enumerate(named)]
    check_inputs([path for path, _ in chosen])
    return chosen


def _checked(index: int, file: InputFile, place: str, found: StoredObject | None) -> StoredObject:
    field = f"job.inputs[{index}]"
    if found is None:
        raise MissingInput(
            f"The input {file.path!r} is not in the storage: upload it to {place}/{file.path}, then submit again.",
            field=field,
        )
    if (found.size, found.sha256) != (file.size, file.sha256):
        raise ChangedInput(
            f"The input {file.path!r} in the storage has {found.size} bytes and SHA-256 {found.sha256}, but the job "
            f"names {file.size} bytes and {file.sha256}: upload it to {place}/{file.path} again, then submit again.",
            field=field,
        )
    return found


def check_inputs(paths: list[str]) -> None:
    """Refuse more inputs than the contract allows, and one that would be the directory of another.

    :raises InvalidJob: when it is so.
    """
    check_input_count(len(paths))
    files = set(paths)
    for path in paths:
        for parent in PurePosixPath(path).parents:
            if str(parent) in files:
                raise InvalidJob(
                    f"The inputs {str(parent)!r} and {path!r} cannot both be files: the first would be the directory "
                    "of the second; rename one.",
                    field="job.inputs",
                )
