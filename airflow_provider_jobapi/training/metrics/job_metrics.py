# SPDX-License-Identifier: Apache-2.0
"""The metrics of a job that may also write event files of TensorBoard: what it prints, and what only the files have.

A metric that the job prints keeps its name, and a curve of the same name in the event files is left out. So what a DAG
finds under a name does not depend on whether the service reads event files. What is printed and what is in the files
are two streams, and each is read for itself, so the metrics do not depend on which of them was read first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from airflow_provider_jobapi.training.logs import LogLine
from airflow_provider_jobapi.training.metrics.definitions import MetricDefinition, Metrics
from airflow_provider_jobapi.training.metrics.helper import read_helper
from airflow_provider_jobapi.training.metrics.line_metrics import Measured

RULE = "tensorboard"
"""The name of this source of metrics, beside those of the rules for lines."""

_NO_METRICS = frozenset(
    {
        *("epoch", "step", "global_step", "iteration", "iter"),
        *("runtime", "samples_per_second", "steps_per_second", "total_flos"),
        *("train_runtime", "train_samples_per_second", "train_steps_per_second"),
    }
)
"""The last parts of names of curves that say where the training is, or how fast the Trainer of transformers was."""

_PLACEHOLDER = "hp_metric", -1.0
"""What Lightning writes where a script has no such metric."""


class JobMetrics:
    """All metrics of one job; see :class:`~airflow_provider_jobapi.training.metrics.definitions.Metrics`."""

    def __init__(
        self,
        definitions: tuple[MetricDefinition, ...] | None,
        clock: Callable[[], float],
        warn: Callable[[str], object],
    ) -> None:
        self._warn = warn
        self._warnings: set[str] = set()
        self._printed = Metrics(definitions, clock, self._warn_once)
        self._of_files = Metrics((), clock, self._warn_once)

    @property
    def count(self) -> int:
        """The values of all metrics together."""
        return self._printed.count + self._of_files.count

    def read(self, line: LogLine, time: float) -> None:
        """Read the next line of the log.

        :param time: When it was written, by this machine's clock, in seconds since 1970.
        """
        self._printed.read(line, time)

    def read_scalars(self, line: LogLine, time: float) -> None:
        """Read the next line of the scalars.

        :param time: As for :meth:`read`.
        """
        for measured, _, _ in read_helper(line.text):
            values = {name: value for name, value in measured.values.items() if _measures(name, value)}
            if values:
                self._of_files.add(Measured(values, measured.step, RULE), time)

    def last(self) -> dict[str, float | str]:
        """The last value of each metric, fit for JSON."""
        return self._printed.completed_by(self._of_files).last()

    def snapshot(self) -> Metrics:
        """A copy for another thread, which may take its time with the content."""
        return self._printed.completed_by(self._of_files).snapshot()

    def restore(self, content: Mapping[str, Any]) -> float:
        """Continue from an earlier content; returns the time of its last value, in seconds since 1970."""
        return self._printed.restore(content)

    def _warn_once(self, text: str) -> None:
        if text not in self._warnings:
            self._warnings.add(text)
            self._warn(text)


def _measures(name: str, value: float) -> bool:
    last = name.rpartition("/")[2]
    return last.lower() not in _NO_METRICS and (last, value) != _PLACEHOLDER
