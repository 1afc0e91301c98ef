# SPDX-License-Identifier: Apache-2.0
"""From a plan to the configuration of its container: the image, the station's environment, the data, the isolation."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_jobapi.services.retry import Retry
from airflow_provider_jobapi.services.train_container import names, station_data
from airflow_provider_jobapi.services.train_container.commands import RULES, environment_for
from airflow_provider_jobapi.services.train_container.connection import TrainConnection
from airflow_provider_jobapi.services.train_container.container_config import (
    DATA_VARIABLE,
    container_config,
    labels_of,
)
from airflow_provider_jobapi.services.train_container.engine import Engine
from airflow_provider_jobapi.services.train_container.images import Images, digest_of
from airflow_provider_jobapi.services.train_container.isolation import read_isolation
from airflow_provider_jobapi.services.train_container.plan import Plan
from airflow_provider_jobapi.services.train_container.states import ContainerState

if TYPE_CHECKING:
    from airflow_provider_jobapi.services.files.sources import Source
    from airflow_provider_jobapi.training.job_file import InputFile


@dataclass(frozen=True, slots=True)
class Launch:
    """A container that is to be created.

    :ivar config: The body of the request, with the station's secrets.
    :ivar volume: The volume that the data are copied into; empty where there is none.
    """

    config: Mapping[str, Any] = field(repr=False)
    sources: Mapping[str, Source]
    inputs: tuple[InputFile, ...]
    volume: str

    def is_same_run(self, container: ContainerState) -> bool:
        """Whether a container has run the same image, with the same arguments, data, environment and rules."""
        wanted = self.config["Labels"]
        same = all(container.labels.get(name) == wanted[name] for name in (names.DIGEST, names.IMAGE_DIGEST))
        return same and set(self.config["Env"]) <= set(container.environment)


class Launcher:
    """Makes the configurations of containers.

    :param environment: Returns what the station offers, secrets included; called on the worker alone.
    :param task_labels: Returns the labels of the running task.
    """

    def __init__(
        self,
        connection: TrainConnection,
        engine: Engine,
        images: Images,
        environment: Callable[[], Mapping[str, str]],
        task_labels: Callable[[], Mapping[str, str]],
        retry: Retry,
        log: logging.Logger,
    ) -> None:
        self._connection = connection
        self._engine = engine
        self._images = images
        self._environment = environment
        self._task_labels = task_labels
        self._retry = retry
        self._log = log

    def prepare(self, plan: Plan, job_id: str) -> Launch:
        """Pull the image where it is to be pulled, read the data and the environment, and check the isolation.

        :raises InvalidJob: for what a train cannot be given, and where the image does not exist.
        """
        from airflow_provider_jobapi.services.files.sources import measure_all

        sources = measure_all(plan.data)
        inputs = tuple(each.as_input() for each in sources.values())
        image = self._images.ensure(plan.image)
        digest, task = plan.digest(inputs), self._task_labels()
        labels = labels_of(plan, job_id, digest, self._connection, digest_of(image), task)
        mounts, volume = self._mounts(plan, job_id)
        offered = {**self._environment(), **plan.environment} if RULES[plan.command].environment else {}
        environment = environment_for(plan.command, offered)
        if mounts:
            environment.setdefault(DATA_VARIABLE, self._connection.data_folder)
        isolation = read_isolation(self._connection.isolation, plan.isolation)
        if loosened := isolation.loosened():
            self._log.info(f"The isolation of the container is looser than by default: {loosened}.")
        image_user = str((image.get("Config") or {}).get("User") or "")
        config = container_config(plan, labels, environment, isolation, mounts, image_user)
        return Launch(config, sources, inputs, volume)

    def fill(self, launch: Launch, plan: Plan, job_id: str) -> None:
        """Copy the data to the engine, where they are not mounted."""
        if launch.volume:
            own, folder = {names.JOB_ID: job_id}, self._connection.data_folder
            self._retry.call(
                lambda: station_data.fill(self._engine, launch.volume, plan.image, folder, launch.sources, own),
                self._log,
            )

    def _mounts(self, plan: Plan, job_id: str) -> tuple[list[dict[str, Any]], str]:
        """Return the mounts of the data, and the volume that is to be filled; empty where none is."""
        folder = self._connection.data_folder
        if not plan.data:
            return [], ""
        if self._connection.is_local and self._connection.mount_data:
            found = station_data.mounts_of(plan.data, folder)
            if found is not None:
                return found, ""
            self._log.info("The data are copied to the engine: only files that all users may read are mounted.")
        volume = f"{names.data_volume(job_id)}-{uuid.uuid4().hex[:8]}"  # of this worker's own
        return [station_data.volume_mount(volume, folder, read_only=True)], volume
