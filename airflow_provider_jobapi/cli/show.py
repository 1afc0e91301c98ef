# SPDX-License-Identifier: Apache-2.0
"""The status of jobs as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from airflow_provider_jobapi.cli.terminal import visible
from airflow_provider_jobapi.training.metrics.progress import Estimate
from airflow_provider_jobapi.training.status import JobState, JobStatus


def details(status: JobStatus) -> str:
    """Format one job, a line for each field; times are in the time zone of this machine."""
    rows = {
        "job": status.job_id,
        "name": status.name,
        "status": _state(status),
        "message": status.message,
        "submitted": _moment(status.submission_time),
        "started": _moment(status.start_time),
        "ended": _moment(status.finish_time),
        "took": _span(status),
        "runs in": status.container_id,
        "continues": status.resumed_from or "",
    }
    return "\n".join(f"{name + ':':<11}{visible(value)}" for name, value in rows.items() if value)


def table(statuses: Iterable[JobStatus]) -> str:
    """Format jobs as a table, one line each."""
    rows = [("JOB", "STATUS", "SUBMITTED", "TOOK", "NAME")]
    for each in statuses:
        cells = (each.job_id, _state(each), _moment(each.submission_time), _span(each), each.name)
        rows.append(tuple(visible(cell) for cell in cells))  # type: ignore[arg-type]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(_aligned(row, widths) for row in rows)


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _state(status: JobStatus) -> str:
    """The state and why, such as ``FAILED (NonZeroExit, exit code 3)``, or how far; success needs no reason."""
    cause = "" if status.status is JobState.SUCCESSFUL else status.cause
    if not cause and status.progress is not None:
        cause = str(Estimate(status.progress, status.remaining))
    return f"{status.status} ({cause})" if cause else str(status.status)


def _moment(moment: datetime | None) -> str:
    try:
        return "" if moment is None else moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, ValueError):  # a service may answer with any year
        return str(moment)


def _span(status: JobStatus) -> str:
    """How long the job ran; empty until it has ended."""
    if status.start_time is None or status.finish_time is None:
        return ""
    return str(max(timedelta(), timedelta(seconds=round((status.finish_time - status.start_time).total_seconds()))))
