# SPDX-License-Identifier: Apache-2.0
"""From a function to a script: its own source and the definitions that it uses, cut out of its file by their nodes.

What travels: the function without its decorators; the functions, classes, imports and constants at the top level of its
file that it uses, and what these use in turn. A constant is a name that is bound once, to an expression of literals and
other constants. Everything else is refused by name, where the DAG file is read.

Annotations of functions travel as text and are never evaluated, so the names in them need nothing.
"""

from __future__ import annotations

import ast
import builtins
import copy
import inspect
import linecache
import symtable
import sys
import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import FunctionType
from typing import Any

from airflow_provider_jobapi.exceptions import InvalidJob

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef

_HAVE_A_SCOPE = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_OF_EVERY_MODULE = {*dir(builtins), "__name__", "__file__", "__doc__"}
_OF_A_CONSTANT = (
    *(ast.Constant, ast.Name, ast.Tuple, ast.List, ast.Set, ast.Dict, ast.JoinedStr, ast.FormattedValue),
    *(ast.UnaryOp, ast.BinOp, ast.unaryop, ast.operator, ast.expr_context),
)


def script_of(function: Callable[..., Any]) -> str:
    """The source text of a module that defines the function and all that it uses.

    :raises InvalidJob: when the function, or something that it uses, cannot travel; names it and says what to do.
    """
    checked = _checked(function)
    name = checked.__code__.co_name
    file = _File.of(checked)
    node, around = file.find(checked)
    own = copy.copy(node)
    own.decorator_list = []
    local = {bound: scope.name for scope in around for bound in _bound_inside(scope)}
    parts = _Parts(file, name)
    for used in sorted(_names(own) - {name}):
        if used in local:
            raise InvalidJob(
                f"{name} uses {used}, a variable of {local[used]} around it, which does not travel to the job "
                f"service: make it an argument of {name}, or define it at the top level of {file.name}."
            )
        parts.add(used, name)
    head = f"# The function {name} of {file.name}, line {node.lineno}, and what it uses; made by @task.training.\n"
    return "".join([head, "from __future__ import annotations\n", *map(_text, [*parts.in_order(), own])])


def _checked(function: Callable[..., Any]) -> FunctionType:
    """The function, when it is of a kind that can be a script."""
    name = getattr(function, "__qualname__", type(function).__name__)
    scope, _, short = name.rpartition(".")
    problem = None
    if inspect.ismethod(function) or (scope and not scope.endswith("<locals>")):
        problem = "a method; write it as a function outside of the class"
    elif not isinstance(function, FunctionType):
        problem = "not a function written with def"
    elif function.__code__.co_name == "<lambda>":
        problem = "a lambda; write it with def and a name"
    elif hasattr(function, "__wrapped__"):
        problem = "wrapped by another decorator, which does not travel; take that off, or use it on a function within"
    elif inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        problem = "an async function; write it with def and call asyncio.run(…) inside"
    elif inspect.isgeneratorfunction(function):
        problem = "a generator, which a script cannot be; take the yield out"
    if problem:
        raise InvalidJob(f"@task.training cannot ship {short or name}: it is {problem}.")
    return function  # type: ignore[return-value]


