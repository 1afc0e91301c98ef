# SPDX-License-Identifier: Apache-2.0
"""A station on a real engine, and trains that do what a test wants."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_jobapi.services.base import Handle
from airflow_provider_jobapi.services.retry import Retry
from airflow_provider_jobapi.services.train_container.commands import Command
from airflow_provider_jobapi.services.train_container.connection import TrainConnection
from airflow_provider_jobapi.services.train_container.engine import Engine as Client
from airflow_provider_jobapi.services.train_container.plan import Plan
from airflow_provider_jobapi.services.train_container.service import TrainContainerService
from airflow_provider_jobapi.training.logs import LogLine
from airflow_provider_jobapi.training.status import JobStatus
from tests.harness.containers.engine import Engine
from tests.harness.containers.registry import PASSWORD, USER
from tests.harness.waiting import wait_for

SCRIPTED = "localhost/scripted:1"


@dataclass
class Station:
    """A station; its jobs are removed when the test is over.

    :ivar jobs: The ids of its jobs.
    """

    engine: Engine
    environment: dict[str, str] = field(default_factory=dict)
    jobs: list[str] = field(default_factory=list)

    def service(self, url: str = "", **settings: Any) -> TrainContainerService:
        """The service of a worker's own."""
        url = url or self.engine.url
        extra = {"engine": self.engine.url, "poll_interval": 0.1, "grace": 1, "station": "Leipzig", **settings}
        connection = TrainConnection.of(extra=extra)
        return TrainContainerService(
            connection,
            Client(lambda: connect(url), connection.engine),
            environment=lambda: self.environment,
            task_labels=lambda: {"airflow.dag_id": "trains", "airflow.run_id": "r1", "airflow.try_number": "1"},
            auth=lambda image: {"username": USER, "password": PASSWORD} if image.startswith("127.0.0.1") else None,
            log=logging.getLogger("station"),
            retry=Retry(total=20, attempts=4),
        )

    def job_id(self) -> str:
        """The id of a new job."""
        self.jobs.append(str(uuid.uuid4()))
        return self.jobs[-1]

    def run(self, plan: Plan, job_id: str = "", **settings: Any) -> tuple[TrainContainerService, Handle]:
        """Run a train, and return while it runs."""
        service = self.service(**settings)
        return service, service.launch(plan, job_id or self.job_id()).handle

    def ended(self, plan: Plan, **settings: Any) -> tuple[TrainContainerService, Handle, JobStatus]:
        """Run a train to its end."""
        service, handle = self.run(plan, **settings)
        return service, handle, end_of(service, handle)

    def clean(self) -> None:
        """Remove what the jobs have left."""
        client = self.engine.client
        for job_id in self.jobs:
            for name in (f"jobapi-{job_id}", f"jobapi-{job_id}-successor"):
                with suppress(Exception):
                    client.remove_container(name, force=True, v=True)
            for volume in client.volumes(filters={"label": [f"airflow.job_id={job_id}"]})["Volumes"] or []:
                with suppress(Exception):
                    client.remove_volume(volume["Name"])


def connect(url: str) -> Any:
    """A client of an engine."""
    from docker import APIClient

    return APIClient(base_url=url, version="auto", timeout=30)


def scripted(code: str = "answer()", **more: Any) -> Plan:
    """A train whose ``run_algorithm`` is this code."""
    return Plan(**{"image": SCRIPTED, "command": Command.RUN_ALGORITHM, "arguments": (code,), **more})


def end_of(service: TrainContainerService, handle: Handle) -> JobStatus:
    """The status of a job, once it has ended."""
    wait_for("the job has ended", lambda: service.status(handle).status.ended, 30, 0.1)
    return service.status(handle)


def followed(
    service: TrainContainerService,
    handle: Handle,
    cursor: Any = None,
    until: Callable[[list[LogLine]], bool] | None = None,
) -> tuple[list[LogLine], Any]:
    """The lines of a job, as its trigger reads them, to its end or until a test has seen enough."""

    async def follow() -> tuple[list[LogLine], Any]:
        lines: list[LogLine] = []
        at, deadline = cursor, time.monotonic() + 120
        async with service.follower(handle) as follower:
            while time.monotonic() < deadline:
                chunk = await follower.read(at)
                lines += chunk.lines
                at = chunk.cursor
                if chunk.complete or (until is not None and until(lines)):
                    return lines, at
        raise AssertionError(f"the job did not end; its lines are {lines}")

    return asyncio.run(follow())
