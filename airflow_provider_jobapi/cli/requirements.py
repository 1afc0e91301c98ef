# SPDX-License-Identifier: Apache-2.0
"""The requirements of a job that ``jobapi submit`` sends: of ``--requirements``, of the folder, or of the script."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.training.job import REQUIREMENTS_NAME
from airflow_provider_jobapi.training.job_file import JobFile
from airflow_provider_jobapi.training.job_limits import python_2_word
from airflow_provider_jobapi.training.requirement_files import requirements_text, script_text


def requirements_of(given: str | None, command: str, files: Mapping[str, Path]) -> tuple[str, str] | None:
    """Return the text of the job's requirements.txt and where it comes from; None to leave the files as they are.

    :param given: What the user named, as ``requirements`` of the operator names it, relative to the working directory.
    :param command: The command of the job.
    :param files: The files of the job, by their path.
    :raises InvalidJob: when it cannot be read.
    """
    if given is not None:
        return _ended(requirements_text(given, Path(), "in this folder")), given
    own = files.get(REQUIREMENTS_NAME)
    if own is not None:
        text = str(requirements_text(own.absolute(), Path()))
        unchanged = text.encode() == own.read_bytes().removeprefix(b"\xef\xbb\xbf")
        return None if unchanged else (_ended(text), f"{own} and the files that it names")
    script = next(
        (files[word] for word in re.split(r"[\s'\"]+", command) if word.endswith(".py") and word in files), None
    )
    if script is None:
        return None
    try:
        text = script_text(script.read_text(encoding="utf-8"), str(script))
    except (OSError, UnicodeDecodeError):  # which fails where it is uploaded, or where it is run
        return None
    return (_ended(text), f"{script} (PEP 723)") if text else None


def installing(job_file: JobFile) -> JobFile:
    """Let the command of a job install its requirements, unless it does, as that of the operator does."""
    execution = job_file.job.execution
    if REQUIREMENTS_NAME in execution.command:
        return job_file
    pip = "pip" if python_2_word(execution.command) else "pip3"
    command = f"{pip} install -r {REQUIREMENTS_NAME} && {execution.command}"
    job = job_file.job.model_copy(update={"execution": execution.model_copy(update={"command": command})})
    return job_file.model_copy(update={"job": job})


def check_given(job_file: JobFile, given: str | None) -> None:
    """Refuse requirements beside a job file that names its files exactly.

    :raises InvalidJob: when it does.
    """
    if given is not None and job_file.job.inputs is not None:
        raise InvalidJob(
            "job.inputs names the files of the job exactly: leave out --requirements, or inputs.", field="job.inputs"
        )


def _ended(text: str) -> str:
    return text.rstrip() + "\n"
