# SPDX-License-Identifier: Apache-2.0
"""What ``jobapi submit`` sends: the job file, the files of a folder, and an id that a repeated command finds again."""

from __future__ import annotations

import os
import re
import sys
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_jobapi.cli.requirements import check_given, installing, requirements_of
from airflow_provider_jobapi.exceptions import InvalidJob, JobNotFound
from airflow_provider_jobapi.services.files.sources import Source, measure, measure_all
from airflow_provider_jobapi.training.entry_point import refuse_notebook
from airflow_provider_jobapi.training.identity import Content, walk
from airflow_provider_jobapi.training.job import REQUIREMENTS_NAME
from airflow_provider_jobapi.training.job_file import InputFile, JobFile, check_path
from airflow_provider_jobapi.training.status import JobState
from airflow_provider_jobapi.training.units import count_text, size_text

if TYPE_CHECKING:
    from airflow_provider_jobapi.cli.jobs import Jobs
    from airflow_provider_jobapi.training.job import TrainingJob

LARGEST_JOB_FILE = 8 * 1024 * 1024
"""Bytes; the most that a jobAPI reads."""

MOST_FILES = 100_000
"""The most input files of a job."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A job file that names its inputs, and where their bytes come from, by their path in the job's directory.

    :ivar job: The job of which the job file was made; None where a user wrote it.
    """

    job_file: JobFile
    sources: Mapping[str, Source]
    job: TrainingJob | None = None


def read_job_file(path: str) -> JobFile:
    """Read a job file; ``-`` is the standard input.

    :raises InvalidJob: naming the file, and the field where one is to blame.
    """
    refuse_notebook("--file", path)
    try:
        if path == "-":
            content = sys.stdin.buffer.read(LARGEST_JOB_FILE + 1)
        else:
            with Path(path).open("rb") as file:
                content = file.read(LARGEST_JOB_FILE + 1)
    except OSError as error:
        raise InvalidJob(f"The job file {path} cannot be read: {error.strerror or error}.") from None
    if len(content) > LARGEST_JOB_FILE:
        raise InvalidJob(f"{path} has more than {size_text(LARGEST_JOB_FILE)}; it is no job file.")
    try:
        job_file = JobFile.parse(content)
        for name in re.findall(r"\bpython[0-9.]*\s+([^\s;&|]+)", job_file.job.execution.command):
            refuse_notebook("job.execution.command", name.strip("'\""))
    except InvalidJob as error:
        raise InvalidJob(f"{path}: {error}", field=error.field) from None
    return job_file


def with_checkpoints(prepared: Prepared, resume_from: str | None, *, keep: bool) -> Prepared:
    """Set what a job does with checkpoints, where the command says so; what its file says stays."""
    changed: dict[str, object] = {"resume_from": resume_from} if resume_from else {}
    if keep:
        changed["keep_checkpoints"] = True
    if not changed:
        return prepared
    spec = prepared.job_file.job.model_copy(update=changed)
    job = prepared.job and prepared.job.model_copy(update=changed)
    return replace(prepared, job_file=prepared.job_file.model_copy(update={"job": spec}), job=job)


def prepare(
    job_file: JobFile,
    folder: str | None,
    connection: str | None,
    say: Callable[[str], None],
    requirements: str | None = None,
) -> Prepared:
    """Make the files of a folder the inputs of a job; where its file names inputs, exactly these.

    :param connection: What names the connection; a file of a secret must not become one of a job.
    :param say: Called with a message about the files of the job.
    :param requirements: The requirements, or the name of a file of them; None for those of the folder or the script.
    :raises InvalidJob: for a folder or a file that cannot be used.
    """
    check_given(job_file, requirements)
    if folder is None and requirements is None:
        return Prepared(job_file, {})
    chosen = {} if folder is None else _chosen(job_file, folder, connection, say)
    sources = measure_all(chosen)
    named = job_file.job.inputs
    for file in named or ():
        if sources[file.path].as_input() != file:
            raise InvalidJob(f"{chosen[file.path]} is not the file that job.inputs names: its size or SHA-256 differs.")
    found = requirements_of(requirements, job_file.job.execution.command, chosen) if named is None else None
    if found is not None:
        text, where = found
        sources[REQUIREMENTS_NAME] = measure(REQUIREMENTS_NAME, text)
        job_file = installing(job_file)
        say(f"Its requirements are those of {where}.")
    inputs = tuple(sources[path].as_input() for path in sorted(sources))
    job = job_file.job.model_copy(update={"inputs": inputs})
    return Prepared(job_file.model_copy(update={"job": job}), sources)