@dataclass(frozen=True)
class _File:
    """The file of a DAG.

    :ivar path: Where it is.
    :ivar tree: What stands in it.
    """

    path: Path
    tree: ast.Module

    @classmethod
    def of(cls, function: FunctionType) -> _File:
        path = function.__code__.co_filename
        linecache.checkcache(path)
        lines = linecache.getlines(path, function.__globals__)
        try:
            return cls(Path(path), ast.parse("".join(lines)))
        except (SyntaxError, ValueError):
            raise _changed(function) from None

    @property
    def name(self) -> str:
        return self.path.name

    @cached_property
    def definitions(self) -> dict[str, list[ast.stmt]]:
        """By name, the statements of the top level that bind it; an import of several names is taken apart."""
        found: dict[str, list[ast.stmt]] = {}
        for statement in self.tree.body:
            for each in _single(statement):
                for name in _bound(each):
                    found.setdefault(name, []).append(each)
        return found

    def find(self, function: FunctionType) -> tuple[ast.FunctionDef, list[Definition]]:
        """The node of a function, and the definitions around it."""

        def look(node: ast.AST, around: list[Definition]) -> Iterator[tuple[ast.FunctionDef, list[Definition]]]:
            for child in ast.iter_child_nodes(node):
                if isinstance(child, ast.FunctionDef) and child.name == code.co_name and _first_line(child) == first:
                    yield child, around
                yield from look(child, [*around, child] if isinstance(child, _HAVE_A_SCOPE) else around)

        code, first = function.__code__, function.__code__.co_firstlineno
        found = next(look(self.tree, []), None)
        if found is None:
            raise _changed(function)
        return found


class _Parts:
    """The definitions of a file that a function uses.

    :param function: The name of the function.
    """

    def __init__(self, file: _File, function: str) -> None:
        self._file = file
        self._function = function
        self._taken: dict[str, list[ast.stmt]] = {}

    def in_order(self) -> list[ast.stmt]:
        """The definitions in the order of the file, which is the one in which they can be evaluated."""
        taken = [statement for statements in self._taken.values() for statement in statements]
        return sorted(taken, key=lambda statement: (statement.lineno, statement.col_offset))

    def add(self, name: str, path: str) -> None:
        """Take a name's definition and, in turn, what that uses.

        :param path: Who uses it, for the error.
        """
        statements = self._file.definitions.get(name, [])
        if name in self._taken or (not statements and name in _OF_EVERY_MODULE):
            return
        problem = self._problem(statements)
        if problem:
            raise InvalidJob(f"{path} uses {name}, {problem}")
        self._taken[name] = statements
        for statement in statements:
            for used in sorted(_names(statement) - {name}):
                self.add(used, f"{path}, through {name}," if path == self._function else path)

    def _problem(self, statements: list[ast.stmt]) -> str | None:
        """Why a definition cannot travel, and what to do."""
        function, file = self._function, self._file.name
        if not statements:
            return f"which {file} does not define at its top level: make it an argument of {function}, or define it."
        if all(isinstance(each, ast.Import | ast.ImportFrom) for each in statements):
            return next(filter(None, (self._import_problem(each) for each in statements)), None)
        if len(statements) > 1:
            return f"which {file} binds {len(statements)} times: bind it once, or make it an argument of {function}."
        if isinstance(statements[0], _HAVE_A_SCOPE) or _is_constant(statements[0]):
            return None
        if isinstance(statements[0], ast.Assign | ast.AnnAssign):
            return (
                f"whose value is made when {file} is read and does not travel: make it an argument of {function}, or "
                f"make it inside {function}."
            )
        return (
            f"which {file} binds inside another statement, such as with, if or try: bind it at the top level, or "
            f"inside {function}."
        )

    def _import_problem(self, statement: ast.stmt) -> str | None:
        module = statement.module if isinstance(statement, ast.ImportFrom) else None
        names = [module or ""] if isinstance(statement, ast.ImportFrom) else [each.name for each in _aliases(statement)]
        top = names[0].partition(".")[0]
        if top in {"airflow", "airflow_provider_jobapi"}:
            return (
                f"which comes from {names[0]}, and the job service has no Airflow: make what {self._function} needs "
                f"of it an argument of {self._function}."
            )
        if getattr(statement, "level", 0) or self._is_beside(top):
            return (
                f"which is imported from a file beside {self._file.name}, and that does not travel by itself: define "
                f"it in {self._file.name}, or give the file in data_input and import it inside {self._function}."
            )
        return None

    def _is_beside(self, module: str) -> bool:
        """Whether a module is a file of the DAGs' folder, and not one that pip has installed."""
        origin = getattr(sys.modules.get(module), "__file__", None)
        if not origin:
            return False
        path = Path(origin).resolve()
        installed = [Path(sysconfig.get_path(each)).resolve() for each in ("stdlib", "purelib", "platlib")]
        if any(path.is_relative_to(each) for each in installed) or "site-packages" in path.parts:
            return False
        return path.is_relative_to(self._file.path.parent.resolve())


