# SPDX-License-Identifier: Apache-2.0
"""How far a training is, and how long it will still take, from the lines of its log.

Loops contain loops: epoch 3 of 10 at batch 50 of 100 is a quarter of the whole. The outermost loop that counts to a
known total is the training. Loops with the names of other work (a download, a validation) are left out, and of two that
follow each other the one that is surer is taken. Where the outermost loop has no total, or begins again and again,
nothing is said.

The pace is measured between lines of this job, so that one that continues another is not taken for a fast one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from airflow_provider_jobapi.training.metrics.progress_lines import Count, Level, LineCounts, Trust, is_sure, states_of
from airflow_provider_jobapi.training.metrics.progress_pace import Pace
from airflow_provider_jobapi.training.status import JobState, JobStatus

MOST_INNER_LOOPS = 8
"""Loops that are kept of those within another one."""

DEEPEST = 5
"""Loops that contain others: how deep at most."""

SILENCE = 600.0
"""Seconds without a line of the loop after which the time left is unknown, at least: three times the usual distance of
its lines, if that is longer."""

_ROUNDING = 1e-9

_CONTAINERS = (Level.RUN, Level.EPOCH)
"""Loops that are told by name and contain others, at whatever unit these are first seen."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """How far a training is.

    :ivar progress: From 0 to 1.
    :ivar remaining: Seconds; None where the pace is not known.
    """

    progress: float
    remaining: float | None

    def __str__(self) -> str:
        """For people: ``45 %, about 12 min left``."""
        left = "" if self.remaining is None else f", {time_left(self.remaining)}"
        return f"{math.floor(self.progress * 100 + _ROUNDING)} %{left}"


def with_progress(status: JobStatus, estimate: Estimate | None) -> JobStatus:
    """Add how far the training is to the status of a job whose command runs."""
    if estimate is None or status.status is not JobState.RUNNING or status.storing_time is not None:
        return status
    remaining = None if estimate.remaining is None else float(round(estimate.remaining))
    return status.model_copy(update={"progress": round(estimate.progress, 4), "remaining": remaining})


def time_left(seconds: float) -> str:
    """A time that is left, as exact as it can be known: ``about 12 min left``."""
    minutes = round(seconds / 60)
    if seconds < 50:
        return "less than a minute left"
    if minutes < 60:
        return f"about {minutes} min left"
    tens = round(minutes, -1)
    if tens < 24 * 60:
        hours, rest = divmod(tens, 60)
        return f"about {hours} h {rest} min left" if rest else f"about {hours} h left"
    days, hours = divmod(round(minutes / 60), 24)
    return f"about {days} d {hours} h left" if hours else f"about {days} d left"


@dataclass(eq=False, slots=True)
class _Loop:
    """A loop of the training.

    :ivar first: How many units were done when it was first seen.
    :ivar done: How many are.
    :ivar base: The number of the first unit, where they are named.
    :ivar lower: Consecutive counts far below ``done``.
    :ivar began: When the current pass through it began, and ``seen``, when it was last seen.
    :ivar active: Whether it was seen since the loop around it went on.
    :ivar inner: The loop within it that is the training, of all ``inners``.
    """

    name: str
    level: Level | None
    total: float | None
    trust: Trust
    weak: bool
    base: float = 1.0
    first: float = 0.0
    done: float = 0.0
    lower: int = 0
    began: float = 0.0
    seen: float = 0.0
    active: bool = True
    inner: _Loop | None = None
    inners: list[_Loop] = field(default_factory=list)

    @property
    def over(self) -> bool:
        return self.total is not None and self.done >= self.total

    @property
    def is_complete(self) -> bool:
        """Whether all of it is done, the units within it as well."""
        return (self.fraction() or 0.0) >= 1

    def is_of(self, count: Count) -> bool:
        """Whether a count is of this loop."""
        if (self.name, self.level) != (count.name, count.level):
            return False
        return count.total == self.total or (
            count.ordinal and count.total is not None and count.total + 1 == self.total
        )

    def may_contain(self, other: Count) -> bool:
        """Whether a loop that is first seen now may be within this one.

        One that contains others has them from its first unit on.
        """
        if self.over or self.weak:
            return False
        if self.level is not None and other.level is not None:
            return self.level < other.level
        return self.level in _CONTAINERS or self.done - self.first <= 1

    def units(self, count: Count) -> float:
        """How many units are done by a count; learns whether they are named from 0 on."""
        if not count.ordinal:
            return count.number
        if count.number < self.base:
            self.base = count.number
            self.total = self.total if count.exact else _total_from_zero(self.total)
        units = count.number - self.base + count.over
        if self.total is not None and units > self.total and count.total == self.total and not count.exact:
            self.total += 1  # 0/10 to 10/10
        return units

    def fraction(self) -> float | None:
        """The part of it that is done; None where it is not known."""
        if self.total is None or self.done > self.total:
            return None
        within = 0.0
        if self.inner is not None and self.inner.active:
            within = self.inner.fraction() or 0.0
        return min(1.0, (math.floor(self.done) + max(within, self.done % 1)) / self.total)

    def advance(self, units: float, time: float) -> None:
        """Take as many units as done."""
        if math.floor(units) > math.floor(self.done):
            lasted = [each for each in self.inners if each.active]
            self.inner = max(lasted, key=lambda each: each.seen - each.began, default=self.inner)
            for each in self.inners:
                each.rest()
        if not self.active:
            self.active, self.began, self.first = True, time, units
        self.done, self.lower = units, 0

    def rest(self) -> None:
        """Begin from nothing when it is seen again, since the loop around it goes on."""
        self.active, self.done = False, 0.0
        for each in self.inners:
            each.rest()


def _total_from_zero(total: float | None) -> float | None:
    """The units of a loop whose first one is called 0: ``0/24`` are 25, ``0/25`` are 25 as well."""
    return total + 1 if total is not None and (total + 1) % 5 == 0 else total


class Progress:
    """Reads how far a training is from the lines of its log, in their order.

    :param command: The command of the job, which may name totals: ``--epochs=10``.
    :param whole: Whether the log is read from its start. Else a bar that is seen first may be within an epoch.
    """

    def __init__(self, command: str = "", *, whole: bool = True) -> None:
        self._lines = LineCounts()
        self._lines.learn(command[:10_000])
        self._whole = whole
        self._time = float("-inf")
        self._replace(None)

    def read(self, text: str, time: float) -> None:
        """Read the next line.

        :param time: When it was written, in seconds.
        """
        self._time = time = max(self._time, time)
        for state in states_of(text):
            counts = self._lines.read(state)
            for count in counts:
                self._take(count, time, alone=len(counts) == 1)
            if counts:
                self._measure(time)
            elif self._top is not None and self._top.trust is Trust.BAR and not self._top.over and is_sure(state):
                self._top.trust = Trust.TRAINS

    def estimate(self, now: float) -> Estimate | None:
        """How far the training is; None where it is not known.

        :param now: The time of the question, by the clock of the lines.
        """
        if self._top is None or self._unknown or self._best is None or self._top.fraction() is None:
            return None
        if self._best >= 1:
            return Estimate(1.0, 0.0)
        return Estimate(self._best, self._remaining(now))

    def _remaining(self, now: float) -> float | None:
        """Seconds that are left; None where the pace is not known, or the loop has been silent for too long."""
        top, silent = self._top, max(0.0, now - self._all.last[0])
        if top is None or top.total is None or silent > max(SILENCE, 3 * self._all.usual):
            return None
        whole = None if self._units.count < 2 or top.inner is None else self._all.whole_by_units(1 / top.total)
        if whole is not None:
            pace, usual = self._units, whole / top.total
        else:
            pace, whole, usual = self._all, self._all.whole(), self._all.usual
        if not whole:
            return None
        since, done = pace.last
        return max(0.0, (1 - done) * whole - min(max(0.0, now - since), usual))

    def _replace(self, top: _Loop | None) -> None:
        """Take another loop for the training."""
        self._top = top
        self._best: float | None = None
        self._unknown = False
        self._unit = -1
        self._beside: set[tuple[str, float | None]] = set()
        self._all, self._units = Pace(), Pace()

    def _measure(self, time: float) -> None:
        """Keep how much is done now."""
        if self._top is None or (fraction := self._top.fraction()) is None or self._top.total is None:
            return
        self._best = max(self._best or 0.0, fraction)
        self._all.add(time, self._best)
        if (unit := math.floor(self._top.done)) > self._unit:
            self._unit = unit
            self._units.add(time, self._best)

    def _take(self, count: Count, time: float, *, alone: bool) -> None:
        loop, around = self._find(count)
        if loop is None:
            self._begin(count, time)
            return
        loop.trust = max(loop.trust, count.trust)
        units, complete = loop.units(count), loop.is_complete
        again = alone and not count.over and units == loop.done  # the heading of the only epoch
        lower = loop.done - 1 if count.ordinal else loop.done / 2
        if units < lower or (complete and (again or units < loop.done)):
            self._go_back(loop, around, units, time, complete=complete)
        elif units >= loop.done:
            loop.advance(units, time)
        loop.seen = time

    def _go_back(self, loop: _Loop, around: _Loop | None, units: float, time: float, *, complete: bool) -> None:
        """Take a count far below the last one. Processes that train together may write such, so one alone is none."""
        loop.lower += 1
        if loop.trust is Trust.TOLD:
            self._replace(loop)
            loop.advance(units, time)
        elif around is None and (complete or loop.lower > 1):
            self._unknown = True  # it is repeated, and nobody says how often

    def _find(self, count: Count) -> tuple[_Loop | None, _Loop | None]:
        """Find the loop of a count, and the loop around it."""
        around, loop = None, self._top
        while loop is not None:
            if loop.is_of(count):
                return loop, around
            for each in loop.inners:
                if each is not loop.inner and each.is_of(count):
                    return each, loop
            around, loop = loop, loop.inner
        return None, None

    def _begin(self, count: Count, time: float) -> None:
        """Place a loop that is seen for the first time."""
        loop = _Loop(count.name, count.level, count.total, count.trust, count.weak, began=time, seen=time)
        loop.first = loop.done = loop.units(count)
        top = self._top
        if top is None:
            if self._whole or count.level in _CONTAINERS or count.trust is Trust.TOLD:
                self._replace(loop)
        elif count.weak or (top.trust is Trust.TOLD and count.trust is not Trust.TOLD):
            return
        elif self._is_around(loop, top):
            self._replace(loop)
            loop.inners, loop.inner = [top], top
            top.rest()
        elif self._takes_over(count, top):
            self._replace(loop)
        elif around := self._innermost(count):
            if len(around.inners) < MOST_INNER_LOOPS:
                around.inners.append(loop)
                around.inner = around.inner or loop
        elif not top.over and len(self._beside) < MOST_INNER_LOOPS:
            self._beside.add((count.name, count.total))
        elif top.over and top.trust is count.trust is Trust.BAR and (count.name, count.total) not in self._beside:
            self._unknown = True  # either may be the training

    def _is_around(self, loop: _Loop, top: _Loop) -> bool:
        """Whether a loop that is told only at the end of its units contains the one that was taken for the training."""
        if top.weak or loop.level not in _CONTAINERS:
            return False
        inside = Level.STEP if top.level is None else top.level
        ended = top.is_complete or self._unknown
        return loop.level < inside and ended and loop.done - loop.base <= 1

    def _takes_over(self, count: Count, top: _Loop) -> bool:
        """Whether a loop that is not within the training is the training from now on."""
        if top.weak or count.trust is Trust.TOLD:
            return True
        if count.total is None and not top.over:
            return False
        if count.level in _CONTAINERS and count.total is not None:
            if top.level is Level.RUN or (top.level is None and top.may_contain(count)):
                return False
            return top.total is None or top.level is not Level.EPOCH or top.is_complete or count.number <= 1
        return count.trust > top.trust and (top.over or (top.level is None and not top.may_contain(count)))

    def _innermost(self, count: Count) -> _Loop | None:
        """The innermost loop that a new one may be within."""
        found, loop = None, self._top
        for _ in range(DEEPEST):
            if loop is None or not loop.active:
                break
            if loop.may_contain(count):
                found = loop
            loop = loop.inner
        return found
