# SPDX-License-Identifier: Apache-2.0
"""Check the durations that a DAG gives to an operator."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

from airflow_provider_jobapi.exceptions import InvalidJob

LONGEST = timedelta(days=3_650)


def check_spans(timeout: Any, patience: Any) -> None:
    """Refuse durations that would end a job as soon as it is submitted, or that are none.

    :raises InvalidJob: naming the parameter.
    """
    for name, value, least in (("timeout", timeout, "more than 0"), ("patience", patience, "0")):
        if value is None:
            continue
        seconds = value.total_seconds() if isinstance(value, timedelta) else value
        usable = isinstance(seconds, int | float) and not isinstance(seconds, bool) and math.isfinite(seconds)
        if not usable or seconds < 0 or seconds > LONGEST.total_seconds() or (name == "timeout" and not seconds):
            raise InvalidJob(
                f"{name} cannot be {str(value)[:80]!r}: it is a timedelta or a number of seconds, from {least} to "
                f"{LONGEST.days:,} days.",
                field=name,
            )
