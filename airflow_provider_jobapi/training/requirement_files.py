# SPDX-License-Identifier: Apache-2.0
"""Requirements in every form that projects keep them in, as one ``requirements.txt``.

A text or a list; a ``requirements.txt``, with the files that it names by ``-r`` and ``-c``; a ``pyproject.toml``, with
``[extras]`` after its name; a ``uv.lock`` or ``pylock.toml``; a script with the block of PEP 723 at its head.
"""

from __future__ import annotations

import codecs
import re
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.training.job import DataPath
from airflow_provider_jobapi.training.lock_files import UvLock, from_pylock, refusal
from airflow_provider_jobapi.training.masking import without_credentials
from airflow_provider_jobapi.training.parameter_names import named, setting
from airflow_provider_jobapi.training.project_files import from_project, script_requirements
from airflow_provider_jobapi.training.requirement_text import (
    CONSTRAINT,
    FILE_OPTIONS,
    Directions,
    Listing,
    Wheel,
    logical_lines,
    options_of,
)

_FILES = (".txt", ".in", ".toml", ".lock")
"""Endings of the files that a text may name."""

OTHERS = {
    "poetry.lock": "poetry export -o requirements.txt",
    "pdm.lock": "pdm export -o requirements.txt",
    "pipfile": "pipenv requirements > requirements.txt",
    "pipfile.lock": "pipenv requirements > requirements.txt",
    "setup.py": "uv pip compile setup.py -o requirements.txt",
    "setup.cfg": "uv pip compile setup.cfg -o requirements.txt",
    "environment.yml": "pip freeze > requirements.txt",
    "environment.yaml": "pip freeze > requirements.txt",
    "conda-lock.yml": "pip freeze > requirements.txt",
    "pixi.toml": "pip freeze > requirements.txt",
    "pixi.lock": "pip freeze > requirements.txt",
}
"""Files of other programs, and what makes a file of them that pip reads."""

_YAML = (".yml", ".yaml")

_ALONE = re.compile(r"(?:-r\s*|--requirement[\s=]\s*)?(?P<path>[\w./~][\w./~ -]*?(?:\[[\w.,\s-]+\])?)")
_WITH_GROUPS = re.compile(r"(?P<name>.+)\[(?P<groups>[\w.,\s-]+)\]")
_EDITABLE = re.compile(r"(?:-e|--editable)\b")
_LOCAL = re.compile(
    r"(?:[\w.-]+\s*(?:\[[^\]]*\])?\s*@\s*)?(?:(?:git\+)?file:|\.{0,2}[/\\]|~[/\\]|\.{1,2}(?:\[|\s|$)|[A-Za-z]:[\\/])"
    r"|[^\s:@]+\.(?:whl|zip|tar\.gz|tgz)(?=\s|;|$)",
    re.IGNORECASE,
)
_HASH = re.compile(r"\s+--hash[=\s]\s*\S+")

_DEPTH = 20
"""Of files that name files."""


def requirements_text(given: Any, folder: Path, beside: str = "beside the DAG file") -> Any:
    """Return requirements as the text of a ``requirements.txt``; what is no text, list or path is returned as it is.

    :param given: A text, a list of texts and paths, or a path.
    :param folder: Where relative paths begin.
    :param beside: The folder in words, for messages.
    :raises InvalidJob: when a file cannot be read, or asks for what no job can install.
    """
    reader = _Reader(folder, beside)
    if isinstance(given, DataPath) and hasattr(given, "parent"):
        return reader.read(given)
    entries = given.splitlines() if isinstance(given, str) else given
    if not isinstance(entries, list | tuple):
        return given
    entries = [each for each in entries if not isinstance(each, str) or each.strip()]
    if len(entries) == 1 and (alone := _file_in(entries[0])):
        return reader.read(alone)
    if bare := [each for each in entries if _file_in(each) == each]:
        raise InvalidJob(
            f"requirements has the line {bare[0]!r} among others, which names a file: give "
            f"{setting('requirements', bare[0])} alone, or the requirements in it.",
            field="requirements",
        )
    return reader.expand(given)


def script_text(script: str, where: str = "the script") -> str:
    """Return the requirements at the head of a script, as PEP 723 has them; empty where it has none.

    :raises InvalidJob: when they cannot be read.
    """
    found = script_requirements(script, where)
    return "" if found is None else _checked(found, where).text()


