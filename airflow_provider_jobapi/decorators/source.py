# SPDX-License-Identifier: Apache-2.0
"""Make a script of a function: its own source and the definitions of its file that it uses.

Shipped are the function without its decorators, the functions, classes, imports and constants at the top level of its
file that it uses, and what these use in turn. A constant is a name that is bound once, to an expression of literals and
other constants, and keeps that value. Everything else is refused by name when the DAG file is parsed.

Annotations of functions are shipped as text; what they name is imported where the service has it, as they may be
evaluated.
"""

from __future__ import annotations
import __future__

import ast
import copy
import inspect
from collections.abc import Callable
from pprint import pformat
from types import FunctionType
from typing import Any

from airflow_provider_jobapi.decorators.dag_file import DagFile
from airflow_provider_jobapi.decorators.names import HAVE_A_SCOPE, AnnotationsAsText, binds_inside, uses
from airflow_provider_jobapi.decorators.parts import Parts
from airflow_provider_jobapi.exceptions import InvalidJob


def script_of(function: Callable[..., Any]) -> str:
    """The source text of a module that defines the function and all that it uses.

    :raises InvalidJob: when the function, or a name that it uses, cannot be shipped; says which and what to do.
    """
    checked = _checked(function)
    try:
        script = _script_of(checked)
    except RecursionError:
        raise InvalidJob(
            f"@task.training cannot ship {checked.__code__.co_name}: it, or a definition that it uses, is nested "
            "too deeply; split its longest expression or its longest chain of elif."
        ) from None
    check_constants(script, checked)
    return script


def _script_of(function: FunctionType) -> str:
    name = function.__code__.co_name
    file = DagFile.of(function)
    node, around = file.find(function)
    own = copy.copy(node)
    own.decorator_list = []
    local = {bound: scope.name for scope in around for bound in binds_inside(scope)}
    used = min(uses(own, fields=True) & local.keys(), default=None)
    if used:
        raise InvalidJob(
            f"{name} uses {used}, a variable of {local[used]} around it, which is not shipped to the job "
            f"service: make it an argument of {name}, or define it at the top level of {file.name}."
        )
    parts = Parts(file, name)
    parts.follow(own, name)
    head = f"# The function {name} of {file.name}, line {node.lineno}, and what it uses; made by @task.training.\n"
    statements = [*parts.in_order(), own]
    if function.__code__.co_flags & __future__.annotations.compiler_flag:
        head += "from __future__ import annotations\n"
    else:
        # Fields are evaluated as in the DAG file: dataclasses recognise a ClassVar by its value, not by its name.
        statements = [AnnotationsAsText(fields=False).visit(copy.deepcopy(each)) for each in statements]
    return "".join([head, *map(_text, statements)])


def check_constants(script: str, function: Callable[..., Any]) -> None:
    """Refuse a constant of the script that has another value in the DAG file by now.

    :raises InvalidJob: naming it.
    """
    home = function.__globals__
    values = dict(home)
    for statement in ast.parse(script).body:
        if not isinstance(statement, ast.Assign | ast.AnnAssign) or not statement.value:
            continue
        name = ast.unparse(statement.targets[0] if isinstance(statement, ast.Assign) else statement.target)
        if name not in home:  # Definitions below the function are not bound yet when it is decorated.
            continue
        value = compile(ast.Expression(statement.value), "<constant>", "eval")
        values[name] = eval(value, values)  # noqa: S307 -- a constant, as its file evaluates it
        # Not by ==, for which True is 1; pformat puts sets in order.
        if pformat(values[name], sort_dicts=False) != pformat(home[name], sort_dicts=False):
            raise InvalidJob(
                f"{function.__name__} uses {name}, which its file binds to another value than it has now: "
                f"bind it to that value at once, or make it an argument of {function.__name__}."
            )


def _checked(function: Callable[..., Any]) -> FunctionType:
    """The function, where its kind can be a script."""
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
        problem = "wrapped by another decorator, which is not shipped; remove that, or use it on an inner function"
    elif inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        problem = "an async function; write it with def and call asyncio.run(…) inside"
    elif inspect.isgeneratorfunction(function):
        problem = "a generator, which cannot be a script; remove the yield"
    if problem:
        raise InvalidJob(f"@task.training cannot ship {short or name}: it is {problem}.")
    return function  # type: ignore[return-value]


def _text(statement: ast.stmt) -> str:
    text = ast.unparse(statement)
    return f"\n\n{text}\n" if isinstance(statement, HAVE_A_SCOPE) else f"{text}\n"
