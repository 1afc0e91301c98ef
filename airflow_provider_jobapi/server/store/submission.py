# SPDX-License-Identifier: Apache-2.0
"""What is looked at before a job is accepted: whether this server can run it, and whether its inputs are there."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.server.config import Settings
from airflow_provider_jobapi.server.errors import ChangedInput, MissingInput, ResourcesExceeded
from airflow_provider_jobapi.server.store.blobs import Blobs
from airflow_provider_jobapi.server.store.objects import StoredObject
from airflow_provider_jobapi.server.store.requirements import check_requirements
from airflow_provider_jobapi.training.job import REQUIREMENTS_NAME
from airflow_provider_jobapi.training.job_file import InputFile, JobFile

_PYTHON_2 = {
    "python": "python3",
    "python2": "python3",
    "python2.7": "python3",
    "pip": "pip3",
    "pip2": "pip3",
    "pip2.7": "pip3",
}
_REQUIREMENTS_LIMIT = 10**6
_OPERATORS = ";&|()\n"


def check_runnable(job_file: JobFile, settings: Settings) -> None:
    """Refuse what this server could never run.

    :raises ResourcesExceeded: when the job asks for more than the server has.
    :raises InvalidJob: when the command calls Python 2.
    """
    wanted = job_file.job.execution.resources
    for field, asked, has, unit in (
        ("cpus", wanted.cpus, settings.cpus, "CPUs"),
        ("gpus", wanted.gpus, settings.gpus, "GPUs"),
        ("memory", wanted.memory, settings.memory, "MB of memory"),
    ):
        if asked > has:
            raise ResourcesExceeded(
                f"The job asks for {asked} {unit} and this server has {has} in all: ask for at most {has}.",
                field=f"job.execution.resources.{field}",
            )
    if word := python_2_word(job_file.job.execution.command):
        raise InvalidJob(
            f"The command calls {word!r}, which means Python 2, and this server runs Python 3 only: "
            f"call {_PYTHON_2[word]!r} (python_major_version=3).",
            field="job.execution.command",
        )


def python_2_word(command: str) -> str | None:
    """The word of a shell command that calls Python 2 (``python`` and ``pip`` mean 2 in SAP's clients), if any."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars=_OPERATORS)
    lexer.whitespace, lexer.commenters, lexer.whitespace_split = " \t\r", "", True
    first = True
    try:
        for word in lexer:
            if set(word) <= set(_OPERATORS):
                first = True
            elif first and "=" not in word:
                if word in _PYTHON_2:
                    return word
                first = False
    except ValueError:  # an open quote: the shell itself will say so
        return None
    return None


def check_requirements_in(chosen: Sequence[tuple[str, StoredObject]], blobs: Blobs, settings: Settings) -> None:
    """Refuse a ``requirements.txt`` that could never be installed, as far as that can be seen before.

    :raises InvalidJob: naming the line.
    """
    stored = dict(chosen).get(REQUIREMENTS_NAME)
    if stored is None:
        return
    if stored.size > _REQUIREMENTS_LIMIT:
        raise InvalidJob("requirements.txt is larger than 1 MB; name fewer packages.", field="requirements")
    try:
        text = blobs.path(stored.blob).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise InvalidJob("requirements.txt is not UTF-8; save it as UTF-8.", field="requirements") from None
    check_requirements(text, settings.allow_requirement_urls)


def choose_inputs(job_file: JobFile, place: str, there: Mapping[str, StoredObject]) -> list[tuple[str, StoredObject]]:
    """The files that the job may read: those it names, or all below its directory where it names none.

    :param place: The job's directory in the storage.
    :param there: The objects below it, by their path in it.
    :raises MissingInput: when a file is not in the storage.
    :raises ChangedInput: when it is not the file that the job names.
    :raises InvalidJob: when one input would be the directory of another.
    """
    named = job_file.job.inputs
    if named is None:
        chosen = sorted(there.items())
    else:
        chosen = [(file.path, _checked(index, file, place, there.get(file.path))) for index, file in enumerate(named)]
    _refuse_nested([path for path, _ in chosen])
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
            f"The input {file.path!r} in the storage has {found.size} bytes and SHA-256 {found.sha256}, the job names "
            f"{file.size} bytes and {file.sha256}: upload it to {place}/{file.path} again, then submit again.",
            field=field,
        )
    return found


def _refuse_nested(paths: list[str]) -> None:
    files = set(paths)
    for path in paths:
        for parent in PurePosixPath(path).parents:
            if str(parent) in files:
                raise InvalidJob(
                    f"The inputs {str(parent)!r} and {path!r} cannot both be files: the first would be the directory "
                    "of the second; rename one.",
                    field="job.inputs",
                )
