# SPDX-License-Identifier: Apache-2.0
"""The values of a metric in bounded memory, with every peak.

The points are grouped by their number: ``width`` neighbours make a group, of which the lowest and the highest are kept.
When more are kept than a series may hold, the width doubles. So every peak of the whole series is there, at every
length, and what is kept depends on the points alone: reading the same log again gives the same series.
"""

from __future__ import annotations

import copy
import math
from array import array
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

MOST_POINTS = 500
"""Points of a series."""

_OF_THEIR_OWN = 5
"""Points that are kept beside the groups: the first, the last, and the first NaN and infinities."""

FEWEST_POINTS = _OF_THEIR_OWN + 2
"""Points to which a series can be reduced."""


class Point(NamedTuple):
    """A value of a metric.

    :ivar number: Its index in the series, from 0.
    :ivar step: The step or epoch.
    :ivar value: The value; may be infinite or NaN.
    :ivar time: When it was written, in seconds since 1970.
    """

    number: float
    step: float
    value: float
    time: float


class Series:
    """The values of one metric."""

    def __init__(self) -> None:
        self.count = 0
        self._first: Point | None = None
        self._last: Point | None = None
        self._strange: dict[str, Point] = {}
        self._kept = array("d")  # four numbers a point: a tenth of the memory of tuples
        self._width = 1

    def add(self, value: float, time: float, step: float | None = None) -> None:
        """Add a value.

        :param step: The step or epoch; by default the number of the value, from 1.
        """
        self._last = point = Point(self.count, self.count + 1 if step is None else step, value, time)
        self._first = self._first or point
        self.count += 1
        if not math.isfinite(value):
            self._strange.setdefault(repr(value), point)
            return
        self._kept.extend(point)
        most = MOST_POINTS - _OF_THEIR_OWN
        if len(self._kept) > most * len(point):
            # Removes a quarter at once, so that this is rare and the mean work for a value is small.
            kept, self._width = _fitting(list(self._points()), self._width, most * 3 // 4)
            self._kept = array("d", (number for each in kept for number in each))

    def replace(self, value: float, time: float) -> None:
        """Replace the last value, at its step: a progress bar draws its last state once more."""
        if self._last is None:
            self.add(value, time)
            return
        number, step = self._last.number, self._last.step
        if self._first == self._last:
            self._first = None
        if len(self._kept) >= len(self._last) and self._kept[-len(self._last)] == number:
            del self._kept[-len(self._last) :]
        for word in [word for word, point in self._strange.items() if point.number == number]:
            del self._strange[word]
        self.count -= 1
        self.add(value, time, step)

    def copy(self) -> Series:
        """An independent copy."""
        copied = copy.copy(self)
        copied.__dict__ |= {"_strange": self._strange.copy(), "_kept": self._kept[:]}
        return copied

    def points(self, most: int = MOST_POINTS) -> list[Point]:
        """The points in the order of their steps.

        :param most: How many at most, from :data:`FEWEST_POINTS` on.
        """
        own = {point for point in (self._first, self._last, *self._strange.values()) if point is not None}
        kept, _ = _fitting(list(self._points()), self._width, most - _OF_THEIR_OWN)
        return sorted(own.union(kept), key=lambda point: (point.step, point.number))

    @property
    def last(self) -> float:
        """The last value."""
        return math.nan if self._last is None else self._last.value

    def extremes(self) -> tuple[float, float]:
        """The lowest and the highest finite value; the last value twice where there is none."""
        values = [point.value for point in self._points()] or [self.last]
        return min(values), max(values)

    def _points(self) -> Iterator[Point]:
        numbers = iter(self._kept)
        return map(Point, numbers, numbers, numbers, numbers)


def written(points: Iterable[Point]) -> dict[str, list[Any]]:
    """Points as JSON: whole steps exactly, other numbers in eight digits, times in tenths of a second.

    NaN and the infinities, which JSON does not have, are words.
    """
    ordered = list(points)
    return {
        "steps": [_short(point.step, 8 if point.step % 1 else 17) for point in ordered],
        "values": [word_of(point.value) or _short(point.value) for point in ordered],
        "times": [_short(round(point.time, 1), 12) for point in ordered],
    }


def word_of(value: float) -> str | None:
    """``NaN``, ``Infinity`` and ``-Infinity``, for which JSON has no number; None for a number."""
    if math.isfinite(value):
        return None
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _short(number: float, digits: int = 8) -> float:
    rounded = float(f"{number:.{digits}g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) <= 2.0**53 else rounded


def _fitting(points: list[Point], width: int, most: int) -> tuple[list[Point], int]:
    """Reduce points to at most ``most``; return them and the width of the groups."""
    if len(points) > most:  # each doubling leaves half of them or more, so narrower groups need not be tried
        width *= 2 ** int(math.log2(len(points) / most))
    while len(points) > most:
        points = list(_of_groups(points, width))
        width *= 1 if len(points) <= most else 2
    return points, width


def _of_groups(points: Iterable[Point], width: int) -> Iterator[Point]:
    lowest = highest = None
    group = -1.0
    for point in points:
        if lowest is None or highest is None or point.number // width != group:
            yield from _in_order(lowest, highest)
            lowest = highest = point
            group = point.number // width
        elif point.value < lowest.value:
            lowest = point
        elif point.value >= highest.value:  # the last of equal ones, so that a flat stretch keeps both its ends
            highest = point
    yield from _in_order(lowest, highest)


def _in_order(one: Point | None, other: Point | None) -> tuple[Point, ...]:
    if one is None or other is None:
        return ()
    if one is other:
        return (one,)
    return (one, other) if one.number < other.number else (other, one)
