# SPDX-License-Identifier: Apache-2.0
"""The text of a ``requirements.txt``: its lines, options and wheels, and the directions in its comments.

::

    # jobapi: requires-python >=3.11
    # jobapi: exact
    # jobapi: constraint numpy<2
    six==1.17.0

A direction is a comment, so that pip and uv install the same file wherever there is no such server. ``requires-python``
chooses the Python. ``exact`` says that the list is whole, as that of a lock is, and nothing else is installed.
``constraint`` bounds a package that another one brings.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.training.job_file import check_path

EXACT, PYTHON, CONSTRAINT = "exact", "requires-python", "constraint"
"""The directions."""

DIRECTIONS_FEATURE, INDEXES_FEATURE, WHEELS_FEATURE = "requirement-directions", "package-indexes", "requirement-wheels"
"""The names of what a server understands of these texts, in ``Job-Features``."""

_DIRECTION = re.compile(rf"#[ \t]*jobapi:[ \t]*({EXACT}|{PYTHON}|{CONSTRAINT})(?:[ \t]+(.*))?", re.IGNORECASE)
_OPTION = re.compile(r"(?P<name>--[a-z-]+|-[a-z])(?:\s*=\s*|\s+|(?<=^-[a-z])(?=\S)|$)(?P<value>.*)", re.DOTALL)
_COMMENT = re.compile(r"(^|\s+)#.*$")

_WHEEL = re.compile(
    r"(?:\./)?(?P<path>[^\s;#\[\]]+\.whl)(?P<extras>\[[\w.,\s-]*\])?(?P<rest>\s*;.*|\s+--hash.*|\s*\\|\s*)",
    re.IGNORECASE,
)

DEFAULT, EXTRA, LINKS = "default", "extra", "links"
INDEX_OPTIONS = {
    "-i": DEFAULT, "--index-url": DEFAULT, "--default-index": DEFAULT, "--extra-index-url": EXTRA, "--index": EXTRA,
    "-f": LINKS, "--find-links": LINKS,
}  # fmt: skip
"""What each option does with the package index that it names."""

FILE_OPTIONS = {"-r": False, "--requirement": False, "-c": True, "--constraint": True}
"""The options that name another file, and whether it has constraints."""

ALWAYS, NEVER = "python_version >= '0'", "python_version < '0'"
"""Markers that are true, and false, everywhere."""


def logical_lines(text: str) -> Iterator[tuple[int, str]]:
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


class Option(NamedTuple):
    """A line that is an option of pip, such as ``--extra-index-url https://…``.

    :ivar name: As it is written; the value of an option that pip does not have may be a part of it.
    :ivar value: What follows it.
    """

    name: str
    value: str

    @classmethod
    def of(cls, line: str) -> Option | None:
        """Read a line; None for a requirement."""
        if not line.startswith("-"):
            return None
        found = _OPTION.fullmatch(line)
        return cls(found["name"], found["value"].strip()) if found else cls(line, "")

    @property
    def index_use(self) -> str:
        """What it does with the package index that it names; empty for any other option."""
        return INDEX_OPTIONS.get(self.name, "")


class Wheel(NamedTuple):
    """A line that installs a wheel, which is a file of the job.

    :ivar path: The wheel's path in the working directory.
    :ivar extras: What it is installed with, in brackets.
    :ivar rest: The marker and the hashes after it.
    """

    path: str
    extras: str
    rest: str

    @classmethod
    def of(cls, line: str) -> Wheel | None:
        """Read a line such as ``./dist/nets-1.0-py3-none-any.whl``; None for any other."""
        found = _WHEEL.fullmatch(line.strip())
        if found is None:
            return None
        try:
            return cls(check_path(found["path"]), found["extras"] or "", found["rest"])
        except ValueError:  # an address, or a path that leads elsewhere
            return None


def wheels_of(text: str) -> list[str]:
    """The paths of the wheels that requirements name."""
    return [wheel.path for _, line in logical_lines(text) if (wheel := Wheel.of(line))]


@dataclass(frozen=True, slots=True)
class Directions:
    """The directions of a text.

    :ivar exact: Whether the list is whole.
    :ivar python: The versions of Python that it needs, each a specifier such as ``>=3.11,<3.14``.
    :ivar constraints: Requirements that bound packages and install none.
    """

    exact: bool = False
    python: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()

    @classmethod
    def of(cls, text: str) -> Directions:
        """Read the directions of a text."""
        found: dict[str, list[str]] = {EXACT: [], PYTHON: [], CONSTRAINT: []}
        if "jobapi:" in text.lower():
            for line in text.splitlines():
                if matched := _DIRECTION.fullmatch(line.rstrip()):
                    found[matched[1].lower()].append((matched[2] or "").strip())
        wanted = [each for each in dict.fromkeys(found[PYTHON]) if each]
        bounds = [each for each in dict.fromkeys(found[CONSTRAINT]) if each]
        return cls(bool(found[EXACT]), tuple(wanted), tuple(bounds))


@dataclass(slots=True)
class Listing:
    """What a file of requirements asks for, before it becomes a text.

    :ivar lines: The requirements.
    :ivar python: The specifier of the Python that they need; empty for any.
    :ivar exact: Whether the list is whole.
    :ivar constraints: Requirements that bound packages and install none.
    :ivar indexes: The addresses, or the names, of the package indexes that have some of them.
    """

    lines: list[str] = field(default_factory=list)
    python: str = ""
    exact: bool = False
    constraints: list[str] = field(default_factory=list)
    indexes: list[str] = field(default_factory=list)

    def text(self) -> str:
        """Return it as a requirements.txt."""
        head = [f"# jobapi: {PYTHON} {self.python}"] if self.python else []
        head += [f"# jobapi: {EXACT}"] if self.exact else []
        head += [f"# jobapi: {CONSTRAINT} {each}" for each in self.constraints]
        head += [f"--extra-index-url {each}" for each in dict.fromkeys(self.indexes)]
        return "\n".join([*head, *self.lines])


def named_index(text: str) -> str:
    """The first line that gives a package index by a name; empty where there is none."""
    for line, option in options_of(text):
        if option.index_use and re.fullmatch(r"[\w.-]+", option.value):
            return line
    return ""


def options_of(text: str) -> Iterator[tuple[str, Option]]:
    """Yield the lines that are options, and what they say."""
    for _, line in logical_lines(text):
        if option := Option.of(line):
            yield line, option


def check_known(text: str, features: Collection[str], *, has_pip: bool) -> None:
    """Refuse what a service would not see in a text, or would refuse after the upload.

    :param features: What the service understands.
    :param has_pip: Whether it gives the text to pip, which understands every option.
    :raises InvalidJob: saying what to do.
    """
    named = named_index(text)
    option = "" if has_pip else next((re.split(r"[\s=]", line, maxsplit=1)[0] for line, _ in options_of(text)), "")
    for feature, what in (
        (DIRECTIONS_FEATURE, "constraints (-c)" if Directions.of(text).constraints else ""),
        (INDEXES_FEATURE, f"the package index of {named!r} by its name" if named else ""),
        (INDEXES_FEATURE, f"the option {option}" if option else ""),
        (WHEELS_FEATURE, "".join(f"the wheel {path!r}" for path in wheels_of(text)[:1])),
    ):
        if what and feature not in features:
            raise InvalidJob(
                f"The server of this connection does not know {what} in requirements: leave it out, or have the server "
                "updated.",
                field="requirements",
            )


def pinned(name: str, version: str, marker: str, hashes: Iterable[str]) -> str:
    """Return the requirement of one version of a package.

    :param marker: Where it is installed; empty for everywhere.
    :param hashes: Of the files that it may come from, such as ``sha256:…``; none where they are not known.
    """
    whole = f"{name}=={version}" + (f" ; {marker}" if marker else "")
    return " \\\n    ".join([whole, *(f"--hash={each}" for each in dict.fromkeys(hashes))])


def canonical_name(name: str) -> str:
    """Return a package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).strip().lower()
