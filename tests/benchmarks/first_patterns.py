# SPDX-License-Identifier: Apache-2.0
"""The patterns of the first version, which knew Keras, bars and ``key=value``: those of today are measured by it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from airflow_provider_jobapi.training.metrics.line_metrics import Measured
from airflow_provider_jobapi.training.metrics.place_in_line import usable_step

NAME_LIMIT = 100
"""Characters of a metric's name."""

_NUMBER = r"[-+]?(?:(?:\d{1,400}(?:\.\d{0,400})?|\.\d{1,400})(?:[eE][-+]?\d{1,4})?|(?i:nan|inf(?:inity)?))"
_NAME = rf"[^\W\d][\w./-]{{0,{NAME_LIMIT - 1}}}"
_COLOUR = re.compile(r"\x1b\[[0-9;:]*m")
_EQUAL = re.compile(rf"(?<![^\s\[({{,;|])({_NAME})=({_NUMBER})(?=$|[\s;|)}}\]]|,(?!\d))")
_COLON = re.compile(rf"({_NAME}): ({_NUMBER})")
_COMMA = re.compile(r", (?![-+.\d])")
"""Between two pairs. A number after the comma would be a list, or a decimal comma."""

_EPOCH_OF = re.compile(r"\s*Epoch \[?(\d{1,9})/\d{1,9}(?!\d)")
_BATCH_OF = re.compile(r"[^,]{1,40}, (?:Step|Batch|Iter) \[(\d{1,12})/(\d{1,12})\]")
_KERAS_BAR = re.compile(r"\s*(\d{1,12})/(\d{1,12}|Unknown)\s")
_BAR = re.compile(r"(?:Epoch (\d{1,9}):\s*)?(\d{1,3})%\|(?:[^|]{0,400}\|\s*(\d{1,12})/(\d{1,12})\s*\[)?")

_STEPS = ("global_step", "step", "iteration", "iter")
_NO_METRICS = frozenset({*_STEPS, "epoch", "v_num"})
"""Names of positions, and the number that Lightning gives its runs."""

_SURE = re.compile(r"(?i)loss|acc")
"""A line that is ``name: number`` alone is a metric with a name like these; ``pid: 7`` is not."""

_PLACES = frozenset({*_STEPS, "epoch"})


class FirstPatterns:
    """Finds metrics in the lines of one log, in their order: ``Epoch 3/10`` applies to the lines after it."""

    def __init__(self) -> None:
        self._epoch: int | None = None
        self._batches: str | None = None
        """The number of batches of the epoch, once its progress bar is full."""

    def read(self, text: str) -> Measured:
        """Find the metrics of a line."""
        line = _COLOUR.sub("", text) if "\x1b" in text else text
        heading = self._heading(line)
        pairs = dict(_pairs(line, of_keras=heading))
        step = self._step(line, pairs, heading)
        kind = "evaluate_" if heading and self._evaluates(line) else ""
        values = {f"{kind}{name}": value for name, value in pairs.items() if name.lower() not in _NO_METRICS}
        return Measured(values, step)

    def _heading(self, line: str) -> bool:
        """Whether the line begins as Keras' lines do, with an epoch or a progress bar; keeps the epoch."""
        if found := _EPOCH_OF.match(line):
            self._epoch, self._batches = int(found[1]), None
        return bool(found or _KERAS_BAR.match(line))

    def _evaluates(self, line: str) -> bool:
        """Whether a progress bar is that of ``model.evaluate``: one that starts again without a new epoch."""
        bar = _KERAS_BAR.match(line)
        if bar is None or self._epoch is None:
            return False
        if self._batches is None:
            self._batches = bar[2] if bar[1] == bar[2] else None
        elif bar[1] != bar[2] or bar[2] != self._batches:
            self._batches = ""  # no bar has this number, so bars belong to no epoch until the next one is named
        return self._batches == ""

    def _step(self, line: str, pairs: Mapping[str, float], heading: bool) -> float | None:
        lowered = {name.lower(): value for name, value in pairs.items()}
        for name in _STEPS:
            if name in lowered:
                return usable_step(lowered[name])
        if heading and self._epoch is not None:
            return self._of_keras(line, self._epoch)
        if (bar := _BAR.search(line)) and (bar[1] or bar[3]):
            return _of_bar(bar)
        return usable_step(lowered.get("epoch"))

    def _of_keras(self, line: str, epoch: int) -> float:
        """The finished epochs, and of the current one the fraction of its batches."""
        bar = _KERAS_BAR.match(line) or _BATCH_OF.match(line)
        if bar is None:
            return epoch
        return epoch - 1 + (0.0 if bar[2] == "Unknown" else _part(int(bar[1]), int(bar[2])))


def _of_bar(bar: re.Match[str]) -> float:
    """The position of a progress bar of tqdm: finished epochs where it names one (Lightning counts from 0)."""
    if bar[1] is None:
        return float(bar[3])
    return int(bar[1]) + (_part(int(bar[3]), int(bar[4])) if bar[3] else _part(int(bar[2]), 100))


def _part(done: int, total: int) -> float:
    return min(1.0, done / total) if total else 0.0


def _pairs(line: str, *, of_keras: bool) -> Iterator[tuple[str, float]]:
    if "=" in line:
        for found in _EQUAL.finditer(line):
            yield found[1], float(found[2])
    if ": " not in line:
        return
    parts = line.split(" - ")
    for part in parts:
        inner = _COMMA.split(part)
        found_pairs = [pair for each in inner if (pair := _COLON.fullmatch(each.strip()))]
        sure = of_keras or any(_SURE.search(pair[1]) or pair[1].lower() in _PLACES for pair in found_pairs)
        if sure or len(inner) == 1 < len(parts):
            yield from ((pair[1], float(pair[2])) for pair in found_pairs)
