# SPDX-License-Identifier: Apache-2.0
"""Read what a program prints of a dictionary: Python's repr or JSON, with tensors and numpy's scalars in it.

One pass over the line, whatever it is: no evaluation, no recursion.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from airflow_provider_jobapi.training.metrics.name_value_pairs import NUMBER, VALUE, Pair, unwrapped, value_of
from airflow_provider_jobapi.training.metrics.names import Kind, kind_of

_DIGITS = r"-?\d{1,30}(?:\.\d{0,30})?(?:[eE][-+]?\d{1,3})?"
_TOKENS = re.compile(
    rf"""(?x) (?P<key>'[^'\\]{{1,100}}'|"[^"\\]{{1,100}}")\s?:\s?
    | (?P<said>'{_DIGITS}'|"{_DIGITS}")(?=\s?[,}}\]])
    | (?P<text>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")
    | (?P<open>[{{\[(]) | (?P<close>[\]}})]) | (?P<value>{VALUE.replace(" ", "[ ]")})(?=\s?[,}}\]]) | [\w.]+ | ."""
)
_TIDY = re.compile(rf"(['\"])([^'\"\\]{{1,100}})\1: ({NUMBER})(, |\}})")
_SETTINGS = re.compile(
    r"(?i)config|setting|\bargs?\b|argument|param|option|kwargs|default|namespace|\benv\b|version|shape|size|count"
)
_ENTRY = re.compile(r"""\s*(?:['"][^'"]{1,100}['"]\s?:|[}\]\[{]|-?[\d.]+,?\s*\Z|['"])""")
"""A line within a dictionary."""

_MOST_LINES = 64
_MOST_WIDTH = 250
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

    Lists, texts and an inner dictionary of settings are left out.
    """
    if tidy := _tidy(text):
        yield from tidy
        return
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
        elif key is not None and _LIST not in keys and (found["value"] or found["said"]) is not None:
            yield from _pair([*keys[1:], key], found)
        if not 0 < len(keys) <= _MOST_DEPTH:
            return
        if found[0] not in {" ", ":"}:
            key = None


def _tidy(text: str) -> list[Pair]:
    """The pairs of a dictionary of plain numbers, in one pass; none where it holds anything else."""
    body = text[1 : text.find("}") + 1]
    found = _TIDY.findall(body)
    if sum(len(name) + len(digits) + len(end) + 4 for _, name, digits, end in found) != len(body) or "(" in body:
        return []
    return [
        Pair(name, float(digits), digits.lstrip("+-").isdigit())
        for _, name, digits, _ in found
        if name.strip() and name.isprintable()
    ]


def _pair(keys: list[str | None], found: re.Match[str]) -> Iterator[Pair]:
    outer = [each for each in keys[:-1] if each]
    value = float(found["said"][1:-1]) if found["said"] else value_of(found)
    if value is None or any(is_of_settings(each) for each in outer):
        return
    digits = found["number"] or (found["said"] or "")[1:-1]
    name = "_".join([*outer, keys[-1] or ""])
    if name.strip() and name.isprintable():
        yield Pair(name, value, bool(digits) and digits.lstrip("+-").isdigit())


def place_of(pairs: list[Pair]) -> dict[str, float]:
    """The steps and epochs among the pairs of a dictionary."""
    return {pair.name.lower(): pair.value for pair in pairs if kind_of(pair.name) is Kind.PLACE}


class Unfinished:
    """A dictionary of which the first line was read, as ``pprint`` and ``json.dumps`` with an indent print one."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._open = 0

    def feed(self, line: str) -> str | None:
        """Take the next line of the log; returns the dictionary in one line once it is whole, else None."""
        if not self._lines and ("{" not in line or not self._begins(line)):
            return None
        if self._lines and (len(self._lines) > _MOST_LINES or not _ENTRY.match(line)):
            self._lines = []
            return None
        self._lines.append(line.strip()[:_MOST_WIDTH])
        self._open = self._open + line.count("{") - line.count("}")
        if self._open > 0:
            return None
        whole, self._lines = " ".join(self._lines), []
        return whole.replace("{ ", "{")

    @property
    def pending(self) -> bool:
        """Whether the line that was taken last belongs to a dictionary that goes on."""
        return bool(self._lines)

    def _begins(self, line: str) -> bool:
        self._open = 0
        begin = line.rfind("{") if line.rstrip().endswith("{") else dict_begin(line)
        return begin >= 0 and line.count("{", begin) > line.count("}", begin)
