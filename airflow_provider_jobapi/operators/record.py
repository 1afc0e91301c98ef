# SPDX-License-Identifier: Apache-2.0
"""What a training task leaves behind for people to look at: its facts, its last status, and the curves of its tries.

Nothing here fails a task; its job trains, or has trained.
"""

from __future__ import annotations

import json
import logging
from bisect import bisect
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from airflow_provider_jobapi.training.job import data_files, data_version
from airflow_provider_jobapi.training.metrics.definitions import shrunk
from airflow_provider_jobapi.triggers.xcom_publisher import METRICS_KEY, STATUS_KEY
from airflow_provider_jobapi.training.units import read_span

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_jobapi.operators.parameters import Parameters
    from airflow_provider_jobapi.services.base import Submission
    from airflow_provider_jobapi.training.status import JobStatus

log = logging.getLogger(__name__)

FACTS_KEY = "training_facts"
"""The XCom of what was submitted."""

MOST_DATA = 50
"""The data files that the facts name."""

BYTES_OF_FACTS = 16 * 1024
"""What the facts take of JSON at the most; requirements and data files beyond that are counted."""

_MORE = 40
_TEXT = 500
"""The most characters of a text: an image, a destination."""

POINTS_OF_A_TRY = 100
BYTES_OF_A_TRY = 16 * 1024
"""What is kept of the metrics of an earlier try: points a metric, and bytes of JSON."""


@dataclass(frozen=True, slots=True)
class Placed:
    """The job of a try.

    :ivar submitted: When it was submitted, by our clock.
    :ivar data_version: The version of its data, where the service says it.
    """

    job_id: str
    name: str
    generation: int
    submission: Submission
    submitted: datetime
    data_version: str | None = None


def tell_facts(context: Context, placed: Placed, parameters: Parameters, conn_id: str) -> None:
    """Write what this try's job is; of one that an earlier try submitted, what the DAG says now."""
    try:
        context["ti"].xcom_push(key=FACTS_KEY, value=_facts(placed, parameters, conn_id))
    except Exception as error:  # noqa: BLE001 -- facts to look at are not worth a task
        log.warning("The facts of job %s cannot be told: %r", placed.job_id, error)


def _facts(placed: Placed, parameters: Parameters, conn_id: str) -> dict[str, Any]:
    inputs = placed.submission.inputs
    span = read_span(parameters.completion_time)
    facts: dict[str, Any] = {
        "job_id": placed.job_id,
        "name": placed.name,
        "image": str(parameters.image or "")[:_TEXT],
        "resources": parameters.resources().model_dump(),
        "requirements": [],
        "completion_time": None if span is None else span.total_seconds(),
        "conn_id": conn_id,
        "generation": placed.generation,
        "submitted": placed.submitted.astimezone(UTC).isoformat(timespec="milliseconds"),
        "destination": str(parameters.destination)[:_TEXT] if parameters.destination else None,
        "data": [],
        "data_version": placed.data_version or data_version(inputs),
    }
    left = BYTES_OF_FACTS - len(json.dumps(facts))
    lines = parameters.requirement_lines()
    facts["requirements"], used = _first(lines, len(lines), left // 2, "… and {} more".format)
    data = [{"name": each.path, "size": each.size, "sha256": each.sha256} for each in data_files(inputs)]
    facts["data"], _ = _first(data, MOST_DATA, left - used, lambda number: {"more": number})
    return facts


def _first(entries: list[Any], most: int, size: int, more: Callable[[int], Any]) -> tuple[list[Any], int]:
    """The first entries, and what they take of JSON; the last one says how many more there are."""
    sizes = list(accumulate((len(json.dumps(each)) + 2 for each in entries), initial=_MORE))
    kept = min(most, bisect(sizes, size) - 1)
    told = entries[: max(0, kept)]
    return told + ([more(len(entries) - len(told))] if len(told) < len(entries) else []), sizes[len(told)]


def record_end(context: Context, job_id: str, status: JobStatus) -> None:
    """Write the last status, and keep a copy of this try's curves where the next try does not wipe it."""
    ti = context["ti"]
    try:
        ti.xcom_push(key=STATUS_KEY, value=status.to_wire() | {"job_id": job_id})
        store = context.get("task_state_store")  # from Airflow 3.3 on
        if store is None:
            return
        told = ti.xcom_pull(task_ids=ti.task_id, key=METRICS_KEY, map_indexes=ti.map_index)
        if not isinstance(told, dict) or told.get("job_id") != job_id:
            return
        kept: dict[str, Any] = {"try": ti.try_number, "job_id": job_id, "status": status.status.value}
        kept["metrics"] = shrunk(told["metrics"], POINTS_OF_A_TRY, BYTES_OF_A_TRY)
        store.set(f"{METRICS_KEY}_{ti.try_number}", kept)
    except Exception as error:  # noqa: BLE001 -- a copy to look at is not worth a task
        log.warning("The end of job %s cannot be told, or its curves not kept for the next try: %r", job_id, error)
