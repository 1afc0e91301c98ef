# SPDX-License-Identifier: Apache-2.0
"""The metrics of a training, read from the lines of its log and kept in bounded space.

Definitions have the form of SageMaker's ``MetricDefinitions``: a name, and a regular expression with one group, the
value. They are compiled by the library ``regex``, which bounds the time of a search. google-re2 would bound it by its
nature, and has no look-around: ``(?<!val_)loss: ([0-9.]+)`` is how
people distinguish two metrics of which one name ends with the other.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from math import isclose
from typing import Any

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.training.logs import LogLine
from airflow_provider_jobapi.training.metrics.definition_search import MetricDefinition, Searches, short
from airflow_provider_jobapi.training.metrics.helper import read_helper
from airflow_provider_jobapi.training.metrics.line_metrics import Measured
from airflow_provider_jobapi.training.metrics.names import NAME_LIMIT
from airflow_provider_jobapi.training.metrics.patterns import LinePatterns
from airflow_provider_jobapi.training.metrics.place_in_log import phase_in
from airflow_provider_jobapi.training.metrics.series import FEWEST_POINTS, MOST_POINTS, Series, word_of, written
from airflow_provider_jobapi.training.metrics.steps import Steps

__all__ = ["MetricDefinition", "Metrics", "read_definitions", "shrunk"]

MOST_NAMES = 32
"""Metrics of a job, and so definitions."""

MOST_BYTES = 64 * 1024
"""Bytes of JSON of all metrics of a job."""

REGEX_LIMIT = 500
"""Characters of a regular expression; SageMaker's own limit."""

MOST_PARTS = 10_000
"""Parts of a regular expression, its counted repeats written out as the library does: ten thousand compile in 10
milliseconds, ``(?:(?:(?:xyz){1000}){1000}){8}`` takes seconds and gigabytes."""

DEFINED = "metric_definitions"
"""What the facts call the rule of metrics that a task defines itself."""

_MOST_LEFT_OUT = 10_000
_MOST_STREAMS = 64
_AS_EQUAL = 1e-3
"""How far apart a value and its repetition in a summary may be, which rounds it."""

_BYTES_A_POINT = 38
"""Bytes of JSON that a point takes as a rule: the first guess of how many points fit."""

_PARTS = re.compile(
    r"""(?P<flag> \(\?[\w-]*[xV][\w-]*[:)] | \{[\w<=,+ ]+:\[ )
    | (?P<skip> \(\?\#[^)]*\) | \(\?[\w-]+\) | \{[^\d,][^][(){}\\]*\} )
    | (?P<plain> \\. | \[\^?\]? (?: \\. | \[:\^?\w+:\] | [^\]\\] )* \] )
    | (?P<count> \{[\d,]+\} ) | (?P<open> \( (?: \?[\w-]*: )? ) | (?P<close> \) ) | .""",
    re.DOTALL | re.VERBOSE,
)
"""The parts of a regular expression. Its brackets are brackets, save with the flags x and V1 and in a fuzzy match."""


def read_definitions(value: Any) -> tuple[MetricDefinition, ...] | None:
    """Check metric definitions, ``[{"name": …, "regex": …}]``; None stays None, for the usual ways of logging.

    The regex has one group, the value, and may have a second one for the step: ``(?P<step>…)``, or the one that
    ``step`` names.

    :raises InvalidJob: which definition is invalid, why, and what to write.
    """
    if value is None:
        return None
    if not isinstance(value, list | tuple):
        raise _refused(f'is a {type(value).__name__}; it must be a list of {{"name": …, "regex": …}} objects.')
    if len(value) > MOST_NAMES:
        raise _refused(f"has {len(value)} entries; {MOST_NAMES} metrics are the most that are kept.")
    return tuple(_definition(number, each) for number, each in enumerate(value))


