# SPDX-License-Identifier: Apache-2.0
"""Files that a DAG names beside itself: the script, the requirements and the data, or one sentence why not."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

from airflow_provider_jobapi.exceptions import InvalidJob

_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S+")
_PLACE = re.compile(r"(?:/|~\w*/|\$\w+/|\$\{\w+\}/|\.\.?/|\\\\|[A-Za-z]:[\\/]|file:/|[A-Za-z][A-Za-z0-9+.-]*://)\S+")
"""A text that is the name of a file and nothing else."""

_NO_PYTHON = (".sh", ".bash", ".zsh", ".ps1", ".bat", ".ipynb", ".r", ".jl", ".zip", ".whl", ".egg", ".tar", ".gz")
"""Endings of files that Python does not run as a script."""

_REQUIREMENTS = (".txt", ".in", ".toml")

_COMMAND = re.compile(r"(python[0-9.]*|bash|sh|torchrun|accelerate|uv|jupyter)\s")

_BARE = (ast.Name, ast.Attribute, ast.BinOp, ast.UnaryOp, ast.Set, ast.operator, ast.unaryop, ast.expr_context)
"""What a file's name or a template is made of where Python reads it; a line of these alone does nothing."""


def check_script(script: Any) -> None:
    """Refuse what cannot be a script, by its form alone: it is called when the DAG is parsed.

    :raises InvalidJob: when the script is an address, a module, another language, or the result of a task.
    """
    if script is None:
        return
    if not isinstance(script, str):
        _check_object(script)
        return
    line = script.strip()
    if "\n" in line:
        return
    if _URI.fullmatch(line):
        raise InvalidJob(f"script {line!r} is an address: give ObjectStoragePath({line!r}).", field="script")
    if re.match(r"(python[0-9.]*\s+)?-m\s", line):
        raise InvalidJob(
            f"script {line!r} is a command: give a script that calls runpy.run_module(…), and install the package by "
            "requirements.",
            field="script",
        )
    suffix = Path(line).suffix.lower()
    if suffix in _NO_PYTHON and not re.search(r"[()='\"#;]", line):
        raise _no_python(line, suffix)
    if not is_script_file(line) and _does_nothing(line):
        raise InvalidJob(
            f"script {line[:200]!r} is neither Python nor the name of a .py file: give the source text, a Path, or the "
            "name of a .py file beside the DAG file. It is never a template, nor a command.",
            field="script",
        )
    if _COMMAND.match(line) and is_script_file(line):
        raise InvalidJob(
            f"script {line!r} is a command: give the name of the .py file alone, and its arguments in arguments.",
            field="script",
        )


def _check_object(script: Any) -> None:
    if hasattr(script, "iter_references"):
        raise InvalidJob(
            "script cannot be the result of another task: give source text or a path, and pass the result by env "
            "or data_input.",
            field="script",
        )
    if not hasattr(script, "open"):
        raise InvalidJob(
            f"script is a {type(script).__name__}; it must be source text, a Path, or the name of a .py file "
            "beside the DAG file.",
            field="script",
        )
    suffix = str(getattr(script, "suffix", "")).lower()
    if suffix in _NO_PYTHON:
        raise _no_python(str(script), suffix)


def _does_nothing(line: str) -> bool:
    """Whether a line is no Python, or names alone; what may be a line of Python 2 is not judged."""
    try:
        body = ast.parse(line).body
    except (SyntaxError, ValueError):
        return not re.match(r"(print|exec)\b", line) and (bool(_COMMAND.match(line)) or not re.search(r"[({=]", line))
    if len(body) != 1 or not isinstance(body[0], ast.Expr):
        return False
    return all(isinstance(node, _BARE) for node in ast.walk(body[0].value))


def _no_python(name: str, suffix: str) -> InvalidJob:
    advice = "export the notebook as a .py file" if suffix == ".ipynb" else "give a .py file, which may start others"
    return InvalidJob(f"script {name!r} is not Python: {advice}.", field="script")


def is_script_file(script: str) -> bool:
    """Whether a text names a .py file instead of being one."""
    return script.strip().lower().endswith(".py") and "\n" not in script.strip()


def check_data(name: str, source: Any) -> None:
    """Refuse a path given as text, which would be uploaded as the content, and a folder.

    :raises InvalidJob: with the value to give instead.
    """
    field = f"data_input[{name!r}]"
    if isinstance(source, str) and _names_a_file(name, source.strip()) and "\n" not in source:
        kind = "ObjectStoragePath" if _URI.fullmatch(source.strip()) else "Path"
        raise InvalidJob(
            f"{field} is the text {source.strip()!r}, which would be the file's content: give "
            f"{kind}({source.strip()!r}) for the file of this name, or bytes for a file with this text.",
            field=field,
        )
    if isinstance(source, Path) and source.is_dir():
        raise InvalidJob(
            f"{field} is the folder {source}: name its files one by one, such as {{file.name: file for file in "
            f"Path({str(source)!r}).iterdir()}}.",
            field=field,
        )


def _names_a_file(name: str, text: str) -> bool:
    """Whether a text is a path: by how it begins, or a relative one that ends as the file's own name does."""
    suffix = Path(name).suffix.lower()
    of_the_kind = bool(suffix) and text.lower().endswith(suffix)
    relative = of_the_kind and (re.fullmatch(r"[\w.-]+", text) is not None or "/" in text or "\\" in text)
    return len(text) < 1_000 and (relative or _PLACE.fullmatch(text) is not None)


def _requirements_file(line: Any) -> str | None:
    """The file that a line of requirements names, alone or after ``-r``; None where it is a requirement."""
    if not isinstance(line, str):
        return None
    found = re.fullmatch(r"(?:(?:-r\s*|--requirement[\s=]\s*))?([\w./~][\w./~ -]*)", line.strip())
    return found[1] if found and found[1].lower().endswith(_REQUIREMENTS) else None


def requirements_of(given: Any, folder: Path) -> Any:
    """The requirements, read from the file beside the DAG file where a path or one line names it.

    :raises InvalidJob: when the file cannot be read.
    """
    import tomllib

    lines = given.splitlines() if isinstance(given, str) else given
    if isinstance(lines, list | tuple):
        lines = [each for each in lines if not isinstance(each, str) or each.strip()]
        named = [name for each in lines if (name := _requirements_file(each))]
        if len(lines) != 1 or not named:
            if bare := [name for name in named if name in lines]:
                raise InvalidJob(
                    f"requirements has the line {bare[0]!r} among others, which names a file: give "
                    f"Path({bare[0]!r}) alone, or the requirements in it.",
                    field="requirements",
                )
            return given
        given = Path(named[0])
    if not isinstance(given, Path):
        return given
    path = folder / given
    try:
        text = path.read_text(encoding="utf-8-sig")
        return tomllib.loads(text)["project"]["dependencies"] if path.suffix == ".toml" else text
    except OSError as error:
        why = error.strerror or str(error)
    except UnicodeDecodeError:
        why = "it is not UTF-8"
    except (tomllib.TOMLDecodeError, KeyError, TypeError):
        why = "it has no [project] dependencies"
    raise InvalidJob(
        f"requirements names the file {path}, which cannot be read: {why}. Give the requirements themselves, or the "
        "name of a file beside the DAG file.",
        field="requirements",
    )
