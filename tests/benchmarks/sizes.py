# SPDX-License-Identifier: Apache-2.0
"""Print how much of the package one has to read: ``python -m tests.benchmarks.sizes [CHECKOUT …]``, a column each.

Imports are read from the source, those inside functions included, so a checkout is measured without being installed.
"""

from __future__ import annotations

import ast
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGE = "airflow_provider_jobapi"
SMALL = 60
"""Lines up to which a file counts as small."""

PATH = ("operators.training", "triggers.training", "hooks.jobapi")
"""What "submit and follow on jobAPI" begins with: the operator, its trigger, and the hook that the connection names."""

ROOMS = {"http", "routes", "run", "store", "supervisor", "engines"}
"""Folders below server/ that count as rooms of their own."""


@dataclass(frozen=True)
class Tree:
    """The package in one checkout.

    :ivar files: The path of each module by its dotted name without the package's.
    :ivar lines: Lines of each module.
    :ivar imports: The modules of the package that each module imports.
    """

    files: dict[str, Path]
    lines: dict[str, int]
    imports: dict[str, set[str]]

    @classmethod
    def read(cls, checkout: Path) -> Tree:
        """Read a checkout."""
        base = checkout / PACKAGE
        files = {_name(path.relative_to(base)): path for path in sorted(base.rglob("*.py"))}
        lines = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in files.items()}
        imports = {name: set(_imports(path, files)) - {name} for name, path in files.items()}
        return cls(files, lines, imports)

    def closure(self, names: tuple[str, ...]) -> set[str]:
        """The modules that these import, and those that these import, and so on; without empty ``__init__`` files."""
        found: set[str] = set()
        left = [name for name in names if name in self.files]
        while left:
            name = left.pop()
            if name not in found:
                found.add(name)
                left += self.imports[name]
        return {name for name in found if self.files[name].name != "__init__.py"}


def _name(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(path: Path, files: dict[str, Path]) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith(PACKAGE):
            continue
        module = (node.module or "")[len(PACKAGE) + 1 :]
        for alias in node.names:
            name = f"{module}.{alias.name}".lstrip(".")
            yield name if name in files else module


def _closure_files(tree: Tree) -> int:
    return len(tree.closure(PATH))


def _closure_lines(tree: Tree) -> int:
    return sum(tree.lines[name] for name in tree.closure(PATH))


def _imported_once(tree: Tree) -> int:
    counts = Counter(name for names in tree.imports.values() for name in names)
    return sum(1 for name, count in counts.items() if count == 1 and tree.files[name].name != "__init__.py")


def _small(tree: Tree) -> int:
    return sum(1 for name, path in tree.files.items() if path.name != "__init__.py" and tree.lines[name] <= SMALL)


def _classes_twice(tree: Tree) -> int:
    where = defaultdict(set)
    for name, path in tree.files.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                where[node.name].add(name)
    return sum(1 for modules in where.values() if len(modules) > 1)


def _files_twice(tree: Tree) -> int:
    counts = Counter(path.name for path in tree.files.values() if not path.name.startswith("__"))
    return sum(1 for count in counts.values() if count > 1)


def _server_arrows(tree: Tree) -> int:
    """Imports between two rooms of the server; a file that lies in none is a room of its own."""
    arrows = set()
    for name, imported in tree.imports.items():
        arrows |= {(_room(name), _room(other)) for other in imported if _room(name) and _room(other)}
    return sum(1 for begin, end in arrows if begin != end)


def _server_rooms(tree: Tree) -> int:
    return len({_room(name) for name, path in tree.files.items() if _room(name) and path.name != "__init__.py"})


def _room(name: str) -> str:
    parts = name.split(".")
    if parts[0] != "server" or len(parts) < 2:
        return ""
    rooms = [part for part in parts[1:] if part in ROOMS]
    return rooms[-1] if rooms else parts[1]


def _constants(tree: Tree) -> int:
    """Module-level names in capitals that are numbers."""
    found = 0
    for path in tree.files.values():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                value = node.value
                found += node.targets[0].id.isupper() and all(
                    isinstance(each, ast.Constant | ast.BinOp | ast.UnaryOp | ast.operator | ast.unaryop)
                    and not isinstance(getattr(each, "value", 0), str | bytes | bool | None)
                    for each in ast.walk(value)
                )
    return found


MEASURES: dict[str, Callable[[Tree], int]] = {
    "files of the package": lambda tree: len(tree.files),
    "lines of the package": lambda tree: sum(tree.lines.values()),
    'files to "submit and follow on jobAPI"': _closure_files,
    "    lines of these": _closure_lines,
    "modules imported by exactly one other": _imported_once,
    f"files of at most {SMALL} lines": _small,
    "class names in two or more modules": _classes_twice,
    "file names in two or more folders": _files_twice,
    "rooms of the server": _server_rooms,
    "    arrows between them": _server_arrows,
    "numeric constants of modules": _constants,
}


def main(checkouts: list[str]) -> None:
    """Print a table."""
    trees = [Tree.read(Path(checkout)) for checkout in checkouts]
    for title, measure in MEASURES.items():
        print(f"{title:42}" + "".join(f"{measure(tree):>10,}" for tree in trees))


if __name__ == "__main__":
    main(sys.argv[1:] or ["."])