def _definition(number: int, given: Any) -> MetricDefinition:
    where = f"[{number}]"
    if not isinstance(given, Mapping) or not {"name", "regex"} <= set(given) <= {"name", "regex", "step"}:
        raise _refused(
            f'{where} is {short(given)}; it must be an object of "name" and "regex" and nothing else, but for "step", '
            "the name of a group."
        )
    name, expression = given["name"], given["regex"]
    if not isinstance(name, str) or not name.strip() or len(name) > NAME_LIMIT or not name.isprintable():
        raise _refused(f"{where} has the name {short(name)}; a name is 1 to {NAME_LIMIT} printable characters.")
    where += f" ({name})"
    if not isinstance(expression, str) or not 0 < len(expression) <= REGEX_LIMIT:
        raise _refused(f"{where} has no regex; it must be a regular expression of 1 to {REGEX_LIMIT} characters.")
    return _compiled(where, name, expression, given.get("step"))


def _compiled(where: str, name: str, expression: str, step: object) -> MetricDefinition:
    import regex

    _check_repeats(where, expression)
    try:
        pattern = regex.compile(expression)
    except (regex.error, RecursionError, OverflowError, MemoryError) as error:
        raise _refused(f"{where}: Invalid regular expression {short(expression)}: {error}.") from None
    group = pattern.groupindex.get(step if isinstance(step, str) else "step") if pattern.groups == 2 else None
    if step is not None and group is None:
        raise _refused(
            f"{where} has the step {short(step)}; it must be the name of one of two groups of the regex, such as "
            r"(?P<step>\d+): loss ([0-9.]+)."
        )
    if pattern.groups != (1 if group is None else 2):
        raise _refused(
            f"{where} has the regex {short(expression)} with {pattern.groups or 'no'} groups; it needs exactly one, "
            r"around the value, such as loss: ([0-9.]+), and may have (?P<step>…) around the step; write (?:…) for any "
            "other group."
        )
    return MetricDefinition(name, pattern, 1 if group is None else 3 - group, group)


def _check_repeats(where: str, expression: str) -> None:
    """Refuse a regular expression that would take long to compile; the library has no limit of its own."""
    groups, last = [0], 1
    for part in _PARTS.finditer(expression):
        if part["flag"]:
            raise _refused(f"{where} has a regex whose size cannot be judged with {part[0]} in it; write it without.")
        if part["open"]:
            groups.append(0)
        elif part["close"] and len(groups) > 1:
            last = groups.pop()
            groups[-1] += last
        elif part["count"]:
            times = max(int(number or 1) for number in part[0][1:-1].split(","))
            groups[-1] += last * (times - 1)
            last *= times
        elif not part["skip"]:
            last = 1
            groups[-1] += 1
    if sum(groups) > MOST_PARTS:
        raise _refused(
            f"{where} has a regex whose repeats come to {sum(groups):,} parts; {MOST_PARTS:,} are the most; write * or "
            "+ for any number of times."
        )


def _refused(what: str) -> InvalidJob:
    return InvalidJob(f"metric_definitions{'' if what[0] == '[' else ' '}{what}", field="metric_definitions")


