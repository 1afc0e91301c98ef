# SPDX-License-Identifier: Apache-2.0
"""Which lines a job's ``requirements.txt`` may have: names of packages and their versions.

Options could send the installer anywhere, and a path means something else for each job, while the environment that is
made of the file is shared by all jobs with the same requirements.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from packaging.requirements import InvalidRequirement, Requirement

from airflow_provider_jobapi.exceptions import InvalidJob

FIELD = "requirements"

_COMMENT = re.compile(r"(^|\s+)#.*$")
_HASHES = re.compile(r"(\s+--hash[=\s]\s*[a-z0-9]+:[0-9A-Fa-f]+)+\s*$")
_PATH = re.compile(r"^[./~\\]|[/\\]|^file:|\.(whl|zip|tar\.gz|tgz)$", re.IGNORECASE)
_IS_A_PATH = "is a path, which would mean something else for every job; name a package of the index."
_URL = re.compile(r"^(\w+\+)?\w+://", re.IGNORECASE)


def check_requirements(text: str, allow_urls: bool = False) -> None:
    """Refuse lines that the server does not install.

    :param text: The content of ``requirements.txt``.
    :param allow_urls: Whether packages may come from any address (``--allow-requirement-urls``).
    :raises InvalidJob: naming the first such line and saying what is allowed.
    """
    if "\0" in text:
        raise InvalidJob("requirements.txt has a NUL character in it; it is a text file.", field=FIELD)
    for number, line in _lines(text):
        if problem := _problem(line, allow_urls):
            shown = line if len(line) <= 80 else f"{line[:80]}…"
            raise InvalidJob(f"requirements.txt, line {number}: {shown!r} {problem}", field=FIELD)


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """The requirements with the numbers of their lines, comments taken out and continued lines joined."""
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


def _problem(line: str, allow_urls: bool) -> str:
    if line.startswith("-"):
        return "is an option; only packages are allowed, such as tensorflow==2.21.0."
    if "${" in line:
        return "would be filled from the server's environment; write it out."
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
        return "has an option; only --hash is allowed behind a package."
    if _PATH.search(line):
        return _IS_A_PATH
    return "is not a requirement; write a package and its version, such as tensorflow==2.21.0."


def _url_problem(url: str, allow_urls: bool) -> str:
    if not _URL.search(url) or url.lower().startswith(("file:", "git+file:")):
        return _IS_A_PATH
    if not allow_urls:
        return "is an address; this server installs from its index, unless it is started with --allow-requirement-urls."
    return ""
