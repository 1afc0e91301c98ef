# SPDX-License-Identifier: Apache-2.0
"""Search the lines of a log for metric definitions, within a bounded time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_jobapi.training.metrics.place_in_line import usable_step

if TYPE_CHECKING:
    import regex

LINE_TIME = 0.05
"""Seconds that a definition may take for one line."""

MEAN_TIME = 0.001
"""Seconds that all definitions together may take for a line, on average over the whole log."""

_ADVANCE = 0.25

_SHORT = 80
"""Characters of a value that a message quotes."""


@dataclass(frozen=True, slots=True)
class MetricDefinition:
    """A metric and the regular expression that finds it in a line.

    :ivar value: The group of the value.
    :ivar step: The group of the step; None where the line's own step counts.
    """

    name: str
    pattern: regex.Pattern[str]
    value: int = 1
    step: int | None = None


class Searches:
    """Searches lines for definitions within a bounded time; a definition that takes too long is given up.

    :param clock: Seconds of work, from any start.
    :param warn: Writes one line into the task's log.
    :ivar given_up: The metrics of which a definition was given up.
    """

    def __init__(
        self, definitions: tuple[MetricDefinition, ...], clock: Callable[[], float], warn: Callable[[str], object]
    ) -> None:
        self.given_up: set[str] = set()
        self._spent = dict.fromkeys(definitions, 0.0)
        self._clock = clock
        self._warn = warn
        self._lines = 0

    def read(self, text: str) -> dict[str, tuple[float, float | None]]:
        """The values in a line, by metric, each with the step that its definition finds, if any."""
        self._lines += 1
        found = {}
        for definition in tuple(self._spent):
            read = self._search(definition, text)
            if read is not None:
                found[definition.name] = read
        if sum(self._spent.values()) > _ADVANCE + MEAN_TIME * self._lines:
            self._give_up(max(self._spent, key=lambda each: self._spent[each]))
        return found

    def _search(self, definition: MetricDefinition, text: str) -> tuple[float, float | None] | None:
        begin = self._clock()
        try:
            match = definition.pattern.search(text, timeout=LINE_TIME)
        except (TimeoutError, MemoryError):
            self._give_up(definition)
            return None
        self._spent[definition] += self._clock() - begin
        value = None if match is None else _number(match[definition.value])
        if match is None or value is None:
            return None
        return value, None if definition.step is None else usable_step(_number(match[definition.step]))

    def _give_up(self, definition: MetricDefinition) -> None:
        del self._spent[definition]
        self.given_up.add(definition.name)
        self._warn(
            f"The regex of the metric {definition.name} takes too long and is given up: write it without nested "
            f"repetitions. It is {short(definition.pattern.pattern)}."
        )


def short(value: object) -> str:
    """A value as a message quotes it."""
    text = repr(value)
    return text if len(text) <= _SHORT else f"{text[:_SHORT]}…"


def _number(text: str | None) -> float | None:
    try:
        return None if text is None or "_" in text else float(text)
    except ValueError:
        return None
