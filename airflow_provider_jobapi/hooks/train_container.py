# SPDX-License-Identifier: Apache-2.0
"""The hook of the connection type ``train_container``."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakValueDictionary

from airflow_provider_jobapi.hooks.base import TrainingHook, read_connection, summary

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.sdk import Connection

    from airflow_provider_jobapi.services.base import Handle
    from airflow_provider_jobapi.services.train_container.connection import TrainConnection
    from airflow_provider_jobapi.services.train_container.engine import Engine
    from airflow_provider_jobapi.services.train_container.service import TrainContainerService

_EXTRA = "train"

_TASK = {
    "airflow.dag_id": "AIRFLOW_CTX_DAG_ID",
    "airflow.run_id": "AIRFLOW_CTX_DAG_RUN_ID",
    "airflow.task_id": "AIRFLOW_CTX_TASK_ID",
    "airflow.map_index": "AIRFLOW_CTX_MAP_INDEX",
    "airflow.try_number": "AIRFLOW_CTX_TRY_NUMBER",
}
"""The labels of a task, and the variables in which Airflow gives its values to the process of the task."""

_engines: WeakValueDictionary[Any, Engine] = WeakValueDictionary()
"""One client for all services of this process on an engine: a triggerer may follow a thousand containers on one."""
_sharing = threading.Lock()


class TrainContainerHook(TrainingHook):
    """Run train images on a container engine. The fields of its connection are described in
    :class:`~airflow_provider_jobapi.services.train_container.connection.TrainConnection`.

    :param conn_id: The id of a connection of the type ``train_container``.
    """

    conn_type = "train_container"
    hook_name = "Train API (containers)"
    default_conn_name = "train_container_default"

    @classmethod
    def settings_class(cls) -> type[TrainConnection]:
        """The model of the connection's fields."""
        from airflow_provider_jobapi.services.train_container.connection import TrainConnection

        return TrainConnection

    @classmethod
    def other_connections(cls, connection: Connection) -> Mapping[str, str]:
        """Name the connection of the registry, where the connection has one."""
        settings = read_connection(cls.settings_class(), connection)
        return {"registry": settings.docker_conn_id} if settings.docker_conn_id else {}

    @classmethod
    def build(
        cls, connection: Connection, patience: float | None = None, others: Mapping[str, Connection] | None = None
    ) -> TrainContainerService:
        """Make the service from the connection.

        :param patience: Seconds for which each request is retried while the engine does not answer.
        :param others: The connection ``registry``, where :meth:`other_connections` names it.
        :raises ConnectionProblem: naming the field that is wrong.
        """
        from airflow_provider_jobapi.hooks.clients import other_of
        from airflow_provider_jobapi.hooks.docker_client import DockerOfHook, RegistryAuth
        from airflow_provider_jobapi.services.retry import Retry
        from airflow_provider_jobapi.services.train_container.engine import Engine
        from airflow_provider_jobapi.services.train_container.service import TrainContainerService

        settings = read_connection(cls.settings_class(), connection)
        certificates = settings.certificates
        key = os.getpid(), settings.engine, certificates, settings.timeout
        with _sharing:
            engine = _engines.get(key)
            if engine is None:
                docker = DockerOfHook(settings.engine, certificates, settings.timeout, _EXTRA)
                engine = _engines[key] = Engine(docker, settings.engine)
        return TrainContainerService(
            settings,
            engine,
            environment=lambda: _environment(settings),
            task_labels=lambda: {label: os.environ.get(name, "") for label, name in _TASK.items()},
            auth=RegistryAuth(other_of(others, "registry", "docker")),
            retry=None if patience is None else Retry.lasting(patience),
        )

    def get_conn(self) -> TrainContainerService:
        """The service, which holds the client of the engine."""
        return cast("TrainContainerService", self.service)

    def delete(self, handle: Handle) -> None:
        """Remove the container of a job that has ended; how it ended stays known.

        :raises JobConflict: when the job has not ended.
        """
        self.get_conn().delete(handle)

    def test_connection(self) -> tuple[bool, str]:
        """Check the engine, what the station offers, and the registry; one line for each."""
        from airflow_provider_jobapi.services.train_container.checks import check

        return summary(lambda: check(self.get_conn()))


def _environment(settings: TrainConnection) -> dict[str, str]:
    """Read what the station offers, and let Airflow hide its secrets. Reads variables and connections, so it blocks.

    :raises ConnectionProblem: when a variable or a connection is not defined.
    """
    from airflow.sdk.log import mask_secret

    for name, value in settings.environment.items():
        mask_secret(value, name)
    read = {name: _read(name, source) for name, source in settings.environment_from.items()}
    for value in read.values():
        mask_secret(value)
    return {**settings.environment, **read}


def _read(name: str, source: str) -> str:
    from airflow.sdk import BaseHook, Variable

    from airflow_provider_jobapi._airflow import AirflowNotFoundException
    from airflow_provider_jobapi.exceptions import ConnectionProblem

    kind, _, key = source.partition(":")
    try:
        found = BaseHook.get_connection(key).get_uri() if kind == "connection" else Variable.get(key, default=None)
    except AirflowNotFoundException:
        found = None
    if found is None:
        raise ConnectionProblem(
            f"The connection's extra environment_from has {name} from the {kind} {key!r}, which is not defined: define "
            "it, or name another."
        )
    return str(found)
