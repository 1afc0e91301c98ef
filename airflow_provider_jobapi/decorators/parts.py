# SPDX-License-Identifier: Apache-2.0
"""What of a DAG file travels with a function, and why the rest does not."""

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

_ANOTHER_THERE = {"__file__", "__doc__", "__spec__", "__package__", "__loader__"}
_OF_EVERY_MODULE = {*dir(builtins), "__name__"} - _ANOTHER_THERE
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
        """The definitions in the order of the file, which is the one in which they can be evaluated."""
        taken = {id(each): each for statements in self._taken.values() for each in statements}
        self._refuse_changes(set(taken))
        # Annotations may be evaluated, as by singledispatch, and then need what they name; mostly they need nothing.
        spare = [
            ast.copy_location(_tried(statement), statement)
            for name in self._in_annotations - set(self._taken)
            for statement in self._file.definitions.get(name, [])
            if isinstance(statement, _IMPORTS) and not self._import_problem(statement)
        ]
        return sorted([*taken.values(), *spare], key=lambda statement: (statement.lineno, statement.col_offset))

    def follow(self, statement: ast.stmt, path: str) -> None:
        """Take what a statement uses and, in turn, what that uses.

        :param path: Who uses it, for the error.
        """
        needed = uses(statement, fields=False)
        # A field's type that the file does not define at its top level is for the type checker alone.
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
        """Why a definition cannot travel, and what to do."""
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
        if not statements and name in _ANOTHER_THERE:
            return f"which is another one on the job service: pass what you need of it as an argument of {function}."
        if not statements:
            return f"which {file} does not define at its top level: make it an argument of {function}, or define it."
        if len(statements) > 1:
            return f"which {file} binds {len(statements)} times: bind it once, or make it an argument of {function}."
        if isinstance(statements[0], ast.Assign | ast.AnnAssign):
            return (
                f"whose value is made when {file} is read and does not travel: make it an argument of {function}, or "
                f"make it inside {function}."
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
        if getattr(statement, "level", 0) or self._is_yours(module):
            return (
                f"which is imported from a file of yours, and that does not travel by itself: define it in "
                f"{self._file.name}, or give the file in data_input and import it inside {self._function}."
            )
        return None

    def _is_yours(self, module: str) -> bool:
        """Whether a module is found because of where the DAGs lie, and not because pip has installed it."""
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
        """Refuse what the file changes after its definition: nothing but the definition travels."""
        own = {name for name, statements in self._taken.items() if not isinstance(statements[0], _IMPORTS)}
        for statement in self._file.tree.body:
            for name, line in changes(statement) if id(statement) not in taken else ():
                if name in own:
                    raise InvalidJob(
                        f"{self._function} uses {name}, which {self._file.name} changes in line {line}, and that does "
                        f"not travel: put the change into the definition of {name}, or make it inside "
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
    whole = value is not None and all(isinstance(each, _OF_A_CONSTANT) for each in ast.walk(value))
    return isinstance(target, ast.Name) and whole


def _tried(statement: ast.stmt) -> ast.Try:
    nothing = ast.ExceptHandler(ast.Name("Exception", ast.Load()), None, [ast.Pass()])
    return ast.Try([statement], [nothing], [], [])
