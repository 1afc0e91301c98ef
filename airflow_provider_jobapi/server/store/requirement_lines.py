# SPDX-License-Identifier: Apache-2.0
"""Check the ``requirements.txt`` of a job, and turn it into what an installer is told.

It may have packages and their versions, and name package indexes that the server's operator allows. Any other address
could make the installer use any server, and a path means something else for each job, while all jobs with the same
requirements share one environment; a wheel that is a file of the job is part of what they have to have in common.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.training.masking import without_credentials
from airflow_provider_jobapi.training.requirement_text import (
    DEFAULT,
    EXTRA,
    FILE_OPTIONS,
    LINKS,
    Directions,
    Option,
    Wheel,
    logical_lines,
)

_FIELD = "requirements"
_HASHES = re.compile(r"(\s+--hash[=\s]\s*[a-z0-9]+:[0-9A-Fa-f]+)+\s*$")
_PATH = re.compile(r"^[./~\\]|[/\\]|^file:|\.(whl|zip|tar\.gz|tgz)$", re.IGNORECASE)
_IS_A_PATH = "is a path, which means something else for every job; name a package of the index."
_URL = re.compile(r"^(\w+\+)?\w+://", re.IGNORECASE)
_PACKAGES = re.compile(r":all:|:none:|\w[\w.-]*(\s*,\s*\w[\w.-]*)*")

_KEPT = {"--no-index": "", "--only-binary": "packages", "--no-binary": "packages"}
"""The options that the installer reads in the file, and what they take."""

_FLAGS = {"--require-hashes", "--pre", "--prefer-binary"}


@dataclass(frozen=True, slots=True)
class Installs:
    """What a server installs.

    :ivar urls: Whether packages may come from any address (``--allow-requirement-urls``).
    :ivar pythons: The versions of the jobs' Pythons, the default first; empty where they are not known.
    :ivar indexes: The package indexes that jobs may name, by name: addresses without credentials.
    :ivar own: The addresses of the indexes that every job installs from.
    """

    urls: bool = False
    pythons: tuple[str, ...] = ()
    indexes: Mapping[str, str] = field(default_factory=dict)
    own: frozenset[str] = frozenset()

    def index(self, named: str) -> str | None:
        """The name of the index that a job names or gives the address of; empty for an own one, None for another."""
        if named in self.indexes:
            return named
        address = plain_address(named)
        if address in {plain_address(each) for each in self.own}:
            return ""
        return next((name for name, each in self.indexes.items() if plain_address(each) == address), None)


def plain_address(address: str) -> str:
    """An address of an index in one spelling, without credentials."""
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        return address
    if not parts.hostname:
        return address.rstrip("/")
    default = {"https": 443, "http": 80}.get(parts.scheme.lower())
    host = parts.hostname + ("" if port in {None, default} else f":{port}")
    return f"{parts.scheme.lower()}://{host}{parts.path.rstrip('/')}"


@dataclass(slots=True)
class InstallPlan:
    """What an installer is told.

    :ivar lines: The requirements, as a file of them.
    :ivar constraints: The constraints, one a line; empty without any.
    :ivar options: More options of the installer.
    :ivar indexes: The names of the indexes that the job wants, by what it wants them for.
    :ivar prereleases: Whether versions before a release may be installed.
    """

    lines: str
    constraints: str = ""
    options: list[str] = field(default_factory=list)
    indexes: dict[str, list[str]] = field(default_factory=lambda: {DEFAULT: [], EXTRA: [], LINKS: []})
    prereleases: bool = False

    @classmethod
    def of(cls, text: str, installs: Installs) -> InstallPlan:
        """Make the plan of requirements that were checked; an index that is no longer allowed is left out."""
        plan, directions = cls(text), Directions.of(text)
        plan.constraints = "".join(f"{each}\n" for each in directions.constraints)
        plan.options = ["--no-deps"] if directions.exact else []
        kept = []
        for line in text.splitlines():
            option = next((Option.of(whole) for _, whole in logical_lines(line)), None)
            if option is None or not plan._takes(option, installs):
                kept.append(line)
        if len(kept) < len(text.splitlines()):
            plan.lines = "".join(f"{line}\n" for line in kept)
        return plan

    def _takes(self, option: Option, installs: Installs) -> bool:
        """Note an option, unless the installer is to read it in the file."""
        if option.index_use:
            if found := installs.index(option.value):
                self.indexes[option.index_use].append(found)
        elif option.name == "--pre":
            self.prereleases = True
        elif option.name == "--require-hashes":
            self.options.append(option.name)
        else:
            return option.name == "--prefer-binary"  # which uv does in any case
        return True


def check_requirements(
    text: str, allow_urls: bool = False, installs: Installs | None = None, files: Collection[str] = ()
) -> None:
    """Refuse lines that the server does not install.

    :param text: The content of ``requirements.txt``.
    :param allow_urls: Whether packages may come from any address (``--allow-requirement-urls``).
    :param installs: What else the server installs.
    :param files: The files of the job, of which it may install wheels.
    :raises InvalidJob: with the number of the first such line, and what is allowed.
    """
    installs = installs or Installs(urls=allow_urls)
    if "\0" in text:
        raise InvalidJob("requirements.txt has a NUL character; save it as a text file.", field=_FIELD)
    for number, line in logical_lines(text):
        wheel = Wheel.of(line)
        if problem := _problem(line, installs) if wheel is None else _wheel_problem(wheel, files):
            shown = _shown(line)
            raise InvalidJob(f"requirements.txt, line {number}: {shown!r} {problem}", field=_FIELD)
    _check_directions(Directions.of(text), installs)


def _check_directions(directions: Directions, installs: Installs) -> None:
    for each in directions.constraints:
        if each.startswith("-") or (problem := _problem(each, installs)):
            problem = "is an option, which is no constraint." if each.startswith("-") else problem
            raise InvalidJob(f"requirements.txt has the constraint {_shown(each)!r}, which {problem}", field=_FIELD)
    for each in directions.python:
        try:
            SpecifierSet(each)
        except InvalidSpecifier:
            raise InvalidJob(
                f"requirements.txt has requires-python {each!r}, which is no specifier; write it as '>=3.11'.",
                field=_FIELD,
            ) from None
    if installs.pythons and not any(satisfies(version, directions.python) for version in installs.pythons):
        raise InvalidJob(
            f"The requirements need Python {' and '.join(directions.python)} (requires-python), and this server has "
            f"{', '.join(installs.pythons)}: widen requires-python, or name such a Python in the server's --python.",
            field=_FIELD,
        )


def satisfies(version: str, specifiers: tuple[str, ...]) -> bool:
    """Whether a version of Python is one that requirements need."""
    return all(SpecifierSet(each).contains(version, prereleases=True) for each in specifiers)


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


def _problem(line: str, installs: Installs) -> str:
    if "${" in line:
        return "is a variable of the server's environment; write its value."
    if option := Option.of(line):
        return _option_problem(option, installs)
    bare = _HASHES.sub("", line)
    try:
        requirement = Requirement(bare)
    except InvalidRequirement:
        return _why_unreadable(bare, installs.urls)
    if requirement.url is None:
        return _IS_A_PATH if _PATH.search(requirement.name) else ""
    return _url_problem(requirement.url, installs.urls)


def _wheel_problem(wheel: Wheel, files: Collection[str]) -> str:
    if wheel.path not in files:
        return "is a wheel that is no file of the job: upload it under that name, or name a package of the index."
    try:
        parse_wheel_filename(PurePosixPath(wheel.path).name)
    except InvalidWheelFilename:
        return "is not named as wheels are: NAME-VERSION-PYTHON-ABI-PLATFORM.whl; keep the name that it was built with."
    return ""


def with_wheels(text: str, work: Path) -> tuple[str, list[str]]:
    """Name the wheels of a job where they are on this machine; returns the requirements, and the paths in the job.

    :param text: Requirements that were checked.
    :param work: The job's working directory.
    """
    lines, paths = [], []
    for line in text.splitlines():
        wheel = Wheel.of(line)
        if wheel is not None:
            name = parse_wheel_filename(PurePosixPath(wheel.path).name)[0]
            lines.append(f"{name}{wheel.extras} @ {(work / wheel.path).as_uri()}{_separated(wheel.rest)}")
            paths.append(wheel.path)
        else:
            lines.append(line)
    return ("".join(f"{line}\n" for line in lines) if paths else text), paths


def _separated(rest: str) -> str:
    """What follows an address, of which a semicolon without a space before it would be a part."""
    return f" {rest.lstrip()}" if rest.strip() else ""


def _option_problem(option: Option, installs: Installs) -> str:
    name, value = option
    if option.index_use:
        return _index_problem(value, installs)
    if name in _FLAGS and not value:
        return ""
    if name in _KEPT and (_PACKAGES.fullmatch(value) if _KEPT[name] else not value):
        return ""
    if name in FILE_OPTIONS:
        return (
            "is an option that names another file, and the server reads requirements.txt alone: put the lines of that "
            "file into it."
        )
    return "is an option; only packages are allowed, such as tensorflow==2.21.0."


def _index_problem(value: str, installs: Installs) -> str:
    if not value or re.search(r"\s", value):
        return "is an option that names no package index; give its name or its address after it."
    if "@" in value.partition("//")[2].partition("/")[0]:
        return (
            "is an option with a user or a password in it, which others could read: name the index without them; the "
            "server's operator gives them to the server."
        )
    if installs.index(value) is not None:
        return ""
    allowed = f"allows {', '.join(sorted(installs.indexes))}" if installs.indexes else "allows none"
    return (
        f"is an option that names a package index, and this server {allowed}: its operator can allow another one with "
        "--allow-index NAME=ADDRESS."
    )


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