class Metrics:
    """All metrics of one job.

    They depend on the log alone, as long as no definition is given up, which depends on how fast the machine is. Such a
    metric is marked as ``gave_up``.

    :param definitions: How to find metrics; None for the usual ways of logging, see :mod:`~.patterns`. Lines of
        :mod:`~airflow_provider_jobapi.training.jobapi_metrics` are read in any case.
    :param clock: Seconds of work, which bounds the time that definitions may take.
    :param warn: Writes one line into the task's log.
    :ivar count: The values of all metrics together.
    :ivar rules: The names of the rules that have found them, in the order in which they first did.
    """

    def __init__(
        self,
        definitions: tuple[MetricDefinition, ...] | None,
        clock: Callable[[], float],
        warn: Callable[[str], object],
    ) -> None:
        self._searches = None if definitions is None else Searches(definitions, clock, warn)
        self._patterns: dict[int | str, LinePatterns] = {}
        self._warn = warn
        self._series: dict[str, Series] = {}
        self._steps: dict[str, Steps] = {}
        self._before = Measured({}, None)
        self._summarised: set[str] = set()
        """The metrics whose last value stood in a summary."""
        self._seen_once: dict[str, None] = {}
        """Names that :class:`LinePatterns` has found once, oldest first; a new name takes their place."""
        self._left_out: set[int] = set()
        self.count = 0
        self.rules: dict[str, None] = {}

    def read(self, line: LogLine, time: float) -> None:
        """Read the next line.

        :param time: When it was written, by this machine's clock, in seconds since 1970.
        """
        written_by_helper = read_helper(line.text)
        text = line.text
        if written_by_helper:
            text = line.text[: written_by_helper[0][1]]
        for measured, _, _ in written_by_helper:
            self._add_said(measured, time)
        if text:
            for measured in self._measure(text, line.stream):
                self._add(measured, time, lasting=self._searches is not None)

    def add(self, measured: Measured, time: float) -> None:
        """Add what the job has measured by its own account, so that there is no doubt about the names.

        :param time: As for :meth:`read`.
        """
        self._add_said(measured, time)

    def last(self) -> dict[str, float | str]:
        """The last value of each metric, fit for JSON."""
        return {name: word_of(series.last) or series.last for name, series in self._series.items()}

    def completed_by(self, other: Metrics) -> Metrics:
        """A copy that also has the metrics of another under names that it does not have itself, while there are places.

        Its series are those of the two, so it is not to be read into.
        """
        joined = copy.copy(self)
        more = [name for name in other._series if name not in self._series]
        room = max(0, MOST_NAMES - len(self._series))
        joined.__dict__ |= {
            "_series": self._series | {name: other._series[name] for name in more[:room]},
            "_left_out": self._left_out | other._left_out | {hash(name) for name in more[room:]},
            "count": self.count + other.count,
            "rules": self.rules | (other.rules if more[:room] else {}),
        }
        return joined

    def snapshot(self) -> Metrics:
        """A copy for another thread, which may take its time with :meth:`content`."""
        taken = copy.copy(self)
        kept = {name: series.copy() for name, series in self._series.items()}
        taken.__dict__ |= {"_series": kept, "_left_out": self._left_out.copy(), "rules": self.rules.copy()}
        return taken

    def content(self, job_id: str, points: int = MOST_POINTS, size: int = MOST_BYTES) -> dict[str, Any]:
        """The XCom of all metrics, with as many points as its size allows.

        :param points: Points of each metric.
        :param size: Bytes of JSON.
        """
        gave_up = self._searches.given_up if self._searches else ()

        def content(most: int) -> dict[str, Any]:
            metrics = {name: _written(series, most) for name, series in self._series.items()}
            for name, metric in metrics.items():
                if name in gave_up:
                    metric["gave_up"] = True
            about = {"left_out": len(self._left_out), "rules": list(self.rules)}
            return {"job_id": job_id, "version": 1, "metrics": metrics} | about

        return _fitting(content, len(self._series), points, size)

    def restore(self, content: Mapping[str, Any]) -> float:
        """Continue from an earlier :meth:`content`; returns the time of its last value, in seconds since 1970."""
        self._series = {name: _read(metric) for name, metric in content["metrics"].items()}
        self._steps = {name: Steps(max(metric["steps"])) for name, metric in content["metrics"].items()}
        self.rules = dict.fromkeys(content.get("rules", ()))
        self.count = sum(series.count for series in self._series.values())
        return max((metric["times"][-1] for metric in content["metrics"].values()), default=float("-inf"))

    def _measure(self, text: str, stream: int | str) -> list[Measured]:
        patterns = self._patterns.get(stream)
        if patterns is None:
            patterns = LinePatterns()
            if len(self._patterns) < _MOST_STREAMS:
                self._patterns[stream] = patterns
        measured = patterns.read(text)
        if self._searches is None:
            return [measured]
        found = self._searches.read(text)
        step = patterns.inherited() if found and measured.step is None else measured.step
        lines = Measured({}, step, DEFINED, measured.loop, measured.step is None, measured.redrawn)
        return [
            replace(lines, values={name: value}) if own is None else Measured({name: value}, own, DEFINED)
            for name, (value, own) in found.items()
        ]

    def _add_said(self, measured: Measured, time: float) -> None:
        """Add what the script says itself, its steps as it says them."""
        self.rules[measured.rule] = None
        for name, value in measured.values.items():
            if self._has_place(name, lasting=True):
                series = self._series[name]
                series.add(value, time, measured.step)
                self._steps[name].note(series.count if measured.step is None else measured.step)
                self.count += 1

    def _add(self, measured: Measured, time: float, *, lasting: bool) -> None:
        if not measured.values:
            return
        before, self._before = self._before, measured
        redrawn = measured.redrawn and before.redrawn and (measured.step, measured.loop) == (before.step, before.loop)
        if measured == before and measured.step is not None and not (measured.inherited or redrawn):
            return  # as two handlers of one logger write it
        self.rules[measured.rule] = None
        for name, value in measured.values.items():
            if self._has_place(name, lasting=lasting) and not self._is_repeated(name, value, measured):
                self._add_value(name, value, time, measured, redrawn=redrawn)

    def _is_repeated(self, name: str, value: float, measured: Measured) -> bool:
        """Whether a value was printed before: by the line that named its place, or above a summary."""
        series = self._series[name]
        if measured.inherited and self._steps[name].said and series.last == value:
            return True
        if measured.summary and name not in self._summarised and series.count:
            return isclose(series.last, value, rel_tol=_AS_EQUAL)
        return False

    def _add_value(self, name: str, value: float, time: float, measured: Measured, *, redrawn: bool) -> None:
        series, steps = self._series[name], self._steps[name]
        (self._summarised.add if measured.summary else self._summarised.discard)(name)
        step = measured.step
        if measured.validated is not None and phase_in(name) == "val":
            step, redrawn = measured.validated, True
        if redrawn and steps.repeats(step, measured.loop):
            series.replace(value, time)
            return
        series.add(value, time, steps.next(step, measured.loop, counts=measured.inherited))
        self.count += 1

    def _has_place(self, name: str, *, lasting: bool) -> bool:
        """Whether a name is kept. Where all places are taken, it takes that of the oldest name that was seen once.

        So a printed configuration costs no curve. A name that comes a second time stays, so that many names that come
        in turn do not replace each other for ever.
        """
        if name in self._series:
            self._seen_once.pop(name, None)
            return True
        if len(self._series) >= MOST_NAMES:
            if not self._seen_once:
                self._leave_out(name)
                return False
            oldest = next(iter(self._seen_once))
            del self._seen_once[oldest], self._series[oldest], self._steps[oldest]
            self._leave_out(oldest)
        if hash(name) in self._left_out:
            self._left_out.remove(hash(name))
        elif not lasting:
            self._seen_once[name] = None
        self._series[name], self._steps[name] = Series(), Steps()
        return True

    def _leave_out(self, name: str) -> None:
        if not self._left_out:
            self._warn(f"This job writes more than {MOST_NAMES} metrics; only {MOST_NAMES} are kept.")
        if len(self._left_out) < _MOST_LEFT_OUT:
            self._left_out.add(hash(name))


