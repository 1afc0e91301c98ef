# SPDX-License-Identifier: Apache-2.0
"""What every hook of this provider is: the way from a connection to a service, whichever service it names.

Which hook belongs to which connection type stands in :mod:`airflow_provider_jobapi.get_provider_info` and nowhere else.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook

from airflow_provider_jobapi.exceptions import ConnectionProblem

if TYPE_CHECKING:
    from airflow.sdk import Connection, ObjectStoragePath

    from airflow_provider_jobapi.services.base import FetchedModel, Handle, Submission, TrainingService
    from airflow_provider_jobapi.services.fields import ConnectionSettings
    from airflow_provider_jobapi.training.job import TrainingJob
    from airflow_provider_jobapi.training.status import JobStatus


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

    def submit(self, job: TrainingJob, job_id: str) -> Submission:
        """Upload the job's files and submit it. The same id is the same job, whoever asks again.

        :param job_id: A UUID.
        :raises JobConflict: when the id belongs to a job with another content.
        """
        return self.service.submit(job, job_id)

    def status(self, handle: Handle) -> JobStatus:
        """Where a job stands."""
        return self.service.status(handle)

    def stop(self, handle: Handle) -> None:
        """Ask to stop a job; one that has ended is no error."""
        self.service.stop(handle)

    def logs(self, handle: Handle, count: int = 20) -> tuple[str, ...]:
        """The last lines of a job's log.

        :param count: How many, at the most.
        """
        return self.service.last_lines(handle, count)

    def fetch(self, handle: Handle, destination: str | ObjectStoragePath, version: str | None = None) -> FetchedModel:
        """Fetch a job's SavedModel into ``<destination>/<version>/``; a reader never sees half of it.

        :param destination: A path, a URI or an ``ObjectStoragePath``.
        :param version: By default the Unix time at which the job ended.
        :raises NoSavedModel: when the job wrote none.
        """
        from airflow.sdk import ObjectStoragePath

        place = ObjectStoragePath(destination) if isinstance(destination, str) else destination
        return self.service.fetch_model(handle, place, version)

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

    @classmethod
    def settings_class(cls) -> type[ConnectionSettings] | None:
        """The model of this connection type's fields, from which Airflow 3.1 gets the form; None for no such form.

        Airflow 3.2 and later read the form from the provider info, where
        :meth:`~airflow_provider_jobapi.services.fields.ConnectionSettings.conn_fields` puts the same fields.
        """
        return None

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """The labels of the standard fields in the form of Airflow 3.1."""
        model = cls.settings_class()
        behaviour = {} if model is None else model.field_behaviour()
        return {name.replace("-", "_"): value for name, value in behaviour.items()}

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """The fields of the extra in the form of Airflow 3.1."""
        from airflow_provider_jobapi.hooks._widgets import widgets

        model = cls.settings_class()
        return {} if model is None else widgets(model)


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