def _file_in(line: Any) -> str | None:
    """The file that a line of requirements names, alone or after ``-r``; None where it is a requirement."""
    if not isinstance(line, str):
        return None
    found = _ALONE.fullmatch(line.strip())
    name = _without_groups(found["path"]).lower() if found else ""
    is_file = name.endswith((*_FILES, *_YAML)) or name.rpartition("/")[2] in OTHERS
    return found["path"] if found and is_file else None


def is_conda(name: str, text: str) -> bool:
    """Whether a file is an environment of conda, which may have any name."""
    marks = (r"(?m)^dependencies:\s*$", r"(?m)^(channels:|\s*- (python|pip)\b)")
    return name.lower().endswith(_YAML) and all(re.search(mark, text) for mark in marks)


def _without_groups(name: str) -> str:
    found = _WITH_GROUPS.fullmatch(name)
    return (found["name"] if found else name).rstrip()


class _Reader:
    """Reads files of requirements, and those that they name."""

    def __init__(self, folder: Any, beside: str, depth: int = 0) -> None:
        self._folder = folder
        self._beside = beside
        self._depth = depth

    def expand(self, given: Any) -> Any:
        """Read the files that the lines of a text or list name; what has none is returned as it is."""
        lines = given.splitlines() if isinstance(given, str) else list(given)
        found = []
        for line in lines:
            if isinstance(line, DataPath) and hasattr(line, "parent"):
                found.append(self.read(line).rstrip("\n"))
            else:
                found += self._expanded([line], within="", left_out=True) if isinstance(line, str) else [line]
        check_lines("\n".join(map(str, found)))
        if found == lines:
            return given
        return "\n".join(map(str, found)) if isinstance(given, str) else found

    def read(self, path: Any) -> str:
        """Read a file as the text of a ``requirements.txt``."""
        place, groups = self._place(path)
        name = place.name.lower()
        if name in OTHERS or name.endswith(_YAML):
            command = OTHERS.get(name, OTHERS["environment.yml"])
            raise refusal(str(place), f"which has a form of its own: make one that pip reads, by `{command}`.")
        if groups and not name.endswith((".toml", ".lock")):
            raise refusal(str(place), "which has no extras: only a pyproject.toml, a uv.lock and a pylock.toml have.")
        text = self._text(place)
        below = _Reader(place.parent, self._beside, self._depth + 1)
        if name.endswith(".py"):
            found = script_requirements(text, str(place))
            if found is None:
                raise refusal(str(place), "which has no block '# /// script' (PEP 723) at its head.")
            return _checked(found, str(place)).text()
        if name.endswith((".toml", ".lock")):
            return below.structured(text, name, groups, str(place))
        return below.plain(text, str(place))

    def structured(self, text: str, name: str, groups: Sequence[str], where: str) -> str:
        """Read the text of a ``pyproject.toml``, a ``uv.lock`` or a ``pylock.toml``."""
        try:
            content = tomllib.loads(text)
            if name.endswith(".lock"):
                listing = UvLock(content, groups, where).listing()
            elif re.fullmatch(r"pylock(\.[^.]+)?\.toml", name):
                listing = from_pylock(content, groups, where)
            else:
                listing = from_project(content, groups, where, self.read)
        except tomllib.TOMLDecodeError as error:
            if name.endswith(".lock") and name != "uv.lock" and not groups:
                return self.plain(text, where)  # as rye and pip-tools name their files
            raise self._unreadable(where, f"it is not TOML ({error})") from None
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            if isinstance(error, InvalidJob):
                raise
            raise self._unreadable(where, f"it is not as such a file is ({type(error).__name__}: {error})") from None
        return _checked(listing, where).text()

    def plain(self, text: str, where: str) -> str:
        """Read the text of a ``requirements.txt``."""
        lines = text.splitlines()
        found = list(self._expanded(lines, where))
        whole = text if found == lines else "\n".join([*found, ""])
        check_lines(whole, where)
        return whole

    def _expanded(self, lines: Iterable[str], within: str, *, left_out: bool = False) -> Iterator[str]:
        """Put the lines of the files that are named in the place of their names.

        :param within: The file that the lines are of.
        :param left_out: Whether a file that is not there is left to the service to refuse.
        """
        for line in lines:
            option = next((each for _, each in options_of(line) if each.name in FILE_OPTIONS and each.value), None)
            if option is None:
                yield line
                continue
            name = option.value.strip("'\"")
            if re.match(r"\w+://", name):
                owner = f" of {within}" if within else ""
                raise InvalidJob(
                    f"The line {without_credentials(line.strip())!r} of requirements{owner} names an address, which is "
                    "not read: download the file and name it.",
                    field="requirements",
                )
            is_file = _without_groups(name).lower().endswith(_FILES)
            if left_out and not (is_file and self._place(name)[0].exists()):
                yield line
                continue
            text = self.read(name)
            yield from _constraints(text) if FILE_OPTIONS[option.name] else text.splitlines()

    def _place(self, path: Any) -> tuple[Any, list[str]]:
        """The whole path, and the extras that its name has in brackets."""
        if isinstance(path, str) and isinstance(self._folder, Path):
            path = Path(path)
        if isinstance(path, Path):
            path = path.expanduser()
        place = self._folder / path if isinstance(path, str) or not path.is_absolute() else path
        found = _WITH_GROUPS.fullmatch(place.name)
        if found is None or place.exists():
            return place, []
        groups = [each.strip() for each in found["groups"].split(",") if each.strip()]
        return place.with_name(found["name"].rstrip()), groups

    def _text(self, place: Any) -> str:
        if self._depth > _DEPTH:
            raise self._unreadable(str(place), "it is one of a chain of files that name one another")
        try:
            with place.open("rb") as file:
                content = bytes(file.read())
            if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # as PowerShell's > writes it
                return content.decode("utf-16")
            return content.decode("utf-8-sig")
        except IsADirectoryError:
            raise refusal(
                str(place), "which is a folder: name the file in it, such as pyproject.toml or uv.lock."
            ) from None
        except OSError as error:
            why = error.strerror or str(error)
        except UnicodeDecodeError:
            why = "it is not UTF-8"
        raise self._unreadable(str(place), why)

    def _unreadable(self, where: str, why: str) -> InvalidJob:
        return refusal(
            where,
            f"which cannot be read: {why}. Give the requirements themselves, or the name of a file {self._beside}.",
        )


