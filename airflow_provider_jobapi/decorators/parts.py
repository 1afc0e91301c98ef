# SPDX-License-Identifier: Apache-2.0
"""Collect the definitions of a DAG file that a function uses, and refuse those that cannot be shipped."""

from __future__ import annotations

import ast
import builtins
import sys
import sysconfig
from pathlib import Path
from typing import Any

from airflow_provider_jobapi.decorators.dag_file import DagFile
from airflow_provider_jobapi.decorators.names import HAVE_A_SCOPE, changes, in_annotations, uses
from airflow_provider_jobapi.exceptions import InvalidJob

_DIFFERENT_IN_JOB = {"__file__", "__doc__", "__spec__", "__package__", "__loader__"}
_OF_EVERY_MODULE = {*dir(builtins), "__name__"} - _DIFFERENT_IN_JOB
_IMPORTS = (ast.Import, ast.ImportFrom)
_DEFINITIONS = (*HAVE_A_SCOPE, getattr(ast, "TypeAlias", ast.ClassDef))  # ``type X = …`` from Python 3.12 on
_OF_A_CONSTANT = (
    *(ast.Constant, ast.Name, ast.Tuple, ast.List, ast.Set, ast.Dict, ast.JoinedStr, ast.FormattedValue),
    *(ast.UnaryOp, ast.BinOp, ast.unaryop, ast.operator, ast.expr_context),
)


class Parts:
    """The definitions of a file that a function uses.

    :param function: The name of the function.
    """

    def __init__(self, file: DagFile, function: str) -> None:
        self._file = file
        self._function = function
        self._taken: dict[str, list[ast.stmt]] = {}
        self._in_annotations: set[str] = set()

    def in_order(self) -> list[ast.stmt]:
        """The definitions in the order of the file, in which they can be evaluated."""
        taken = {id(each): each for statements in self._taken.values() for each in statements}
        self._refuse_changes(set(taken))
        # Annotations may be evaluated, as by singledispatch, and then need what they name; mostly they need nothing.
        optional = [
            ast.copy_location(_optional(statement), statement)
            for name in self._in_annotations - set(self._taken)
            for statement in self._file.definitions.get(name, [])
            if isinstance(statement, _IMPORTS) and not self._import_problem(statement)
        ]
        return sorted([*taken.values(), *optional], key=lambda statement: (statement.lineno, statement.col_offset))

    def follow(self, statement: ast.stmt, path: str) -> None:
        """Add what a statement uses and, in turn, what that uses.

        :param path: The name of the statement, for the error.
        """
        needed = uses(statement, fields=False)
        # A field's type that the file does not define at its top level is only for the type checker.
        fields = {each for each in uses(statement, fields=True) - needed if each in self._file.definitions}
        for name in sorted(needed | fields):
            self._add(name, path)
        self._in_annotations |= in_annotations(statement)

    def _add(self, name: str, path: str) -> None:
        statements = self._file.definitions.get(name, [])
        if name in self._taken or (not statements and name in _OF_EVERY_MODULE):
            return
        problem = self._problem(name, statements)
        if problem:
            raise InvalidJob(f"{path} uses {name}, {problem}")
        if not isinstance(statements[0], _IMPORTS):
            statements = [*statements, *self._file.registrations.get(name, [])]
        self._taken[name] = statements
        via = f"{path}, through {name}," if path == self._function else path
        for statement in statements:
            self.follow(statement, via)
            if isinstance(statement, ast.ClassDef):  # a subclass, which may have subclasses
                self._add(statement.name, via)

    def _problem(self, name: str, statements: list[ast.stmt]) -> str | None:
        """Why a definition cannot be shipped, and what to do; None where it can."""
        imports = [each for each in statements if isinstance(each, _IMPORTS)]
        if imports and len(imports) == len(statements):
            return next(filter(None, map(self._import_problem, imports)), None)
        if statements and all(isinstance(each, _DEFINITIONS) for each in statements):
            return None
        if len(statements) == 1 and _is_constant(statements[0]):
            return None
        return self._advice(name, statements)

    def _advice(self, name: str, statements: list[ast.stmt]) -> str:
        function, file = self._function, self._file.name
        if not statements and name in _DIFFERENT_IN_JOB:
            return f"which has another value on the job service: pass what you need of it as an argument of {function}."
        if not statements:
            return f"which {file} does not define at its top level: make it an argument of {function}, or define it."
        if len(statements) > 1:
            return f"which {file} binds {len(statements)} times: bind it once, or make it an argument of {function}."
        if isinstance(statements[0], ast.Assign | ast.AnnAssign):
            return (
                f"whose value is computed when {file} is read and cannot be shipped: make it an argument of "
                f"{function}, or make it inside {function}."
            )
        return (
            f"which {file} binds inside another statement, such as with, if or try: bind it at the top level, or "
            f"inside {function}."
        )

    def _import_problem(self, statement: ast.Import | ast.ImportFrom) -> str | None:
        module = (statement.module or "") if isinstance(statement, ast.ImportFrom) else statement.names[0].name
        if module.partition(".")[0] in {"airflow", "airflow_provider_jobapi"}:
            return (
                f"which comes from {module}, and the job service has no Airflow: make what {self._function} needs "
                f"of it an argument of {self._function}."
            )
        if getattr(statement, "level", 0) or self._is_own_module(module):
            return (
                f"which is imported from a file of your own that is not shipped: define it in "
                f"{self._file.name}, or give its folder in source and import it inside {self._function}."
            )
        return None

    def _is_own_module(self, module: str) -> bool:
        """Whether a module is found in the folder of the DAGs or on PYTHONPATH, and not installed by pip."""
        spec: Any = getattr(sys.modules.get(module), "__spec__", None)
        if spec is None:
            return False
        # A namespace package has no file, only directories.
        places: list[Any] = [spec.origin] if spec.has_location else [*(spec.submodule_search_locations or ())]
        roots = [path.resolve() for path in (self._file.path.parent, *map(Path, sys.path))]
        return any(
            not _is_installed(path) and any(path.is_relative_to(root) for root in roots)
            for path in (Path(place).resolve() for place in places)
        )

    def _refuse_changes(self, taken: set[int]) -> None:
        """Refuse what the file changes after its definition: only the definition is shipped."""
        own = {name for name, statements in self._taken.items() if not isinstance(statements[0], _IMPORTS)}
        for statement in self._file.tree.body:
            for name, line in changes(statement) if id(statement) not in taken else ():
                if name in own:
                    raise InvalidJob(
                        f"{self._function} uses {name}, which {self._file.name} changes in line {line}, and that is "
                        f"not shipped: put the change into the definition of {name}, or make it inside "
                        f"{self._function}."
                    )


def _is_installed(path: Path) -> bool:
    installed = (Path(sysconfig.get_path(each)).resolve() for each in ("stdlib", "purelib", "platlib"))
    return any(path.is_relative_to(each) for each in installed) or bool(
        {"site-packages", "dist-packages"} & set(path.parts)
    )


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
    constant = value is not None and all(isinstance(each, _OF_A_CONSTANT) for each in ast.walk(value))
    return isinstance(target, ast.Name) and constant


def _optional(statement: ast.stmt) -> ast.Try:
    nothing = ast.ExceptHandler(ast.Name("Exception", ast.Load()), None, [ast.Pass()])
    return ast.Try([statement], [nothing], [], [])
