# SPDX-License-Identifier: Apache-2.0
"""The entry point of a folder of code: the file that Python runs, or the module after ``-m``."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import PurePosixPath

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.training.parameter_names import entry, named, setting

USUAL = ("train.py", "main.py", "__main__.py")
"""The files that are run where no entry point is named, the first that there is."""

_MODULE = re.compile(r"-m\s*((?:[^\W\d]\w*)(?:\.[^\W\d]\w*)*)")
_FORM = "it is the path of a .py file in the folder, such as train.py, or a module, such as -m package.train"


@dataclass(frozen=True, slots=True)
class EntryPoint:
    """What is run of a folder.

    :ivar words: What stands after ``python3``.
    :ivar file: Its file in the folder; None where the module is not of the folder.
    """

    words: tuple[str, ...]
    file: str | None = None

    def __str__(self) -> str:
        return " ".join(self.words)


def convert_notebook(name: str) -> str:
    """The command that makes a script of a notebook."""
    return shlex.join(["jupyter", "nbconvert", "--to", "script", name])


def is_notebook(name: str) -> bool:
    """Whether a name is one of a notebook."""
    return name.strip().lower().endswith(".ipynb")


def refuse_notebook(field: str, name: str) -> None:
    """Refuse the name of a notebook.

    :raises InvalidJob: with the command that makes a script of it.
    """
    if is_notebook(name):
        raise InvalidJob(
            f"{field} {name.strip()!r} is a notebook, which Python does not run: make a script of it with "
            f"`{convert_notebook(name.strip())}`.",
            field=field,
        )


def refuse_notebook_text(field: str, text: str) -> None:
    """Refuse the content of a notebook, which is JSON.

    :raises InvalidJob: with the command that makes a script of it.
    """
    if re.match(r"\s*\{", text) and re.search(r'"nbformat"\s*:\s*\d', text) and '"cells"' in text:
        raise InvalidJob(
            f"{field} is the content of a notebook, which Python does not run: make a script of it with "
            f"`{convert_notebook('NAME.ipynb')}`.",
            field=field,
        )


def words_of(entry_point: str, field: str = "entry_point") -> tuple[str, ...]:
    """What stands after ``python3`` for an entry point.

    :raises InvalidJob: when it cannot be one, whatever the folder holds.
    """
    text = entry_point.strip()
    refuse_notebook(field, text)
    if module := _MODULE.fullmatch(text):
        return "-m", module[1]
    path = text.removeprefix("./")
    parts = PurePosixPath(path).parts
    if not path.endswith(".py") or re.match(r"[/-]|python[0-9.]*\s", path) or ".." in parts or not path.isprintable():
        advice = f" Its arguments belong in {named('arguments')}." if re.search(r"\.py\s|^-m\s*\S+\s", text) else ""
        raise InvalidJob(f"{field} cannot be {text[:200]!r}: {_FORM}.{advice}", field=field)
    return ("/".join(parts),)


def find(entry_point: str | None, files: Collection[str], folder: str, path: str = "") -> EntryPoint:
    """Find the entry point in the files of a folder.

    :param entry_point: As the user names it; None for one of :data:`USUAL`, or the only script.
    :param files: The paths of the files in the folder.
    :param folder: How to call the folder in an error.
    :param path: The variable ``PYTHONPATH`` of the job, whose folders have modules, too.
    :raises InvalidJob: when it is not there.
    """
    if entry_point is None or not entry_point.strip():
        return EntryPoint((usual := _usual(files, folder),), usual)
    words = words_of(entry_point)
    if words[0] == "-m":
        return EntryPoint(words, _module_file(words[1], files, folder, path))
    if words[0] not in files:
        near = sorted(file for file in files if PurePosixPath(file).name == PurePosixPath(words[0]).name)
        advice = f"; did you mean {near[0]}?" if near else ": name one that is there and that no ignore file excludes."
        raise InvalidJob(f"entry_point {words[0]!r} is not among the files of {folder}{advice}", field="entry_point")
    return EntryPoint(words, words[0])


def _usual(files: Collection[str], folder: str) -> str:
    scripts = sorted(file for file in files if "/" not in file and file.endswith(".py") and file != "__init__.py")
    if found := [name for name in USUAL if name in scripts] or (scripts if len(scripts) == 1 else []):
        return found[0]
    notebooks = sorted(file for file in files if is_notebook(file))
    if notebooks and not scripts:
        raise InvalidJob(
            f"entry_point is missing: {folder} has no script, but the notebook {notebooks[0]}: make a script of it "
            f"with `{convert_notebook(notebooks[0])}`, and name it in {named('entry_point')}.",
            field="entry_point",
        )
    there = f", and the folder has {_some(scripts)}" if scripts else ""
    raise InvalidJob(
        f"entry_point is missing: {folder} has no train.py, main.py or __main__.py{there}. Name the file to run, or a "
        "module, such as -m package.train.",
        field="entry_point",
    )


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"


def _module_file(module: str, files: Collection[str], folder: str, path: str) -> str | None:
    """The file of a module; None where its top package is not of the folder, but installed."""
    place, top = module.replace(".", "/"), module.split(".", maxsplit=1)[0]
    chosen = entry("entry_point", f"-m {module}")
    roots = ["", *(f"{root.strip('/').removeprefix('./')}/" for root in path.split(":") if root.strip("./"))]
    for root in roots:
        for name in (f"{root}{place}.py", f"{root}{place}/__main__.py"):
            if name in files:
                return name
        if f"{root}{place}/__init__.py" in files:
            raise InvalidJob(
                f"{chosen} is a package without a __main__.py in {folder}: name a module of it, such "
                f"as -m {module}.train.",
                field="entry_point",
            )
    if any(f"src/{place}{end}" in files for end in (".py", "/__main__.py", "/__init__.py")):
        raise InvalidJob(
            f"{chosen} is in the folder src of {folder}, where Python does not look: add "
            f"{setting('env_vars', 'PYTHONPATH', 'src')}.",
            field="entry_point",
        )
    if any(file == f"{root}{top}.py" or file.startswith(f"{root}{top}/") for root in roots for file in files):
        raise InvalidJob(
            f"{chosen} is not among the files of {folder}: there is neither {place}.py nor {place}/__main__.py.",
            field="entry_point",
        )
    return None


def package_folder(entry_point: str | None, files: Collection[str], folder_name: str) -> str:
    """The folder below the working directory in which a folder lies that is a package itself; empty for others.

    A folder ``project`` with a ``train.py`` that imports relatively is run as ``-m project.train``.
    """
    module = _MODULE.fullmatch((entry_point or "").strip())
    if module is None:
        return ""
    top, _, rest = module[1].partition(".")
    own = any(file == f"{top}.py" or file.startswith((f"{top}/", f"src/{top}/")) for file in files)
    place = rest.replace(".", "/")
    wanted = {f"{place}.py", f"{place}/__main__.py"} if rest else {"__main__.py"}
    return f"{top}/" if top == folder_name and not own and wanted & set(files) else ""


def refuse_relative_imports(entry: EntryPoint, text: str, folder_name: str) -> None:
    """Refuse a file whose relative imports fail where it is run by its path.

    :param text: Its content; one that this Python cannot read is not judged.
    :param folder_name: The folder's own name.
    :raises InvalidJob: with the entry point to name.
    """
    if entry.words[0] == "-m" or entry.file is None:
        return
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return
    # Not those in a try, which such scripts have for both ways of running them.
    line = next((node.lineno for node in tree.body if isinstance(node, ast.ImportFrom) and node.level), None)
    if line is None:
        return
    parts = PurePosixPath(entry.file).with_suffix("").parts
    parts = parts if len(parts) > 1 else (folder_name, *parts)
    advice = f"give {setting('entry_point', '-m ' + '.'.join(parts).removesuffix('.__main__'))}"
    if not all(part.isidentifier() for part in parts):
        advice = "give the folders names that Python can import, and name what is run as -m package.module"
    raise InvalidJob(
        f"entry_point {entry.file!r} has a relative import in line {line}, which works only in a module of a package: "
        f"{advice}.",
        field="entry_point",
    )
