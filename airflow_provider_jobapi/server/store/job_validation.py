# SPDX-License-Identifier: Apache-2.0
"""Validate a job before it is accepted: its resources, its command, its inputs and its ``requirements.txt``.

A ``requirements.txt`` may have only packages and their versions. An option could make the installer use any server, and
a path means something else for each job, while all jobs with the same requirements share one environment.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath

from packaging.requirements import InvalidRequirement, Requirement

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.server.config import Settings
from airflow_provider_jobapi.server.errors import ChangedInput, MissingInput, ResourcesExceeded
from airflow_provider_jobapi.server.store.blobs import Blobs
from airflow_provider_jobapi.server.store.objects import StoredObject
from airflow_provider_jobapi.training.job import REQUIREMENTS_NAME
from airflow_provider_jobapi.training.job_file import InputFile, JobFile, Resources, check_input_count
from airflow_provider_jobapi.training.job_limits import JobLimits, check_python
from airflow_provider_jobapi.training.masking import without_credentials

_REQUIREMENTS_LIMIT = 10**6
"""The most bytes of a ``requirements.txt``."""

_FIELD = "requirements"
_COMMENT = re.compile(r"(^|\s+)#.*$")
_HASHES = re.compile(r"(\s+--hash[=\s]\s*[a-z0-9]+:[0-9A-Fa-f]+)+\s*$")
_PATH = re.compile(r"^[./~\\]|[/\\]|^file:|\.(whl|zip|tar\.gz|tgz)$", re.IGNORECASE)
_IS_A_PATH = "is a path, which means something else for every job; name a package of the index."
_URL = re.compile(r"^(\w+\+)?\w+://", re.IGNORECASE)


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


def check_requirements_in(chosen: Sequence[tuple[str, StoredObject]], blobs: Blobs, settings: Settings) -> None:
    """Refuse a job whose ``requirements.txt`` the server does not install.

    :param chosen: The inputs of the job by their paths.
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
    check_requirements(text, settings.allow_requirement_urls)


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


def check_requirements(text: str, allow_urls: bool = False) -> None:
    """Refuse lines that the server does not install.

    :param text: The content of ``requirements.txt``.
    :param allow_urls: Whether packages may come from any address (``--allow-requirement-urls``).
    :raises InvalidJob: with the number of the first such line, and what is allowed.
    """
    if "\0" in text:
        raise InvalidJob("requirements.txt has a NUL character; save it as a text file.", field=_FIELD)
    for number, line in _lines(text):
        if problem := _problem(line, allow_urls):
            shown = _shown(line)
            raise InvalidJob(f"requirements.txt, line {number}: {shown!r} {problem}", field=_FIELD)


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield the requirements and their line numbers, without comments and with continued lines joined."""
    joined, start = "", 0
    for number, line in enumerate(text.splitlines(), 1):
        start = start if joined else number
        if line.endswith("\\") and not line.lstrip().startswith("#"):
            joined += line[:-1] + " "
            continue
        whole, joined = _COMMENT.sub("", joined + line).strip(), ""
        if whole:
            yield start, whole
    if joined.strip():
        yield start, joined.strip()


def _shown(line: str) -> str:
    """The line for an error, without what may be a secret: the value of an option, the user of an address."""
    if not re.search(r"[@?]|//", line):
        kept = re.match(r".*", line)
    elif line.startswith("--"):
        kept = re.match(r"--[\w-]*", line)
    else:
        kept = re.match(r"-\w?|(?:(?!\s--?\w).)+(?:\s+--?[\w-]+)?", line)
    head = kept[0].rstrip() if kept else ""
    shown = without_credentials(head) + (" …" if len(head) < len(line) else "")
    return shown if len(shown) <= 80 else f"{shown[:80]}…"


def _problem(line: str, allow_urls: bool) -> str:
    if line.startswith("-"):
        return "is an option; only packages are allowed, such as tensorflow==2.21.0."
    if "${" in line:
        return "is a variable of the server's environment; write its value."
    bare = _HASHES.sub("", line)
    try:
        requirement = Requirement(bare)
    except InvalidRequirement:
        return _why_unreadable(bare, allow_urls)
    if requirement.url is None:
        return _IS_A_PATH if _PATH.search(requirement.name) else ""
    return _url_problem(requirement.url, allow_urls)


def _why_unreadable(line: str, allow_urls: bool) -> str:
    if _URL.search(line):
        return _url_problem(line, allow_urls)
    if " --" in line:
        return "has an option; only --hash is allowed after a package."
    if _PATH.search(line):
        return _IS_A_PATH
    return "is not a requirement; write a package and its version, such as tensorflow==2.21.0."


def _url_problem(url: str, allow_urls: bool) -> str:
    if not _URL.search(url) or url.lower().startswith(("file:", "git+file:")):
        return _IS_A_PATH
    if not allow_urls:
        return "is an address; the server installs only from its index, unless started with --allow-requirement-urls."
    return ""
