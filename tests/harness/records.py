# SPDX-License-Identifier: Apache-2.0
"""Records of a job's log as the jobAPI server writes them."""

from __future__ import annotations

from datetime import datetime

from airflow_provider_jobapi.training.logs import stamp


def format_record(time: datetime, text: str) -> bytes:
    """Return a line as a record; the text must be free of newline, carriage return and NUL."""
    return f"{stamp(time)} {text}\n".encode()
