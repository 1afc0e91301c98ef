# SPDX-License-Identifier: Apache-2.0
"""What every hook of this provider is: the way from a connection to a service, whichever service it names.

Which hook belongs to which connection type stands in :mod:`airflow_provider_jobapi.get_provider_info` and nowhere else.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from airflow.sdk import BaseHook

from airflow_provider_jobapi.exceptions import ConnectionProblem

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from airflow_provider_jobapi.services.base import TrainingService


class TrainingHook(BaseHook):
    """Makes the service that a connection names. Subclasses say how, in :meth:`build`.

    :param conn_id: The connection.
    """

    conn_name_attr = "conn_id"
    default_conn_name = "jobapi_default"
    conn_type = ""
    hook_name = ""

    def __init__(self, conn_id: str | None = None, logger_name: str | None = None) -> None:
        super().__init__(logger_name=logger_name)
        self.conn_id = conn_id or self.default_conn_name

    @cached_property
    def service(self) -> TrainingService:
        """The service, for a worker."""
        return self.build(self.get_connection(self.conn_id))

    @classmethod
    def build(cls, connection: Connection, patience: float | None = None) -> TrainingService:
        """Make the service. Speaks to nobody, so that an event loop may call it.

        :param patience: Seconds for which each request waits for a service that cannot be reached; about half a minute
            by default.
        :raises ConnectionProblem: when the connection cannot be one to this service.
        """
        raise NotImplementedError

    @staticmethod
    def service_of(conn_id: str, patience: float | None = None) -> TrainingService:
        """The service of a connection of any of our types.

        :param patience: As for :meth:`build`.
        :raises ConnectionProblem: when it is of another type.
        """
        connection = BaseHook.get_connection(conn_id)
        return hook_class_for(connection.conn_type).build(connection, patience)

    @staticmethod
    async def async_service_of(conn_id: str) -> TrainingService:
        """As :meth:`service_of`, for an event loop: the connection is asked for without blocking it."""
        connection = await BaseHook.aget_connection(conn_id)
        return hook_class_for(connection.conn_type).build(connection)


def hook_class_for(conn_type: str | None) -> type[TrainingHook]:
    """The hook of a connection type.

    :raises ConnectionProblem: when none of ours has it.
    """
    from importlib import import_module

    from airflow_provider_jobapi.get_provider_info import get_provider_info

    hooks = {each["connection-type"]: each["hook-class-name"] for each in get_provider_info()["connection-types"]}
    if conn_type not in hooks:
        raise ConnectionProblem(
            f"The connection is of the type {conn_type!r}, which trains nothing; "
            f"set its type to {' or '.join(sorted(hooks))}."
        )
    module, _, name = hooks[conn_type].rpartition(".")
    found = getattr(import_module(module), name)
    if not (isinstance(found, type) and issubclass(found, TrainingHook)):
        raise TypeError(f"{hooks[conn_type]} is no TrainingHook.")
    return found
