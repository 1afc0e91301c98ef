# SPDX-License-Identifier: Apache-2.0
"""Check the durations that a DAG gives to an operator."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.training.units import LONGEST_SPAN


def check_spans(timeout: Any, patience: Any) -> None:
    """Refuse what is not a duration, and a timeout that would end a job as soon as it is submitted.

    :raises InvalidJob: naming the parameter.
    """
    for name, value, least in (("timeout", timeout, "more than 0"), ("patience", patience, "0")):
        if value is None:
            continue
        seconds = value.total_seconds() if isinstance(value, timedelta) else value
        usable = isinstance(seconds, int | float) and not isinstance(seconds, bool) and math.isfinite(seconds)
        if not usable or seconds < 0 or seconds > LONGEST_SPAN.total_seconds() or (name == "timeout" and not seconds):
            raise InvalidJob(
                f"{name} cannot be {str(value)[:80]!r}: it is a timedelta or a number of seconds, from {least} to "
                f"{LONGEST_SPAN.days:,} days.",
                field=name,
            )
