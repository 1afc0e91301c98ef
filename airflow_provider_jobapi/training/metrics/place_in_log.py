# SPDX-License-Identifier: Apache-2.0
"""Keep where a training is while its log is read: the epoch that a line named applies to the lines after it."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from airflow_provider_jobapi.training.metrics.names import NAME_LIMIT
from airflow_provider_jobapi.training.metrics.place_in_line import Place, part, phase_of, usable_step

_MOST_OWNERS = 1_000
_OF_TRAINING = frozenset({"", "train"})


@lru_cache(maxsize=2048)
def phase_in(name: str) -> str:
    """The loop that the name of a metric begins with: ``val_loss``."""
    first, _, rest = name.replace("/", "_").partition("_")
    return phase_of(first) if rest else ""


class Whereabouts:
    """Where the training of one log is.

    :ivar epoch: The epoch that was named last.
    :ivar loop: How often epochs have begun again.
    :ivar phase: The loop that a title has named: ``train``, ``val``, ``test``, ``eval``; empty where none has.
    """

    def __init__(self) -> None:
        self.epoch: float | None = None
        self.loop = 0
        self.phase = ""
        self._step: float | None = None
        """The last step of the training that a line named; None once the loop that a title has named has ended."""
        self._inside: tuple[float, float] | None = None
        """The last step of that loop, and how far apart its steps are."""
        self._from_zero = False
        self._batched = False
        self._bar: str | None = None
        """The number of batches of the epoch, once its bar of Keras is full."""
        self._full_at: float | None = None
        self._shows_last: bool | None = None
        """Whether a bar of an epoch shows the last validation; None before the first full one."""
        self._owners: dict[str, str] = {}
        """The phase that has first written a metric of a name."""

    def begin(self, epoch: float, *, again: bool = False) -> None:
        """Take the epoch that a line names.

        :param again: Whether the line names nothing else, so that the same epoch once more is another fit's.
        """
        if self.epoch is not None and (epoch < self.epoch or (again and epoch == self.epoch)):
            self.loop += 1
        if epoch != self.epoch or again:
            self._batched, self._bar = False, None
        if epoch == 0:
            self._from_zero = True
        self.epoch = epoch

    def goes_on(self, place: Place, *, measures: bool) -> bool:
        """Whether a line is one of the training after the loop that a title has named, and no step of that loop.

        :param measures: Whether the line holds values; without a place they are what such a loop has found in the end.
        """
        if place.step is None or place.steps is not None or place.epoch is not None:
            if measures and not place and self.phase not in _OF_TRAINING:
                self._step = None
            return place.epoch is not None
        if self._step is not None and self.phase not in _OF_TRAINING:
            last, apart = self._inside or (-1.0, max(1.0, place.step))
            if place.step <= self._step or (self._inside and last < place.step <= last + apart):
                self._inside = place.step, apart
                return False
        self._step, self._inside = place.step, None
        return True

    def step_of(self, place: Place) -> float | None:
        """The step of a line that says where the training is."""
        if place.epoch is not None:
            self.begin(place.epoch)
        if place.step is not None:
            return usable_step(place.step)
        if place.batch is None:
            return usable_step(place.epoch)
        if self.epoch is None or place.batches is None or not float(self.epoch).is_integer():
            return usable_step(float(place.batch))
        self._batched = True
        self._from_zero = self._from_zero or place.from_zero
        return max(0.0, self.epoch - (0 if self._from_zero else 1)) + part(place.batch, place.batches)

    def validated(self, place: Place, step: float | None, *, shown: bool) -> float | None:
        """Where the validation was whose values a bar of an epoch shows; None where it is that of the bar's own place.

        Lightning shows the last validation until the next one is over, and draws the full bar before that begins. So
        the first full bar of the first epoch has none, while a script that validates before it ends its bar shows its
        own there.

        :param shown: Whether the bar shows values of a validation.
        """
        if place.epoch is None or step is None:
            return None
        full = place.batch == place.batches
        again = full and step == self._full_at
        if full:
            self._full_at = step
            self._shows_last = not shown if self._shows_last is None else self._shows_last
        if not shown or not self._shows_last or again:
            return None
        return step - part(place.batch or 0, place.batches or 0)

    def inherited(self) -> float | None:
        """The step of a line that does not say where the training is: the end of the epoch that was named last."""
        if self.epoch is None:
            return None
        return self.epoch + (1 if self._batched and self._from_zero else 0)

    def of_keras(self, bar: tuple[str, str] | None) -> float | None:
        """The finished epochs, and of the current one the part of its batches."""
        if self.epoch is None or bar is None:
            return self.epoch
        return self.epoch - 1 + (0.0 if bar[1] == "Unknown" else part(int(bar[0]), int(bar[1])))

    def evaluates(self, bar: tuple[str, str] | None) -> bool:
        """Whether a bar of Keras is that of ``model.evaluate``: one that starts again without a new epoch."""
        if bar is None or self.epoch is None:
            return False
        done, batches = bar
        if self._bar is None:
            self._bar = batches if done == batches else None
        elif done != batches or batches != self._bar:
            self._bar = ""  # no bar has this number, so bars belong to no epoch until the next one is named
        return self._bar == ""

    def named(self, values: Iterable[tuple[str, float]], phase: str) -> dict[str, float]:
        """Tell apart what loops of a training call by one name: the ``acc`` of a test becomes ``test_acc``.

        The first loop that writes a name keeps it.
        """
        found = {}
        for name, value in values:
            if own := phase_in(name):
                phase = own
                found[name] = value
            else:
                found[self._own(name, phase)] = value
        return found

    def _own(self, name: str, phase: str) -> str:
        owner = self._owners.get(name)
        if owner is None:
            if len(self._owners) < _MOST_OWNERS:
                self._owners[name] = phase
            return name
        if not phase or owner == phase or (phase in _OF_TRAINING and owner in _OF_TRAINING):
            return name
        return f"{phase}_{name}"[:NAME_LIMIT]
