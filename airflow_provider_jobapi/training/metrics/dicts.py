# SPDX-License-Identifier: Apache-2.0
"""Read what a program prints of a dictionary: Python's repr or JSON, with tensors and numpy's scalars in it.

One pass over the line, whatever it is: no evaluation, no recursion.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from airflow_provider_jobapi.training.metrics.names import Kind, kind_of
from airflow_provider_jobapi.training.metrics.pairs import VALUE, Pair, unwrapped, value_of

_TOKENS = re.compile(
    rf"""(?x) (?P<key>'[^'\\]{{1,100}}'|"[^"\\]{{1,100}}")\s?:\s? | (?P<text>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")
    | (?P<open>[{{\[(]) | (?P<close>[\]}})]) | (?P<value>{VALUE.replace(" ", "[ ]")})(?=\s?[,}}\]]) | [\w.]+ | ."""
)
_SETTINGS = re.compile(
    r"(?i)config|setting|\bargs?\b|argument|param|option|kwargs|default|namespace|\benv\b|version|shape|size|count"
)
_MOST_DEPTH = 8
_LIST = "["


def dict_begin(text: str) -> int:
    """Where a line's dictionary begins; -1 where it has none."""
    begin = text.find("{")
    while begin >= 0 and text[begin + 1 : begin + 2] not in {"'", '"'}:
        begin = text.find("{", begin + 1)
    return begin


def is_of_settings(before: str) -> bool:
    """Whether what stands before a dictionary says that it holds settings."""
    return bool(_SETTINGS.search(before[-200:]))


def dict_pairs(text: str) -> Iterator[Pair]:
    """The pairs of a dictionary; those of an inner one have the outer key before their names.

    Lists and texts are none, and an inner dictionary of settings is left out.
    """
    keys: list[str | None] = []
    key: str | None = None
    for found in _TOKENS.finditer(unwrapped(text)):
        if found["key"] is not None:
            key = found["key"][1:-1]
            continue
        if found["open"] is not None:
            keys.append(key if found["open"] == "{" else _LIST)
        elif found["close"] is not None:
            keys = keys[:-1]
        elif found["value"] is not None and key is not None and _LIST not in keys:
            yield from _pair([*keys[1:], key], found)
        if not 0 < len(keys) <= _MOST_DEPTH:
            return
        if found[0] not in {" ", ":"}:
            key = None


def _pair(keys: list[str | None], found: re.Match[str]) -> Iterator[Pair]:
    outer = [each for each in keys[:-1] if each]
    value = value_of(found)
    if value is None or any(is_of_settings(each) for each in outer):
        return
    digits = found["number"] or ""
    name = "_".join([*outer, keys[-1] or ""])
    if name.strip() and name.isprintable():
        yield Pair(name, value, bool(digits) and digits.lstrip("+-").isdigit())


def place_of(pairs: list[Pair]) -> dict[str, float]:
    """The steps and epochs among the pairs of a dictionary."""
    return {pair.name.lower(): pair.value for pair in pairs if kind_of(pair.name) is Kind.PLACE}
