# SPDX-License-Identifier: Apache-2.0
"""Tells the metrics of a training to whoever follows its log: one line of JSON a step, on standard output.

This file is for the training script. It needs nothing but Python 3.8, so that it may be copied beside the script:

    import jobapi_metrics

    jobapi_metrics.log(step, loss=0.25, accuracy=0.9)

Outside a job nobody listens, and it does nothing. It never fails a training.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Mapping
from typing import Any

_NAME_LIMIT = 100
_METRICS_A_LINE = 10  # a line of a job's log holds 16 KiB; a longer one would be cut


def listening() -> bool:
    """Whether somebody follows: a jobAPI gives every job its ``JOB_ID``."""
    return bool(os.environ.get("JOB_ID"))


def log(step: Any = None, metrics: Mapping[str, Any] | None = None, **more: Any) -> None:
    """Write the values of a step.

    :param step: Where the training is: an epoch or a step, whole or not. None: values are counted.
    :param metrics: A mapping of names and numbers, such as the ``logs`` of Keras' callbacks.
    :param more: The same by keyword. What cannot be made a number is left out.
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
    except Exception:  # noqa: BLE001, S110 -- a training is worth more than its metrics
        pass


def _numbers(values: Mapping[str, Any]) -> list[tuple[str, float | str]]:
    read = [(str(name)[:_NAME_LIMIT], _number(value)) for name, value in values.items()]
    return [(name, value) for name, value in read if name and value is not None]


def _number(value: Any) -> float | str | None:
    """A float, or the word for what JSON has no number for; None for what is no number."""
    try:
        number = float(value)
    except Exception:  # noqa: BLE001 -- whatever a tensor thinks of it
        return None
    if math.isfinite(number):
        return number
    return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"
