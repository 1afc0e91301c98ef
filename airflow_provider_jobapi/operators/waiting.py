# SPDX-License-Identifier: Apache-2.0
"""Wait for a job with the trigger: in the triggerer, or inline in the worker."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_provider_jobapi.triggers import xcoms

if TYPE_CHECKING:
    from airflow_provider_jobapi.services.base import Submission
    from airflow_provider_jobapi.training.masking import Masker
    from airflow_provider_jobapi.triggers.training import TrainingTrigger

SETTLE = timedelta(seconds=3)
"""How long a worker that defers still writes lines, into a group that the UI folds; the job's lines are shown below."""


def make_trigger(submission: Submission, *, deferrable: bool, **parameters: Any) -> TrainingTrigger:
    """The trigger that follows a job.

    :param deferrable: Whether the worker defers; inline, the job's lines need not wait for the worker's last ones.
    :param parameters: The other parameters of the trigger.
    """
    from airflow_provider_jobapi.triggers.training import TrainingTrigger

    not_before = datetime.now(UTC) + (SETTLE if deferrable else timedelta())
    return TrainingTrigger(
        handle=submission.handle,
        not_before=not_before.isoformat(timespec="milliseconds"),
        skew=submission.skew.total_seconds(),
        **parameters,
    )


def run_inline(trigger: TrainingTrigger, ti: Any, masker: Masker | None = None) -> dict[str, Any]:
    """Run a trigger in this process, with the XComs of a task instance; its one event's payload.

    :param ti: None for a job that is not the task's own, and leaves no XComs: the Training tab shows those of one job.
    :param masker: Hides the secrets of the job, which need not be unsealed here.
    """
    if masker is not None:
        trigger.masker = masker
    trigger.sink = None if ti is None else partial(xcoms.push, ti)

    async def first_event() -> dict[str, Any]:
        async with aclosing(trigger.run()) as events:
            payload: dict[str, Any] = (await anext(events)).payload
            return payload

    return asyncio.run(first_event())


def seconds_of(span: timedelta | float | None) -> float:
    """The seconds of a duration; 0 for None."""
    return span.total_seconds() if isinstance(span, timedelta) else span or 0.0
