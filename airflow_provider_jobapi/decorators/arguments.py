# SPDX-License-Identifier: Apache-2.0
"""Put the arguments of a function into its script, as JSON.

So they arrive unchanged, however long they are: no shell, environment or file name interprets them.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import date, timedelta
from pathlib import PurePath
from typing import Any

from airflow_provider_jobapi.exceptions import InvalidJob

# Lambdas bind no name of the module, and attributes of ``builtins`` are not the user's own ``print``.
_CALL = """

if __name__ == "__main__":
    (lambda function, arguments, python: (
        lambda returned: None
        if returned is None
        else python.print("{name} returned", python.repr(returned), flush=True)
    )(function(*arguments[0], **arguments[1])))(
        {name},
        __import__("json").loads({arguments!r}),
        __import__("builtins"),
    )
"""


def with_call(script: str, function: Callable[..., Any], args: Collection[Any], kwargs: Mapping[str, Any]) -> str:
    """Append the call of its function to a script.

    :param script: Of :func:`~airflow_provider_jobapi.decorators.source.script_of`.
    :raises InvalidJob: when the arguments do not fit the function, or one is not JSON; names the argument.
    """
    name = function.__name__
    try:
        bound = inspect.signature(function).bind(*args, **kwargs)
    except TypeError as error:
        raise InvalidJob(f"{name} cannot be called: {error}.") from None
    try:
        for argument, value in bound.arguments.items():
            _check(value, argument, name)
        arguments = json.dumps([bound.args, bound.kwargs], default=_as_json)
    except (RecursionError, ValueError) as error:
        if isinstance(error, InvalidJob):
            raise
        raise InvalidJob(f"The arguments of {name} are too deep or too big for JSON, or hold themselves.") from None
    return script + _CALL.format(arguments=arguments, name=function.__code__.co_name)


def _check(value: Any, place: str, function: str) -> None:
    if value is None or isinstance(value, str | int | float):
        return
    if isinstance(value, Mapping):
        for key, each in value.items():
            if not isinstance(key, str):
                raise InvalidJob(
                    f"{function}'s argument {place} has the key {key!r}, which JSON would turn into a text: use texts."
                )
            _check(each, f"{place}[{key!r}]", function)
    elif isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview):
        for index, each in enumerate(value):
            _check(each, f"{place}[{index}]", function)
    else:
        raise InvalidJob(
            f"{function}'s argument {place} is a {type(value).__name__}, which is not JSON: {_advice(value)}."
        )


def _advice(value: Any) -> str:
    if isinstance(value, bytes | bytearray | memoryview):
        return "give bytes in data_input, as a file"
    if isinstance(value, set | frozenset):
        return "pass a sorted list"
    if isinstance(value, PurePath):
        return "pass its text, or give the file in data_input"
    if isinstance(value, date | timedelta):
        return "pass it as a text or a number"
    return "pass texts, numbers, lists and mappings, a template of what you need of it, or a file in data_input"


def _as_json(value: Any) -> Any:
    """Convert mappings and sequences of any type, such as Airflow's lazy results of a mapped task."""
    return dict(value) if isinstance(value, Mapping) else list(value)
