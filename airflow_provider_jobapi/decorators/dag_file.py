# SPDX-License-Identifier: Apache-2.0
"""The parsed file of a DAG: its top-level definitions, and the nodes of its functions."""

from __future__ import annotations

import ast
import copy
import linecache
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import FunctionType

from airflow_provider_jobapi.decorators.names import HAVE_A_SCOPE, Scope, binds, part_of
from airflow_provider_jobapi.exceptions import InvalidJob


@dataclass(frozen=True)
class DagFile:
    """The parsed file of a DAG.

    :ivar path: Its path.
    :ivar tree: Its syntax tree.
    """

    path: Path
    tree: ast.Module

    @classmethod
    def of(cls, function: FunctionType) -> DagFile:
        """Parse the file in which a function is defined."""
        path = function.__code__.co_filename
        linecache.checkcache(path)
        lines = linecache.getlines(path, function.__globals__)
        try:
            return cls(Path(path), ast.parse("".join(lines)))
        except (SyntaxError, ValueError):
            raise _changed(function) from None

    @property
    def name(self) -> str:
        """The file's name, for messages."""
        return self.path.name

    @cached_property
    def definitions(self) -> dict[str, list[ast.stmt]]:
        """The top-level statements that bind each name; an import of several names is split."""
        found: dict[str, list[ast.stmt]] = {}
        for statement in self.tree.body:
            for each in _single(statement):
                for name in binds(each):
                    found.setdefault(name, []).append(each)
        return found

    @cached_property
    def registrations(self) -> dict[str, list[ast.stmt]]:
        """The statements that register with each name: functions decorated with a method of it, and subclasses."""
        found: dict[str, list[ast.stmt]] = {}
        subclasses = "subclass" in ast.unparse(self.tree)  # of __init_subclass__ and __subclasses__
        for statement in self.tree.body:
            if not isinstance(statement, HAVE_A_SCOPE):
                continue
            names = {part_of(decorator) for decorator in statement.decorator_list}
            if isinstance(statement, ast.ClassDef) and subclasses:
                names |= {base.id for base in statement.bases if isinstance(base, ast.Name)}
            for name in names:
                found.setdefault(name, []).append(statement)
        return found

    def find(self, function: FunctionType) -> tuple[ast.FunctionDef, list[Scope]]:
        """The node of a function, and the definitions that enclose it."""

        def look(node: ast.AST, around: list[Scope]) -> Iterator[tuple[ast.FunctionDef, list[Scope]]]:
            for child in ast.iter_child_nodes(node):
                if isinstance(child, ast.FunctionDef) and child.name == code.co_name and _first_line(child) == first:
                    yield child, around
                yield from look(child, [*around, child] if isinstance(child, HAVE_A_SCOPE) else around)

        code, first = function.__code__, function.__code__.co_firstlineno
        found = next(look(self.tree, []), None)
        if found is None:
            raise _changed(function)
        return found


def _single(statement: ast.stmt) -> Iterator[ast.stmt]:
    """Split an import of several names, and leave out blocks under ``TYPE_CHECKING``."""
    if isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.unparse(statement.test) and not statement.orelse:
        return
    if not isinstance(statement, ast.Import | ast.ImportFrom):
        yield statement
    elif not (isinstance(statement, ast.ImportFrom) and statement.module == "__future__"):
        for alias in statement.names:
            one = copy.copy(statement)
            one.names = [alias]
            one.col_offset = alias.col_offset
            one.lineno = alias.lineno
            yield one


def _first_line(node: ast.FunctionDef) -> int:
    return min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])


def _changed(function: FunctionType) -> InvalidJob:
    code = function.__code__
    return InvalidJob(
        f"@task.training cannot ship {code.co_name}: {code.co_filename} does not hold its source in line "
        f"{code.co_firstlineno}; define it in a file, and read the file again if it has changed."
    )
