# SPDX-License-Identifier: Apache-2.0
"""The arguments of a script as users write them: a list of words, an object of options, or a list of both.

======================================  ==========================
``["data.csv", "--lr=0.1", "-v"]``      ``data.csv --lr=0.1 -v``
``{"lr": 0.1, "Batch": 8, "-n": 2}``    ``--lr=0.1 --Batch=8 -n 2``
``{"resume": None, "amp": True}``       ``--resume --amp``
``{"amp": False, "layers": []}``        no argument
``{"layers": [64, 32]}``                ``--layers 64 32``
``{"tag": [["a"], ["b"]]}``             ``--tag=a --tag=b``
``["data.csv", {"lr": 0.1}]``           ``data.csv --lr=0.1``
``[{"name": "lr", "value": 0.1}]``      ``--lr=0.1``
======================================  ==========================
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.training.validation import number_as_text

_NAME = re.compile(r"(-{0,2})[^\s=-][^\s=]*")


def argument_list(given: object) -> object:
    """Turn the options of arguments into words. What is no list or object is left to the check of the words.

    :raises InvalidJob: for an option whose name or value cannot be one.
    """
    if isinstance(given, Mapping):
        return _options(given)
    if not isinstance(given, Iterable) or isinstance(given, str | bytes):
        return given
    words: list[object] = []
    for each in given:
        if isinstance(each, Mapping) and each.keys() == {"name", "value"}:  # as an entry of env is written
            words += _option(each["name"], each["value"])
        else:
            words += _options(each) if isinstance(each, Mapping) else [each]
    return words


def _options(given: Mapping[Any, Any]) -> list[str]:
    return [word for name, value in given.items() for word in _option(name, value)]


def _option(name: object, value: object) -> list[str]:
    found = _NAME.fullmatch(name) if isinstance(name, str) else None
    if found is None:
        raise InvalidJob(
            f"arguments has the name {name!r}: an option's name is such as epochs, --epochs or -e, without spaces and "
            "'='; write anything else as a text in a list.",
            field="arguments",
        )
    option = found[0] if found[1] else f"--{found[0]}"
    if value is None or value is True:
        return [option]
    if value is False:
        return []
    if not isinstance(value, list | tuple):
        return _occurrence(option, [value])
    if any(isinstance(each, list | tuple) for each in value):
        return [
            word for each in value for word in _occurrence(option, each if isinstance(each, list | tuple) else [each])
        ]
    return _occurrence(option, value)


def _occurrence(option: str, values: Sequence[object]) -> list[str]:
    """One use of an option with its values; none where there are no values."""
    texts = [_text(option, each) for each in values]
    if len(texts) == 1 and option.startswith("--"):
        return [f"{option}={texts[0]}"]
    return [option, *texts] if texts else []


def _text(option: str, value: object) -> str:
    text = number_as_text(value)
    if not isinstance(text, str):
        raise InvalidJob(
            f"arguments[{option.lstrip('-')!r}] has a {type(value).__name__}: give a text, a number, true or null for "
            "an option without a value, or a list of texts and numbers; write an object as JSON text.",
            field="arguments",
        )
    return text
