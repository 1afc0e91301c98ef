# SPDX-License-Identifier: Apache-2.0
"""What stays of an ended job on its engine: its container for a while, and then a record without secrets."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from airflow_provider_jobapi.exceptions import JobGone
from airflow_provider_jobapi.services.retry import Retry
from airflow_provider_jobapi.services.train_container import housekeeping, names
from airflow_provider_jobapi.services.train_container.connection import TrainConnection
from airflow_provider_jobapi.services.train_container.containers import Containers
from airflow_provider_jobapi.services.train_container.engine import Engine
from airflow_provider_jobapi.services.train_container.handles import JobHandle
from airflow_provider_jobapi.services.train_container.outcomes import Outcomes
from airflow_provider_jobapi.services.train_container.secrecy import masker_of
from airflow_provider_jobapi.services.train_container.states import ContainerState
from airflow_provider_jobapi.training.masking import Masker
from airflow_provider_jobapi.training.status import JobStatus

Hide = Callable[[JobStatus], JobStatus]
"""Hides secrets in a status."""


class Retention:
    """Keeps how jobs ended, and removes their containers.

    :param retry: How each request is repeated while the engine does not answer.
    """

    def __init__(
        self,
        connection: TrainConnection,
        engine: Engine,
        containers: Containers,
        outcomes: Outcomes,
        retry: Retry,
        log: logging.Logger,
    ) -> None:
        self._connection = connection
        self._engine = engine
        self._containers = containers
        self._outcomes = outcomes
        self._retry = retry
        self._log = log

    def masker(self, container: ContainerState) -> Masker:
        """Return what hides the station's secrets in what a train says, see :mod:`.secrecy`."""
        return self._retry.call(lambda: masker_of(self._engine, container), self._log)

    def public_status(self, container: ContainerState, hide: Hide | None = None) -> JobStatus:
        """Return the status of a job without the secrets of its station.

        :param hide: Hides more, such as secrets in the job's data.
        """
        status = self.masker(container).status(self._outcomes.status(container))
        return hide(status) if hide else status

    def last_status(self, handle: JobHandle) -> JobStatus:
        """Return how a job ended whose container was removed.

        :raises JobGone: when nothing says it.
        """
        ended = self._containers.end_of(handle.job_id)
        if ended is None:
            raise JobGone(
                f"The container of job {handle.job_id} was removed from the engine {self._engine.where} by somebody, "
                "and nothing says how it ended."
            )
        return ended[0]

    def kept_result(self, handle: JobHandle) -> dict[str, Any] | None:
        """Return what was kept of a job; None where its end is not recorded."""
        ended = self._containers.end_of(handle.job_id)
        return None if ended is None else ended[1]

    def note_end(self, container: ContainerState, hide: Hide | None = None) -> None:
        """Record how a job ended, and leave its container."""
        self._containers.keep_end(container.labels[names.JOB_ID], self.public_status(container, hide))

    def remove(
        self, container: ContainerState, result: Mapping[str, Any] | None = None, hide: Hide | None = None
    ) -> None:
        """Record how a job ended, and remove its container and its data.

        :param result: What to keep of it.
        """
        self._containers.remove(container.labels[names.JOB_ID], self.public_status(container, hide), result)

    def sweep(self) -> None:
        """Remove the containers of this station that ended long ago, now and then."""
        station, days = self._connection.station, self._connection.keep_days
        if days and housekeeping.is_due(self._engine, station):
            housekeeping.sweep(self._engine, station, days, self.remove, self._log)
