# SPDX-License-Identifier: Apache-2.0
"""A folder of code as what a job runs: its files, its entry point, and the requirements that lie in it."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.services.files.folders import Listing, list_folder, repository_of
from airflow_provider_jobapi.services.files.ignored import GITIGNORE, JOBAPIIGNORE, NEVER, Rules
from airflow_provider_jobapi.training.entry_point import (
    find,
    package_folder,
    refuse_notebook_text,
    refuse_relative_imports,
)
from airflow_provider_jobapi.training.job import REQUIREMENTS_NAME, DataPath
from airflow_provider_jobapi.training.parameter_names import named, setting
from airflow_provider_jobapi.training.project_files import of_other_tool
from airflow_provider_jobapi.training.requirement_files import OTHERS, is_conda, requirements_text, script_text
from airflow_provider_jobapi.training.units import count_text, size_text

MOST_BYTES = 500_000_000
"""Bytes of a folder of code; a larger one has data in it, or forgotten models."""

_LARGEST_ENVIRONMENT_FILE = 100_000
"""Bytes of a file of YAML that is looked at as one of conda."""

PROJECT_FILES = ("uv.lock", "pylock.toml", "pyproject.toml")
"""The files that say what a project requires, where neither a requirements.txt nor the script does."""


@dataclass(frozen=True, slots=True)
class Code:
    """A folder of code.

    :ivar files: By their path in the job's working directory.
    :ivar entry_point: As a training job has it; empty where a script beside the folder is run.
    :ivar requirements: What it requires, as the text of a ``requirements.txt``; None where it says nothing.
    :ivar required_by: The file that says so.
    :ivar unread: The file of another program that says what it requires, where nothing else does; and how to make one
        that is read.
    :ivar wheel: The line that installs the code, where that is a wheel; comes after the other requirements.
    :ivar size: Bytes.
    :ivar left_out: What was left out, without what is below it.
    :ivar secrets: Those of them that look like secrets.
    """

    files: Mapping[str, DataPath]
    entry_point: str
    requirements: str | None
    required_by: str
    size: int
    left_out: tuple[str, ...]
    secrets: tuple[str, ...]
    wheel: str = ""
    unread: tuple[str, str] | None = None

    def with_wheel(self, requirements: Any) -> Any:
        """Add the line that installs the code to a job's requirements, a text or a list."""
        lines = requirements.splitlines() if isinstance(requirements, str) else list(requirements or ())
        return [*lines, self.wheel] if self.wheel else requirements

    def summary(self) -> str:
        """What is uploaded and what is left out, in one sentence."""
        if self.wheel:
            return f"the wheel {self.wheel}."
        told = [path for path in self.left_out if path.rpartition("/")[2] not in {*NEVER, GITIGNORE, JOBAPIIGNORE}]
        left_out = f"; left out: {_some(told)}" if told else ""
        required = f"; requirements: those of {self.required_by}" if self.required_by else ""
        return f"{count_text(len(self.files), 'file')}, {size_text(self.size)}{required}{left_out}."

    def warning(self) -> str:
        """What to do about left-out files that look like secrets, and about requirements; empty where all is well."""
        said = []
        if self.secrets:
            said.append(
                f"What looks like a secret is left out: {_some(self.secrets)}. Pass secrets by {named('env_vars')}; "
                f"a line such as '!{self.secrets[0]}' in a {JOBAPIIGNORE} uploads the "
                "file."
            )
        if self.unread:
            name, command = self.unread
            said.append(
                f"No requirements are installed: {name} has them in a form of its own. Make a requirements.txt in the "
                f"folder, by `{command}`, or give {named('requirements')}."
            )
        return " ".join(said)