def _chosen(job_file: JobFile, folder: str, connection: str | None, say: Callable[[str], None]) -> dict[str, Path]:
    """The files of the folder that the job gets, by their path in it."""
    if not folder.strip():  # what a shell makes of a variable that is not set; the working directory is named "."
        raise InvalidJob("The FOLDER is an empty text; name the folder of the job's files, or leave it out.")
    found = read_folder(Path(folder))
    for place in found.files.values() if connection else ():
        if connection and place.resolve() == Path(connection).expanduser().resolve():
            raise InvalidJob(f"{place} holds the secret of the connection and would be uploaded; move it elsewhere.")
    named = job_file.job.inputs
    chosen = found.files if named is None else {file.path: _find(file, found.files, folder) for file in named}
    size = sum(path.stat().st_size for path in chosen.values())
    files = count_text(len(chosen), "file")
    left_out = f"; left out: {_some(found.left_out)}" if found.left_out else ""
    say(f"The job gets {files} of {folder}, {size_text(size)}{left_out}.")
    return chosen


def _find(file: InputFile, files: Mapping[str, Path], folder: str) -> Path:
    if file.path not in files:
        raise InvalidJob(f"job.inputs names {file.path}, which is not in {folder}.", field="job.inputs")
    return files[file.path]


def _some(paths: list[str]) -> str:
    shown = ", ".join(paths[:5])
    return shown if len(paths) <= 5 else f"{shown} and {len(paths) - 5:,} more"


@dataclass(frozen=True, slots=True)
class Chosen:
    """The id of a job, and its state where it is on the service already.

    :ivar cycle: What it has in common with the jobs of the same content that failed before; empty where it is to begin
        from nothing.
    """

    job_id: str
    state: JobState | None
    cycle: str = ""


def choose_id(jobs: Jobs, job_file: JobFile, asked: str | None, *, new: bool) -> Chosen:
    """The id under which a job is submitted.

    By default it follows from the content of the job: repeating the command finds the job that is active or was
    successful, and submits another one where it failed, was stopped, or is gone.

    :param asked: The id that the user chose.
    :param new: Whether the job is to be trained once more in any case.
    """

    def look_up(job_id: str) -> JobState:
        return jobs.status(job_id).outlook

    if new:
        return Chosen(str(uuid.uuid4()), None)
    if asked is None:
        content = Content(jobs.user, job_file.digest())
        place = walk(content, look_up)
        return Chosen(place.job_id, place.state, content.key())
    try:
        return Chosen(asked, look_up(asked))
    except JobNotFound:
        return Chosen(asked, None)


@dataclass(slots=True)
class Folder:
    """The files of a folder.

    :ivar files: By their path in the folder.
    :ivar left_out: The paths that were left out, without those below them.
    """

    files: dict[str, Path] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)


def read_folder(root: Path) -> Folder:
    """List the files of a folder that become the job's inputs: not hidden ones, not ``__pycache__``.

    :raises InvalidJob: for a folder that cannot be read, and for a file that no job can have.
    """
    found = Folder()
    _walk(root, "", found)
    if not found.files:
        raise InvalidJob(f"{root} holds no file for the job; what begins with a dot is left out.")
    return found


def _walk(folder: Path, prefix: str, found: Folder) -> None:
    try:
        with os.scandir(folder) as entries:
            ordered = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise InvalidJob(f"The folder {folder} cannot be read: {error.strerror or error}.") from None
    for entry in ordered:
        path = f"{prefix}{entry.name}"
        if entry.name.startswith(".") or entry.name == "__pycache__":
            found.left_out.append(path)
        elif entry.is_symlink():
            raise InvalidJob(f"{entry.path} is a symbolic link; put in its place what it leads to.")
        elif entry.is_dir():
            _check(f"{path}/a")
            _walk(Path(entry.path), f"{path}/", found)
        elif entry.is_file():
            _check(path)
            found.files[path] = Path(entry.path)
            if len(found.files) > MOST_FILES:
                raise InvalidJob(f"The folder has more than {MOST_FILES:,} files; pack them into archives.")
        else:
            raise InvalidJob(f"{entry.path} is neither a file nor a folder; move it away.")


def _check(path: str) -> None:
    try:
        check_path(path)
    except ValueError:  # a name that is not UTF-8 as well
        raise InvalidJob(
            f"{path!a} cannot be the name of a job's file: it has at most 1,024 bytes of UTF-8, and no backslashes and "
            "control characters; give it another one."
        ) from None
