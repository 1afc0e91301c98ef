# SPDX-License-Identifier: Apache-2.0
"""Files that a DAG names beside itself: the script, the requirements and the data, or one sentence why not."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.training.entry_point import refuse_notebook, words_of

_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S+")
_PLACE = re.compile(r"(?:/|~\w*/|\$\w+/|\$\{\w+\}/|\.\.?/|\\\\|[A-Za-z]:[\\/]|file:/|[A-Za-z][A-Za-z0-9+.-]*://)\S+")
"""A text that is the name of a file and nothing else."""

_NO_PYTHON = (".sh", ".bash", ".zsh", ".ps1", ".bat", ".ipynb", ".r", ".jl", ".zip", ".whl", ".egg", ".tar", ".gz")
"""Endings of files that Python does not run as a script."""

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
            f"script {line!r} is a command: give the module's folder in source, and -m and the module's name in "
            "entry_point.",
            field="script",
        )
    suffix = Path(line).suffix.lower()
    if suffix in _NO_PYTHON and not re.search(r"[()='\"#;]", line):
        raise _no_python(line)
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
        raise _no_python(str(script))


def _does_nothing(line: str) -> bool:
    """Whether a line is no Python, or names alone; what may be a line of Python 2 is not judged."""
    try:
        body = ast.parse(line).body
    except (SyntaxError, ValueError):
        return not re.match(r"(print|exec)\b", line) and (bool(_COMMAND.match(line)) or not re.search(r"[({=]", line))
    if len(body) != 1 or not isinstance(body[0], ast.Expr):
        return False
    return all(isinstance(node, _BARE) for node in ast.walk(body[0].value))


def _no_python(name: str) -> InvalidJob:
    refuse_notebook("script", name)
    return InvalidJob(f"script {name!r} is not Python: give a .py file, which may start others.", field="script")


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


def check_source(source: Any, entry_point: Any) -> None:
    """Refuse what cannot be a folder of code and its entry point, by their form alone, when a DAG is parsed.

    :raises InvalidJob: saying what to give instead.
    """
    if isinstance(entry_point, str) and entry_point.strip() and "{{" not in entry_point and "{%" not in entry_point:
        words_of(entry_point)
    if isinstance(source, str):
        text = source.strip()
        refuse_notebook("source", text)
        if _URI.fullmatch(text):
            raise InvalidJob(f"source {text!r} is an address: give ObjectStoragePath({text!r}).", field="source")
        if text.lower().endswith(".py") or "\n" in text:
            raise InvalidJob(
                f"source {text[:200]!r} is a script: give it as script, or the name of its folder as source and the "
                "file as entry_point.",
                field="source",
            )
    elif source is not None and not hasattr(source, "open") and not hasattr(source, "iter_references"):
        raise InvalidJob(
            f"source is a {type(source).__name__}; it must be a folder: its name beside the DAG file, a Path or an "
            "ObjectStoragePath.",
            field="source",
        )


def bundle_of(dag: Any) -> Path:
    """The root of the DAG bundle that a DAG file is in; its own folder where Airflow does not say."""
    file, below = Path(dag.fileloc), Path(getattr(dag, "relative_fileloc", None) or "")
    count = len(below.parts)
    known = 0 < count < len(file.parts) and file.parts[-count:] == below.parts
    return Path(*file.parts[:-count]) if known else file.parent


def source_folder(source: Any, folder: Path, bundle: Path) -> Any:
    """The folder of code that is given as a path, or as its name beside the DAG file.

    :param folder: The folder of the DAG file.
    :param bundle: The root of its bundle; a name leads to no folder outside of it.
    :raises InvalidJob: when it cannot be one.
    """
    check_source(source, None)
    return _inside("source", source, folder, bundle) if isinstance(source, str) else beside(source, folder)


def _inside(field: str, name: str, folder: Path, bundle: Path) -> Path:
    place = folder / name.strip()
    if not place.resolve().is_relative_to(bundle.resolve()):
        raise InvalidJob(
            f"{field} {name!r} is outside of the DAG's bundle {bundle}; give it as a Path.",
            field=field,
        )
    return place


def beside(source: Any, folder: Path) -> Any:
    """Make a relative path begin at the DAG file, whatever the worker's working directory is."""
    return folder / source if isinstance(source, Path) and not source.is_absolute() else source


def data_entries(given: Any, folder: Path, bundle: Path) -> list[tuple[str, Any]]:
    """The name and the source of each data file, folder and glob.

    :param given: ``data_input``: an object of names and sources, a path, or a list of paths, whose names are kept.
    :raises InvalidJob: when it is something else.
    """
    if given is None:
        return []
    if isinstance(given, Mapping):
        return [(str(name), beside(source, folder)) for name, source in given.items()]
    paths = list(given) if isinstance(given, Iterable) and not hasattr(given, "open") else [given]
    return [_named(each, folder, bundle) for each in paths]


def _named(path: Any, folder: Path, bundle: Path) -> tuple[str, Any]:
    """A path of a list and its name: as it is written where it is relative, and else its last part."""
    from airflow_provider_jobapi.services.files.data import named

    if isinstance(path, str):
        _inside("data_input", path, folder, bundle)
        path = Path(path.strip())
    if not hasattr(path, "open"):
        raise InvalidJob(
            f"data_input has a {type(path).__name__}: it is an object of names and contents or paths, or a list of "
            "paths.",
            field="data_input",
        )
    return named(path, folder)


def shipped_wheels(requirements: Any, folder: Path) -> tuple[Any, dict[str, Any]]:
    """Name the wheels among requirements, which are given as paths, as files of the job; returns these as well."""
    entries = [requirements] if hasattr(requirements, "open") else requirements
    wheels = {
        each.name: beside(each, folder)
        for each in (entries if isinstance(entries, list | tuple) else ())
        if hasattr(each, "open") and str(getattr(each, "name", "")).lower().endswith(".whl")
    }
    if not wheels:
        return requirements, {}
    return [f"./{each.name}" if getattr(each, "name", None) in wheels else each for each in entries], wheels


def _names_a_file(name: str, text: str) -> bool:
    """Whether a text is a path: by how it begins, or a relative one that ends as the file's own name does."""
    suffix = Path(name).suffix.lower()
    of_the_kind = bool(suffix) and text.lower().endswith(suffix)
    relative = of_the_kind and (re.fullmatch(r"[\w.-]+", text) is not None or "/" in text or "\\" in text)
    return len(text) < 1_000 and (relative or _PLACE.fullmatch(text) is not None)
