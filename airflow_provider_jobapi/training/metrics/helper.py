# SPDX-License-Identifier: Apache-2.0
"""Read what ``jobapi_metrics``, the file for training scripts, has written in a line."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from airflow_provider_jobapi.training.metrics.line_metrics import Measured
from airflow_provider_jobapi.training.metrics.names import NAME_LIMIT
from airflow_provider_jobapi.training.metrics.place_in_line import usable_step

HELPER_MARK = '{"jobapi_metrics"'
"""The start of a line of ``jobapi_metrics``; ``docs/metrics.schema.json`` is its schema."""

RULE = "jobapi_metrics"
"""The name of this way of writing, beside those of the rules."""

_MOST_BROKEN = 4
"""Objects in a line that are none of the helper's, after which the rest of the line is not searched."""

_DECODER = json.JSONDecoder()


def read_helper(text: str) -> list[tuple[Measured, int, int]]:
    """Find what ``jobapi_metrics`` wrote in a line, with start and end; empty where there is nothing.

    It need not be the whole line: a progress bar without a newline may come before it, and two processes that write at
    once may share a line.
    """
    found, broken = [], 0
    begin = text.find(HELPER_MARK)
    while begin >= 0 and broken < _MOST_BROKEN:
        end, broken = begin + 1, broken + 1
        try:
            content, after = _DECODER.raw_decode(text, begin)
        except (ValueError, RecursionError):
            pass
        else:
            if measured := _measured(content):
                end, broken = after, broken - 1
                found.append((measured, begin, end))
        begin = text.find(HELPER_MARK, end)
    return found


def _measured(content: Mapping[str, Any]) -> Measured | None:
    version, values = content["jobapi_metrics"], content.get("metrics")
    if version is True or version != 1 or not isinstance(values, dict):
        return None
    read = {_name(name): number for name, value in values.items() if name and (number := _number(value)) is not None}
    return Measured(read, usable_step(content.get("step")), RULE) if read else None


def _name(name: str) -> str:
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in name[:NAME_LIMIT])


def _number(value: Any) -> float | None:
    if isinstance(value, str):
        return float(value) if value in {"NaN", "Infinity", "-Infinity"} else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def read_progress(text: str) -> tuple[float, float] | None:
    """What ``jobapi_metrics.progress`` wrote in a line: how much is done, and of how much."""
    found = _progress(text)
    return None if found is None else found[:2]


def _progress(text: str) -> tuple[float, float, int, int] | None:
    """The progress in a line, with start and end."""
    begin = text.find(HELPER_MARK)
    if begin < 0 or '"progress"' not in text:
        return None
    try:
        content, end = _DECODER.raw_decode(text, begin)
        done, total = content["progress"]["done"], content["progress"]["total"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    numbers = all(isinstance(each, int | float) and not isinstance(each, bool) for each in (done, total))
    return (float(done), float(total), begin, end) if numbers and 0 <= done <= total <= 2**53 and total else None


def readable(text: str) -> str:
    """Format what ``jobapi_metrics`` wrote in a line for people: ``step 3: loss=0.25``, ``progress: 30 of 100``."""
    if told := _progress(text):
        done, total, begin, end = told
        return f"{text[:begin]}progress: {done:.12g} of {total:.12g}{text[end:]}"
    for measured, begin, end in reversed(read_helper(text)):
        step = measured.step
        where = "" if step is None else f"step {step:.{8 if step % 1 else 17}g}: "
        values = " ".join(f"{name}={value:.8g}" for name, value in measured.values.items())
        text = f"{text[:begin]}{where}{values}{text[end:]}"
    return text
