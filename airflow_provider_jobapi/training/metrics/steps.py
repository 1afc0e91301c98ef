# SPDX-License-Identifier: Apache-2.0
"""The steps of one curve, which never go back, whatever a log says: fits are repeated, trainings restarted.

Where a line's place lies behind the one before, another loop has begun, and its steps are counted on from there.
"""

from __future__ import annotations

import math

_BESIDE = 8
"""Into how many parts the distance of two steps is divided for a second value at the same place."""


class Steps:
    """Gives each value of a curve a step of its own.

    :ivar last: The last step; None before the first.
    """

    def __init__(self, last: float | None = None) -> None:
        self.last = last
        self._place: float | None = None
        self._loop = 0
        self._said = False
        self._base = 0.0
        self._apart: float | None = None
        """The distance of the last two places within a loop."""

    def next(self, place: float | None, loop: int = 0, *, counts: bool = False) -> float:
        """The step of the next value.

        :param place: Where the line says that the training is; None where it does not say it.
        :param loop: The number of the loop that the line belongs to.
        :param counts: Whether the place is that of lines before, so that several values may have it.
        """
        if place is None:
            step = 1.0 if self.last is None else math.floor(self.last) + 1.0
        elif self.last is None:
            step = place
        else:
            step = self._after(self.last, place, loop, counts=counts)
        if self.last is not None and step <= self.last:  # the difference is too small for a float
            step = max(math.floor(self.last) + 1.0, math.nextafter(self.last, math.inf))
        if place is not None:
            if self._place is not None and place > self._place:
                self._apart = place - self._place
            self._place = place
        self._loop, self.last, self._said = loop, step, place is not None and not counts
        return step

    @property
    def said(self) -> bool:
        """Whether the line of the last value named its place itself."""
        return self._said

    def repeats(self, place: float | None, loop: int) -> bool:
        """Whether a place is the very one of the value before."""
        return place is not None and place == self._place and loop == self._loop

    def note(self, step: float) -> None:
        """Take a step that the script has said itself."""
        if self.last is None or step > self.last:
            self.last = step

    def _after(self, last: float, place: float, loop: int, *, counts: bool) -> float:
        if self._base + place > last:
            return self._base + place
        if place == self._place and loop == self._loop:
            return self._again(last, place, counts=counts)
        whole = math.ceil(last)
        if loop != self._loop and whole + place > last:
            self._base = float(whole)
        else:
            self._base = last + (self._apart or (min(place, 1.0) if place > 0 else 1.0)) - place
        return self._base + place

    def _again(self, last: float, place: float, *, counts: bool) -> float:
        """The step of another value at the same place: a loop of one round again, or a second value beside it."""
        if counts and not self._said:
            return math.floor(last) + 1.0
        if self._apart is None and counts:
            return last + 1.0 / _BESIDE
        if self._apart is None:
            self._base = last + (place if place > 0 else 1.0) - place
            return self._base + place
        return last + self._apart / _BESIDE
