# SPDX-License-Identifier: Apache-2.0
"""The pace of a loop, from the moments at which so much of it was done.

It leaves out the first quarter of what was done, where frameworks compile and files are read for the first time. Of a
loop that contains another, it is that of whole units as soon as one is over, so that the validation at the end of each
epoch is in it.
"""

from __future__ import annotations

import math
from bisect import bisect_left

MOST_SAMPLES = 64
"""Moments that are kept of a loop; when there are more, half of them are dropped."""

_WARM_UP = 0.25
"""The part of what was done that is left out of the pace."""

_LEAST_MEASURED = 0.4
"""The part of what was done by which the pace is measured, at least."""

_LEAST_OF_ONE = 0.1
"""The part that must be done where only two moments are known, since frameworks compile between the first two steps."""

_ROUNDING = 1e-9


class Pace:
    """The moments at which so much of a loop was done, thinned evenly to a bounded number.

    :ivar count: How many moments there were.
    :ivar last: The last one: the time, and the part that was done.
    """

    def __init__(self) -> None:
        self.count = 0
        self.last = (0.0, -1.0)
        self._kept: list[tuple[float, float]] = []
        self._gap = 0.0

    def add(self, time: float, done: float) -> None:
        """Take the next moment; done is from 0 to 1."""
        if done <= self.last[1]:
            return
        if self.count and time == self.last[0]:  # lines that came together say no pace
            if self._kept[-1] == self.last:
                self._kept[-1] = time, done
            self.last = time, done
            return
        self.count += 1
        self.last = time, done
        self._keep(self.last)
        if len(self._kept) > MOST_SAMPLES:
            self._gap = 2 * (done - self._kept[0][1]) / MOST_SAMPLES
            kept, self._kept = self._kept, []
            for each in kept:
                self._keep(each)

    def _keep(self, moment: tuple[float, float]) -> None:
        if not self._kept or moment[1] >= self._kept[-1][1] + self._gap:
            self._kept.append(moment)

    @property
    def usual(self) -> float:
        """Seconds from one moment to the next on average."""
        return (self.last[0] - self._kept[0][0]) / (self.count - 1) if self.count > 1 else 0.0

    def whole(self) -> float | None:
        """Seconds that all of the loop takes at its pace; None where that is not known."""
        if self.count < 2 or (self.count < 3 and self.last[1] - self._kept[0][1] < _LEAST_OF_ONE - _ROUNDING):
            return None
        begin, least = self._after_warm_up()
        return (self.last[0] - begin) / (self.last[1] - least)

    def whole_by_units(self, unit: float) -> float | None:
        """Seconds that all of it takes by the last whole units, so that pauses between them count as often as they are.

        :param unit: The part of the whole that is one unit.
        """
        if len(self._kept) < 3:
            return None
        least, done = self._kept[0][1], self.last[1]
        units = math.floor((1 - _WARM_UP) * (done - least) / unit + _ROUNDING) or 1
        begin = done - units * unit
        if begin < self._kept[1][1] - _ROUNDING:
            return None
        return (self.last[0] - self._time_at(begin)) / (units * unit)

    def _time_at(self, done: float) -> float:
        """When so much was done, between two moments that are kept."""
        number = bisect_left(self._kept, done - _ROUNDING, key=lambda moment: moment[1])
        if number == len(self._kept):
            return self._kept[-1][0]
        (begin, least), (end, most) = self._kept[number - 1], self._kept[number]
        return end - (end - begin) * max(0.0, most - done) / (most - least)

    def _after_warm_up(self) -> tuple[float, float]:
        """The moment from which on the pace is measured: much of what was done must be after it."""
        least, done = self._kept[0][1], self.last[1]
        enough = least + _WARM_UP * (done - least)
        after = [each for each in self._kept[1:] if enough <= each[1] <= done - _LEAST_MEASURED * (done - least)]
        before = [each for each in self._kept if each[1] < enough]
        return after[0] if after else before[-1]
