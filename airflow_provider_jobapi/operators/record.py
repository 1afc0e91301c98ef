# SPDX-License-Identifier: Apache-2.0
"""The XComs that a training task leaves for people: the facts of its job, its last status, the metrics of its tries.

Writing them never fails a task, whose job trains or has trained.
"""

from __future__ import annotations

import json
import logging
from bisect import bisect
from collections.abc import Callable, Mapping
from datetime import UTC
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from airflow_provider_jobapi.training.job import code_version, data_files, data_version
from airflow_provider_jobapi.training.masking import Masker, without_credentials
from airflow_provider_jobapi.training.metrics.definitions import shrunk
from airflow_provider_jobapi.training.units import read_span
from airflow_provider_jobapi.triggers import xcoms
from airflow_provider_jobapi.triggers.xcom_publisher import METRICS_KEY, STATUS_KEY

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_jobapi.operators.parameters import Parameters
    from airflow_provider_jobapi.operators.placement import Placed
    from airflow_provider_jobapi.training.status import JobStatus

log = logging.getLogger(__name__)

FACTS_KEY = "training_facts"
"""The XCom of what was submitted."""

MAX_DATA_FILES = 50
"""Data files that the facts name; more are counted."""

MAX_FACTS_BYTES = 16 * 1024
"""Bytes of JSON of the facts; requirements and data files beyond that are counted."""

_COUNT_BYTES = 40
"""Bytes of JSON that are kept free for the entry that counts the rest."""

_FREE_TEXTS = ("name", "image", "requirements", "destination", "data")
"""The facts in which a secret may stand."""

_MAX_TEXT = 500
"""Characters of the image and of the destination."""

TRY_POINTS = 100
TRY_BYTES = 16 * 1024
"""What is kept of the metrics of an earlier try: points of each metric, and bytes of JSON."""


def record_facts(
    context: Context, placed: Placed, parameters: Parameters, conn_id: str, masker: Masker | None = None
) -> None:
    """Write what the job of this try is; for an adopted job, what the DAG says now.

    :param masker: Hides the secrets of the job.
    """
    try:
        facts = _facts(placed, parameters, conn_id)
        if masker is not None:
            facts |= {name: Masker(masker.secrets).value(facts[name]) for name in _FREE_TEXTS}
        xcoms.push(context["ti"], FACTS_KEY, facts)
    except Exception as error:  # noqa: BLE001 -- facts to look at are not worth a task
        log.warning("The facts of job %s cannot be written: %r", placed.job_id, error)


def _facts(placed: Placed, parameters: Parameters, conn_id: str) -> dict[str, Any]:
    job, inputs = parameters.job, placed.submission.inputs
    span = read_span(job.completion_time)
    facts: dict[str, Any] = {
        "job_id": placed.job_id,
        "name": placed.name,
        "image": job.image[:_MAX_TEXT],
        "resources": job.resources.model_dump(),
        "requirements": [],
        "completion_time": None if span is None else span.total_seconds(),
        "conn_id": conn_id,
        "generation": placed.generation,
        "submitted": placed.submitted.astimezone(UTC).isoformat(timespec="milliseconds"),
        "destination": parameters.destination and parameters.destination[:_MAX_TEXT],
        "data": [],
        "data_version": placed.data_version or data_version(inputs),
    }
    if job.nodes > 1:
        facts["nodes"] = job.nodes
    if job.entry_point:
        facts["entry_point"] = job.entry_point[:_MAX_TEXT]
    if version := code_version(inputs):
        facts["code_version"] = version
    left = MAX_FACTS_BYTES - len(json.dumps(facts))
    lines = [without_credentials(line) for line in job.requirements.splitlines()]
    facts["requirements"], used = _first(lines, len(lines), left // 2, "… and {} more".format)
    data = [{"name": each.path, "size": each.size, "sha256": each.sha256} for each in data_files(inputs)]
    facts["data"], _ = _first(data, MAX_DATA_FILES, left - used, lambda number: {"more": number})
    return facts


def _first(entries: list[Any], most: int, size: int, more: Callable[[int], Any]) -> tuple[list[Any], int]:
    """The first entries and the bytes of JSON that they take; the last one counts the rest.

    :param size: Bytes of JSON to keep within.
    """
    sizes = list(accumulate((len(json.dumps(each)) + 2 for each in entries), initial=_COUNT_BYTES))
    kept = entries[: max(0, min(most, bisect(sizes, size) - 1))]
    return kept + ([more(len(entries) - len(kept))] if len(kept) < len(entries) else []), sizes[len(kept)]


def record_end(context: Context, job_id: str, status: JobStatus) -> None:
    """Write the last status and which rules found metrics; copy this try's metrics to where the next keeps them."""
    ti = context["ti"]
    try:
        xcoms.push(ti, STATUS_KEY, status.to_wire() | {"job_id": job_id})
        written = xcoms.pull(ti, METRICS_KEY)
        if not isinstance(written, dict) or written.get("job_id") != job_id:
            return
        _record_rules(ti, job_id, written.get("rules"))
        store = context.get("task_state_store")  # from Airflow 3.3 on
        if store is None:
            return
        kept: dict[str, Any] = {"try": ti.try_number, "job_id": job_id, "status": status.status.value}
        kept["metrics"] = shrunk(written["metrics"], TRY_POINTS, TRY_BYTES)
        store.set(f"{METRICS_KEY}_{ti.try_number}", kept)
    except Exception as error:  # noqa: BLE001 -- a copy to look at is not worth a task
        log.warning("The end of job %s, or its metrics for the next try, cannot be written: %r", job_id, error)


def _record_rules(ti: Any, job_id: str, rules: Any) -> None:
    """Add to the facts which rules have found metrics in the log."""
    facts = xcoms.pull(ti, FACTS_KEY)
    if rules and isinstance(facts, dict) and facts.get("job_id") == job_id:
        xcoms.push(ti, FACTS_KEY, facts | {"metric_rules": rules})


def record_result(context: Context, job_id: str, model: Mapping[str, Any], *, of_fetch: bool = False) -> None:
    """Write where the model is and of what kind, for the Training tab.

    :param model: The facts of the model in the task's result.
    :param of_fetch: Whether the task's result is the model's place alone.
    """
    try:
        xcoms.push_result(context["ti"], job_id, model.get("model"), model, of_fetch=of_fetch)
    except Exception as error:  # noqa: BLE001 -- a place to look at is not worth a task
        log.warning("The place of the model of job %s cannot be written: %r", job_id, error)
