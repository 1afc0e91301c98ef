# SPDX-License-Identifier: Apache-2.0
"""Report metrics and progress from a training script: lines of JSON on standard output, which the operator reads.

Copy this file beside the script; it needs nothing but Python 3.8::

    import jobapi_metrics

    jobapi_metrics.log(step, loss=0.25, accuracy=0.9)
    jobapi_metrics.progress(step, 1000)

It writes nothing outside a job, and never raises an error.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Mapping
from typing import Any

_NAME_LIMIT = 100
_METRICS_A_LINE = 10  # a line of a job's log holds 16 KiB; a longer one would be cut


_PROGRESS_PAUSE = 1.0  # seconds from one line about the progress to the next, but for the last one
_next_progress = 0.0


def listening() -> bool:
    """Whether the script runs as a job: every service sets ``JOB_ID``."""
    return bool(os.environ.get("JOB_ID"))


def log(step: Any = None, metrics: Mapping[str, Any] | None = None, **more: Any) -> None:
    """Write the metrics of one step.

    :param step: The epoch or step, whole or fractional. None numbers the values of each metric from 1.
    :param metrics: Names and numbers, as Keras passes to callbacks in ``logs``. Others are left out.
    :param more: More metrics, as keyword arguments.
    """
    if not listening():
        return
    try:
        values = _numbers(dict(metrics or {}, **more))
        where = _number(step)
        where = where if isinstance(where, float) else None
        lines = [
            json.dumps({"jobapi_metrics": 1, "step": where, "metrics": dict(values[begin : begin + _METRICS_A_LINE])})
            for begin in range(0, len(values), _METRICS_A_LINE)
        ]
        sys.stdout.write("".join(line + "\n" for line in lines))
        sys.stdout.flush()
    except Exception:  # noqa: BLE001, S110 -- metrics must never fail a training
        pass


def progress(done: Any, total: Any) -> None:
    """Write how far the training is, at most once a second, so that it may be called at every step.

    :param done: How much is done: epochs, steps, or any other measure.
    :param total: How much there is to do.
    """
    global _next_progress  # noqa: PLW0603 -- one training a process
    now = time.monotonic()
    if not listening():
        return
    try:
        first, second = float(done), float(total)
        if not 0 <= first <= second < math.inf or second == 0 or (now < _next_progress and first < second):
            return
        _next_progress = now + _PROGRESS_PAUSE
        line = json.dumps({"jobapi_metrics": 1, "progress": {"done": first, "total": second}})
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    except Exception:  # noqa: BLE001, S110 -- as for metrics
        pass


def _numbers(values: Mapping[str, Any]) -> list[tuple[str, float | str]]:
    read = [(str(name)[:_NAME_LIMIT], _number(value)) for name, value in values.items()]
    return [(name, value) for name, value in read if name and value is not None]


def _number(value: Any) -> float | str | None:
    """Convert to a float, or to a word where JSON has no such number (NaN, infinities); None where that fails."""
    try:
        number = float(value)
    except Exception:  # noqa: BLE001 -- tensors raise errors of many types
        return None
    if math.isfinite(number):
        return number
    return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"