def shrunk(metrics: Mapping[str, Any], points: int, size: int) -> dict[str, Any]:
    """The ``metrics`` of an XCom with fewer points.

    :param points: Points of each metric.
    :param size: Bytes of JSON.
    """
    read = {name: _read(each) for name, each in metrics.items()}

    def content(most: int) -> dict[str, Any]:
        return {name: {**metrics[name], **written(series.points(most))} for name, series in read.items()}

    return _fitting(content, len(read), points, size)


def _fitting(make: Callable[[int], dict[str, Any]], names: int, points: int, size: int) -> dict[str, Any]:
    most = min(points, max(FEWEST_POINTS, size // (_BYTES_A_POINT * max(1, names))))
    while True:
        content = make(most)
        if most == FEWEST_POINTS or len(json.dumps(content)) <= size:
            return content
        most = max(FEWEST_POINTS, most * 3 // 4)


def _read(metric: Mapping[str, Any]) -> Series:
    series = Series()
    for step, value, time in zip(metric["steps"], metric["values"], metric["times"], strict=True):
        series.add(float(value), time, step)
    return series


def _written(series: Series, most: int) -> dict[str, Any]:
    lowest, highest = series.extremes()
    values = {"last": series.last, "min": lowest, "max": highest}
    known = {name: word_of(value) or value for name, value in values.items()}
    return {**written(series.points(most)), "count": series.count, **known}
