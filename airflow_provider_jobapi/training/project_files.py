# SPDX-License-Identifier: Apache-2.0
"""The requirements of a ``pyproject.toml``, and of the block of PEP 723 at the head of a script."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.training.lock_files import check_groups, local_package, refusal
from airflow_provider_jobapi.training.requirement_text import Listing, canonical_name

_REQUIREMENT = re.compile(
    r"\s*(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)\s*(?P<extras>\[[^\]]*\])?(?P<version>[^;@]*)(?P<rest>.*)", re.DOTALL
)
_OTHER_TABLES = {
    "poetry.dependencies": "poetry export -o requirements.txt",
    "poetry.group": "poetry export -o requirements.txt",
    "pdm.dev-dependencies": "pdm export -o requirements.txt",
    "hatch.envs.default.dependencies": "hatch dep show requirements > requirements.txt",
    "pixi.dependencies": "pip freeze > requirements.txt",
    "pixi.pypi-dependencies": "pip freeze > requirements.txt",
}
"""The tables below ``[tool]`` in which other tools keep dependencies, and what exports these."""

_BLOCK = re.compile(r"(?m)^# /// (?P<type>[a-zA-Z0-9-]+)[ \t]*$\s(?P<content>(^#(| .*)$\s)+)^# ///[ \t]*$")
"""A block of metadata, by the expression that PEP 723 gives."""

ReadBeside = Callable[[str], str]
"""Reads the requirements of a file beside the project file."""


def from_project(content: Mapping[str, Any], groups: Sequence[str], where: str, read: ReadBeside) -> Listing:
    """Read a ``pyproject.toml``: ``[project] dependencies``, and the extras and dependency groups that are wanted.

    :param where: The file, for messages.
    :param read: Reads a file that setuptools takes the dependencies from.
    :raises InvalidJob: when it has no dependencies that can be read.
    """
    project = content.get("project")
    if not isinstance(project, dict):
        raise refusal(where, f"which cannot be read: {_why_no_project(content)}.")
    tables = _Tables(content, project, where, read)
    lines = tables.dependencies(groups)
    return _with_sources(lines, content, str(project.get("requires-python", "")), where)


def of_other_tool(content: Mapping[str, Any]) -> tuple[str, str] | None:
    """The table of another tool that has dependencies, and the command that exports them; None where there is none."""
    tools = content.get("tool")
    for path, command in _OTHER_TABLES.items():
        found: Any = tools
        for name in path.split("."):
            found = found.get(name) if isinstance(found, dict) else None
        if found:
            return f"tool.{path.partition('.')[0]}", command
    return None


def _why_no_project(content: Mapping[str, Any]) -> str:
    if other := of_other_tool(content):
        return (
            f"it has no [project] dependencies, and those of [{other[0]}] have a form of their own; export them with "
            f"`{other[1]}`"
        )
    return "it has no [project] dependencies"


class _Tables:
    """The dependencies of a project by extra and group."""

    def __init__(self, content: Mapping[str, Any], project: Mapping[str, Any], where: str, read: ReadBeside) -> None:
        self._content = content
        self._project = project
        self._where = where
        self._read = read
        self._groups: Mapping[str, Any] = content.get("dependency-groups", {})
        self._dynamic: Mapping[str, Any] = content.get("tool", {}).get("setuptools", {}).get("dynamic", {})
        self._seen: set[str] = set()

    def dependencies(self, groups: Sequence[str]) -> list[str]:
        """The dependencies, and those of the extras and groups."""
        lines = self._own(required=not groups)
        extras = self._extras()
        check_groups(groups, [*extras, *self._groups], self._where)
        for group in groups:
            lines += self._of_extra(group) if group in extras else self._of_group(group)
        return [each for line in lines for each in self._without_itself(line)]

    def _own(self, *, required: bool) -> list[str]:
        if "dependencies" in self._project:
            return _texts(self._project["dependencies"], self._where)
        if "dependencies" in self._project.get("dynamic", []):
            if found := self._of_setuptools("dependencies"):
                return found
            raise refusal(
                self._where,
                "whose dependencies are dynamic: only the program that builds the project knows them; lock them with "
                "`uv lock` and give Path('uv.lock').",
            )
        if required:
            raise refusal(self._where, "which cannot be read: it has no [project] dependencies.")
        return []

    def _extras(self) -> dict[str, Any]:
        return {**self._dynamic.get("optional-dependencies", {}), **self._project.get("optional-dependencies", {})}

    def _of_extra(self, name: str) -> list[str]:
        if name in self._project.get("optional-dependencies", {}):
            return _texts(self._project["optional-dependencies"][name], self._where)
        return self._of_files(self._dynamic["optional-dependencies"][name])

    def _of_group(self, name: str) -> list[str]:
        if name in self._seen:
            raise refusal(self._where, f"in which the dependency group {name!r} includes itself.")
        self._seen.add(name)
        lines: list[str] = []
        for each in self._groups[name]:
            if isinstance(each, dict):
                included = str(each.get("include-group", ""))
                check_groups([included], self._groups, self._where)
                lines += self._of_group(included)
            else:
                lines.append(str(each))
        self._seen.discard(name)
        return lines

    def _of_setuptools(self, what: str) -> list[str]:
        return self._of_files(self._dynamic[what]) if what in self._dynamic else []

    def _of_files(self, given: Mapping[str, Any]) -> list[str]:
        named = given.get("file", [])
        return [
            line for name in ([named] if isinstance(named, str) else named) for line in self._read(name).splitlines()
        ]

    def _without_itself(self, line: str, depth: int = 0) -> list[str]:
        """Put the extras that the project asks of itself in the place of ``project[extra]``."""
        matched = _REQUIREMENT.fullmatch(line)
        own = canonical_name(str(self._project.get("name", "")))
        if (
            not matched
            or canonical_name(matched["name"]) != own
            or not matched["extras"]
            or depth > len(self._extras())
        ):
            return [line]
        asked = [each.strip() for each in matched["extras"][1:-1].split(",") if each.strip()]
        check_groups(asked, self._extras(), self._where)
        return [
            each for extra in asked for line in self._of_extra(extra) for each in self._without_itself(line, depth + 1)
        ]


def _texts(given: Any, where: str) -> list[str]:
    if not isinstance(given, list) or not all(isinstance(each, str) for each in given):
        raise refusal(where, "which cannot be read: it has no [project] dependencies, a list of texts.")
    return given


def _with_sources(lines: list[str], content: Mapping[str, Any], python: str, where: str) -> Listing:
    """Apply ``[tool.uv]``: constraints, and the index, the repository or the address of some packages."""
    uv = content.get("tool", {}).get("uv", {})
    sources = {canonical_name(name): given for name, given in uv.get("sources", {}).items()}
    addresses = {each.get("name"): each.get("url") for each in uv.get("index", [])}
    listing = Listing(python=python, constraints=_texts(uv.get("constraint-dependencies", []), where))
    for line in lines:
        matched = _REQUIREMENT.fullmatch(line)
        given = sources.get(canonical_name(matched["name"])) if matched else None
        for source in [] if given is None else given if isinstance(given, list) else [given]:
            if matched and {"git", "url"} & source.keys():
                name = matched["name"] + (matched["extras"] or "")
                line = f"{name} @ {_address(source)} {matched['rest']}".rstrip()  # noqa: PLW2901
            elif matched and {"path", "workspace"} & source.keys():
                raise local_package(where, matched["name"], source.get("path", "of the workspace"))
            elif index := source.get("index"):
                listing.indexes.append(addresses.get(index) or index)
        listing.lines.append(line)
    return listing


def _address(source: Mapping[str, Any]) -> str:
    if "url" in source:
        return str(source["url"])
    version = next((source[name] for name in ("rev", "tag", "branch") if name in source), None)
    folder = f"#subdirectory={source['subdirectory']}" if "subdirectory" in source else ""
    return f"git+{source['git']}" + (f"@{version}" if version else "") + folder


def script_requirements(script: str, where: str = "the script") -> Listing | None:
    """Read the block of PEP 723 at the head of a script; None where it has none.

    :param where: The script, for messages.
    :raises InvalidJob: when there are two blocks, or the one is not TOML or not as PEP 723 says.
    """
    if "# /// script" not in script:
        return None
    found = [each for each in _BLOCK.finditer(script.replace("\r\n", "\n")) if each["type"] == "script"]
    if not found:
        return None
    if len(found) > 1:
        raise InvalidJob(f"{where} has {len(found)} blocks '# /// script' (PEP 723); keep one.", field="requirements")
    text = "".join(
        line[2:] if line.startswith("# ") else line[1:] for line in found[0]["content"].splitlines(keepends=True)
    )
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidJob(
            f"The block '# /// script' (PEP 723) of {where} is not TOML: {error}.", field="requirements"
        ) from None
    lines = content.get("dependencies", [])
    if not isinstance(lines, list) or not all(isinstance(each, str) for each in lines):
        raise InvalidJob(
            f"The block '# /// script' (PEP 723) of {where} has dependencies that are no list of texts.",
            field="requirements",
        )
    return _with_sources(lines, content, str(content.get("requires-python", "")), where)