def _constraints(text: str) -> Iterator[str]:
    """The lines of a file of constraints as directions."""
    for each in Directions.of(text).constraints:
        yield f"# jobapi: {CONSTRAINT} {each}"
    for _, line in logical_lines(text):
        yield line if line.startswith("-") else f"# jobapi: {CONSTRAINT} {_HASH.sub('', line)}"


def check_lines(text: str, where: str = "") -> None:
    """Refuse the lines that name files or folders of this machine.

    :param where: The file that has the lines; empty where the DAG itself has them.
    :raises InvalidJob: naming the first such line.
    """
    for number, line in logical_lines(text):
        if problem := _problem(line):
            shown = f"line {number} {without_credentials(line)!r}"
            if where:
                raise refusal(where, f"whose {shown} {problem}")
            raise InvalidJob(f"requirements, {shown} {problem}", field="requirements")


def _problem(line: str) -> str:
    if Wheel.of(line) is not None:  # which is to be a file of the job
        return ""
    editable = _EDITABLE.match(line)
    if editable and "://" in line:
        return "is for packages that one edits, which nobody does in a job: leave out the -e."
    if editable or _LOCAL.match(line):
        return (
            "is a path of this machine, which the job does not have: publish the package to an index; or ship its code "
            f"as {named('source')}, and give what it depends on, as {setting('requirements', 'pyproject.toml')} does."
        )
    return ""


def _checked(listing: Listing, where: str) -> Listing:
    """Check the Python that a listing asks for, and its lines.

    :raises InvalidJob: when they mean nothing.
    """
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    for line in listing.lines:
        if problem := _problem(line):
            raise refusal(where, f"whose requirement {without_credentials(line)!r} {problem}")
    try:
        SpecifierSet(listing.python)
    except InvalidSpecifier:
        raise refusal(
            where, f"whose requires-python {listing.python!r} is no specifier; write it as '>=3.11'."
        ) from None
    return listing
