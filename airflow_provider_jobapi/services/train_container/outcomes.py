# SPDX-License-Identifier: Apache-2.0
"""How the containers of jobs have ended: their responses, judged once, and the files that they export."""

from __future__ import annotations

import json
import logging

from airflow_provider_jobapi.services.retry import Retry
from airflow_provider_jobapi.services.train_container import logs, names
from airflow_provider_jobapi.services.train_container.commands import Command
from airflow_provider_jobapi.services.train_container.connection import LARGEST_EXPORT
from airflow_provider_jobapi.services.train_container.containers import Containers
from airflow_provider_jobapi.services.train_container.dialects import read_requirements
from airflow_provider_jobapi.services.train_container.engine import Engine
from airflow_provider_jobapi.services.train_container.exports import Export, measured
from airflow_provider_jobapi.services.train_container.job_status import status_of
from airflow_provider_jobapi.services.train_container.judge import Rules, Verdict, judge
from airflow_provider_jobapi.services.train_container.states import ContainerState
from airflow_provider_jobapi.services.train_container.targets import read_targets
from airflow_provider_jobapi.services.train_container.vocabulary import RunResult
from airflow_provider_jobapi.training.status import JobStatus


class Outcomes:
    """How containers have ended.

    :param retry: How each request is repeated while the engine does not answer.
    :param largest: Bytes that export files may have together.
    """

    def __init__(
        self, engine: Engine, containers: Containers, retry: Retry, log: logging.Logger, largest: int = LARGEST_EXPORT
    ) -> None:
        self._engine = engine
        self._largest = largest
        self._containers = containers
        self._retry = retry
        self._log = log
        self._verdicts: dict[str, Verdict] = {}

    def status(self, container: ContainerState) -> JobStatus:
        """Return the status of a container's job; of one that has ended, by its response and its exit code."""
        if container.was_started and not container.ended:
            return status_of(container, None, None)
        stop = self._containers.stop_reason(container.labels[names.JOB_ID])
        has_output = container.ended and container.word not in {"dead", "removing"}
        return status_of(container, self.verdict(container) if has_output else None, stop)

    def verdict(self, container: ContainerState) -> Verdict:
        """Judge a command that has ended, once."""
        if container.id not in self._verdicts:
            labels = container.labels
            known = json.loads(labels.get(names.RULES) or "{}")
            data = tuple(filter(None, (*container.data, labels.get(names.DATA))))
            rules = Rules(
                strict=bool(known.get("strict")),
                plain_summary=bool(known.get("plain_summary")),
                targets=read_targets(known.get("targets")),
                data=data,
                listed=None if (listed := known.get("listed")) is None else read_requirements(listed),
            )
            tail = self._retry.call(lambda: logs.stdout_tail(self._engine, container.id), self._log)
            command = Command(labels.get(names.COMMAND, Command.RUN_ALGORITHM))
            code, memory = container.exit_code or 0, container.out_of_memory
            self._verdicts[container.id] = judge(command, code, tail, rules, out_of_memory=memory)
        return self._verdicts[container.id]

    def exports(self, container: ContainerState) -> tuple[Export, ...]:
        """Return the files that a train exports, checked and measured; none where its run was not successful."""
        verdict = self.verdict(container)
        answer = verdict.answer
        if not verdict.ok or not isinstance(answer, RunResult) or not answer.export_files:
            return ()
        return self._retry.call(
            lambda: measured(self._engine, container.id, answer.export_files, container.data, self._largest), self._log
        )