def read_code(
    root: Any,
    entry_point: str | None,
    *,
    with_script: bool = False,
    with_requirements: bool = False,
    bundle: Path | None = None,
) -> Code:
    """Read a folder of code.

    :param root: A ``Path``, or a path of an object store.
    :param entry_point: As the user names it; None for a usual one.
    :param with_script: Whether a script beside the folder is run, and nothing of it.
    :param with_requirements: Whether the user gives the requirements, in place of those of the folder.
    :param bundle: The root of the DAG bundle that it is in, whose ignore files count as those of a git repository do.
    :raises InvalidJob: when it cannot be a job's code.
    """
    what = f"{named('source')} {root}"
    if str(root.name).lower().endswith(".whl"):
        return _read_wheel(root, (entry_point or "").strip(), with_script=with_script)
    repository = (repository_of(root) or bundle) if isinstance(root, Path) else None
    listing = list_folder(
        root,
        Rules.of_code(),
        what=what,
        most_bytes=MOST_BYTES,
        advice=f"Name what the job does not need in {root}/{JOBAPIIGNORE}, and give data in {named('data')}.",
        repository=repository,
    )
    if not listing.files:
        left_out = f"; left out are {_some(listing.left_out)}" if listing.left_out else ""
        raise InvalidJob(f"{what} has no file for the job{left_out}.", field="source")
    files = {path: file for path, file in listing.files.items() if path != REQUIREMENTS_NAME}
    name = root.resolve().name if isinstance(root, Path) else str(root.name)
    below = package_folder(entry_point, files, name)
    text = ""
    if not with_script and not (entry_point or "").strip().startswith("-m"):
        entry = find(entry_point, files, what)
        text = _text(listing, entry.file or "")
        refuse_notebook_text("entry_point", text)
        refuse_relative_imports(entry, text, name)
        entry_point = str(entry)
    required_by, requirements = ("", None) if with_requirements else _requirements(listing, entry_point, text)
    return Code(
        {f"{below}{path}": file for path, file in files.items()},
        "" if with_script else (entry_point or "").strip(),
        requirements,
        required_by,
        listing.size - listing.sizes.get(REQUIREMENTS_NAME, 0),
        tuple(listing.left_out),
        tuple(listing.secrets),
        unread=None if with_requirements or requirements is not None else _unread(listing),
    )


def _read_wheel(root: Any, entry_point: str, *, with_script: bool) -> Code:
    """A wheel as the code of a job, which installs it."""
    if not with_script and not entry_point.startswith("-m"):
        raise InvalidJob(
            f"source {root} is a wheel: name what of it is run, such as {setting('entry_point', '-m nets.train')}.",
            field="entry_point",
        )
    return Code({root.name: root}, entry_point, None, "", 0, (), (), f"./{root.name}")


def _requirements(listing: Listing, entry_point: str | None, text: str) -> tuple[str, str | None]:
    """The file of a folder that has its requirements, and they; the first of the usual ones.

    :param text: The content of the script that is run, which may have them at its head.
    """
    for name in (REQUIREMENTS_NAME, "", *PROJECT_FILES):
        if not name and (found := script_text(text, entry_point or "")):
            return f"{entry_point} (PEP 723)", found
        if name in listing.files and (name != "pyproject.toml" or _has_dependencies(listing)):
            file: Any = listing.files[name]
            return name, str(requirements_text(file.name, file.parent, "in the folder"))
    return "", None


def _unread(listing: Listing) -> tuple[str, str] | None:
    """The file of another program that says what a folder requires, and the command that makes one that is read."""
    if "pyproject.toml" in listing.files and (other := of_other_tool(_project(listing) or {})):
        return "pyproject.toml", other[1]
    if found := next((name for name in listing.files if name.lower() in OTHERS), None):
        return found, OTHERS[found.lower()]
    for name in listing.files:
        small = "/" not in name and listing.sizes[name] < _LARGEST_ENVIRONMENT_FILE
        if small and name.lower().endswith((".yml", ".yaml")) and is_conda(name, _text(listing, name)):
            return name, OTHERS["environment.yml"]
    return None


def _project(listing: Listing) -> dict[str, Any] | None:
    """The content of a pyproject.toml; None where it cannot be read."""
    try:
        return tomllib.loads(_text(listing, "pyproject.toml"))
    except tomllib.TOMLDecodeError:
        return None


def _has_dependencies(listing: Listing) -> bool:
    """Whether a pyproject.toml is of a project; many hold only the settings of tools."""
    content = _project(listing)
    if content is None:
        return True  # the reader says what is wrong
    project = content.get("project")
    return isinstance(project, dict) and bool(project.get("dependencies"))


def _text(listing: Listing, path: str) -> str:
    place = listing.files[path]
    try:
        with place.open("rb") as file:
            return bytes(file.read()).decode("utf-8", "replace").removeprefix("\ufeff")
    except OSError as error:
        raise InvalidJob(f"{place} cannot be read: {error.strerror or error}.", field="source") from None


def _some(paths: tuple[str, ...] | list[str]) -> str:
    shown = ", ".join(paths[:5])
    return shown if len(paths) <= 5 else f"{shown} and {len(paths) - 5:,} more"
