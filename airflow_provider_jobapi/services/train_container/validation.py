# SPDX-License-Identifier: Apache-2.0
"""Check whether an image keeps the Train API, by running its commands; nothing of them stays on the engine."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.services.retry import Retry
from airflow_provider_jobapi.services.train_container.commands import Command
from airflow_provider_jobapi.services.train_container.containers import Containers
from airflow_provider_jobapi.services.train_container.judge import REQUIREMENTS_UNMET, Verdict
from airflow_provider_jobapi.services.train_container.names import container_name
from airflow_provider_jobapi.training.units import span_text

if TYPE_CHECKING:
    from airflow_provider_jobapi.services.train_container.plan import Plan
    from airflow_provider_jobapi.services.train_container.service import TrainContainerService

_log = logging.getLogger(__name__)

PAUSE = 0.2
"""Seconds between two looks at a container."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a command of an image does.

    :ivar ok: Whether it keeps the Train API. That a station does not meet the requirements is no fault of the image.
    :ivar message: A sentence; empty where there is nothing to say.
    """

    command: Command
    ok: bool
    message: str
    verdict: Verdict | None = None


def validate(
    service: TrainContainerService, plan: Plan, commands: Iterable[Command], limit: timedelta
) -> Iterator[Finding]:
    """Run commands of an image one after another.

    :param plan: Of any command, with everything else that is to be used.
    :param limit: The most that each command may take; one that takes longer is stopped, and is a finding.
    :raises TrainingError: when the engine or the image cannot be used.
    """
    for command in commands:
        yield _run(service, replace(plan, command=command), limit)


def _run(service: TrainContainerService, plan: Plan, limit: timedelta) -> Finding:
    job_id = str(uuid.uuid4())
    containers, name = Containers(service.engine, Retry(), _log), container_name(job_id)
    try:
        handle = service.launch(plan, job_id).handle
        end = time.monotonic() + limit.total_seconds()
        while not (status := service.status(handle)).status.ended:
            if time.monotonic() > end:
                return Finding(plan.command, ok=False, message=f"It did not end within {span_text(limit)}.")
            time.sleep(PAUSE)
        verdict, masker = service.verdict(handle), service.masker(handle)
    except InvalidJob as error:
        if error.field != "command":
            raise
        return Finding(plan.command, ok=False, message=str(error))
    finally:
        service.engine.remove(name, force=True)  # it runs where this process was interrupted
        containers.forget(job_id, name)
    message = masker.text(verdict.message or status.message)
    return Finding(plan.command, verdict.ok or verdict.reason == REQUIREMENTS_UNMET, message, verdict)