def _single(statement: ast.stmt) -> Iterator[ast.stmt]:
    """An import of several names as imports of one; every other statement as it is."""
    if not isinstance(statement, ast.Import | ast.ImportFrom):
        yield statement
    elif not (isinstance(statement, ast.ImportFrom) and statement.module == "__future__"):
        for alias in statement.names:
            one = copy.copy(statement)
            one.names = [alias]
            one.col_offset = alias.col_offset
            one.lineno = alias.lineno
            yield one


def _aliases(statement: ast.stmt) -> list[ast.alias]:
    return statement.names if isinstance(statement, ast.Import | ast.ImportFrom) else []


def _is_constant(statement: ast.stmt) -> bool:
    """Whether a statement binds one name to an expression without calls and attributes."""
    target: ast.expr
    value: ast.expr | None
    if isinstance(statement, ast.AnnAssign):
        target, value = statement.target, statement.value
    elif isinstance(statement, ast.Assign) and len(statement.targets) == 1:
        target, value = statement.targets[0], statement.value
    else:
        return False
    whole = value is not None and all(isinstance(each, _OF_A_CONSTANT) for each in ast.walk(value))
    return isinstance(target, ast.Name) and whole


def _names(node: ast.stmt) -> set[str]:
    """The global names that a statement uses, when it is run and when what it defines is called."""
    bare = _WithoutAnnotations().visit(copy.deepcopy(node))
    table = symtable.symtable(ast.unparse(bare), "<job>", "exec")
    top = {each.get_name() for each in table.get_symbols() if each.is_referenced()}
    inside = {each.get_name() for child in _scopes(table) for each in child.get_symbols() if each.is_global()}
    # A class body is another matter: dataclasses and pydantic read its annotations.
    fields = (
        name.id
        for scope in ast.walk(node)
        if isinstance(scope, ast.ClassDef)
        for field in scope.body
        if isinstance(field, ast.AnnAssign)
        for name in ast.walk(field.annotation)
        if isinstance(name, ast.Name)
    )
    return (top | inside | set(fields)) - _bound(node)


def _scopes(table: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    for child in table.get_children():
        yield child
        yield from _scopes(child)


def _bound(statement: ast.stmt) -> set[str]:
    """The names that a statement binds where it stands."""
    table = symtable.symtable(ast.unparse(statement), "<job>", "exec")
    return {each.get_name() for each in table.get_symbols() if each.is_assigned() or each.is_imported()}


def _bound_inside(scope: Definition) -> set[str]:
    """The names that are a function's own."""
    own = copy.copy(scope)
    own.decorator_list = []
    table = symtable.symtable(ast.unparse(own), "<job>", "exec")
    return {
        each.get_name()
        for child in table.get_children()
        if child.get_name() == scope.name
        for each in child.get_symbols()
        if each.is_local()
    }


class _WithoutAnnotations(ast.NodeTransformer):
    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        node.annotation = ast.Constant(None)
        return self.generic_visit(node)


def _first_line(node: ast.FunctionDef) -> int:
    return min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])


def _text(statement: ast.stmt) -> str:
    text = ast.unparse(statement)
    return f"\n\n{text}\n" if isinstance(statement, _HAVE_A_SCOPE) else f"{text}\n"


def _changed(function: FunctionType) -> InvalidJob:
    code = function.__code__
    return InvalidJob(
        f"@task.training cannot ship {code.co_name}: {code.co_filename} does not hold its source in line "
        f"{code.co_firstlineno}; define it in a file, and read the file again if it has changed."
    )
