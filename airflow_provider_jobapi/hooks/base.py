# SPDX-License-Identifier: Apache-2.0
"""The base of all hooks: from an Airflow connection to the service that it names.

A hook of another provider needs no more than this: derive from :class:`TrainingHook`, and name the hook under
``connection-types`` in the provider info of its package, as every Airflow provider does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.sdk import BaseHook

from airflow_provider_jobapi.exceptions import ConnectionProblem, TrainingError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from airflow.sdk import Connection, ObjectStoragePath

    from airflow_provider_jobapi.services.base import FetchedModel, Handle, Submission, TrainingService
    from airflow_provider_jobapi.services.checks import CheckResult
    from airflow_provider_jobapi.services.fields import ConnectionSettings
    from airflow_provider_jobapi.training.job import TrainingJob
    from airflow_provider_jobapi.training.status import JobStatus

    Model = TypeVar("Model", bound=ConnectionSettings)


DEFAULT_CONN_ID = "jobapi_default"
"""The connection of operators, sensor and assets where a DAG names none."""


class SettingsHook(BaseHook):
    """Base of hooks whose connection has a model of its fields, from which the form in the UI is made."""

    @classmethod
    def settings_class(cls) -> type[ConnectionSettings] | None:
        """The model of the connection's fields, from which Airflow 3.1 gets the form; None for a form without fields.

        Airflow 3.2 and later read the form from the provider info, which contains the same fields by
        :meth:`~airflow_provider_jobapi.services.fields.ConnectionSettings.conn_fields`.
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
        model = cls.settings_class()
        return {} if model is None else form_widgets(model)


class TrainingHook(SettingsHook):
    """Base of the hooks for services that run training jobs.

    A subclass sets ``conn_type``, ``hook_name`` and ``default_conn_name``, and makes its service in :meth:`build`.

    :param conn_id: The id of the Airflow connection; by default the hook's ``default_conn_name``.
    """

    conn_name_attr = "conn_id"
    default_conn_name = ""
    conn_type = ""
    hook_name = ""

    def __init__(self, conn_id: str | None = None, logger_name: str | None = None) -> None:
        super().__init__(logger_name=logger_name)
        self.conn_id = conn_id or self.default_conn_name

    @cached_property
    def service(self) -> TrainingService:
        """The service, for a worker."""
        return make_service(type(self), self.get_connection(self.conn_id))

    @classmethod
    def build(
        cls,
        connection: Connection,
        patience: float | None = None,
        others: Mapping[str, Connection] | None = None,
    ) -> TrainingService:
        """Make the service from the connection.

        Worker and triggerer both call it, the triggerer in its event loop: it may make no request. Clients of other
        providers are made here and handed to the service, one for the worker and one for the event loop.

        :param connection: The connection, of this hook's type.
        :param patience: Seconds for which each request is retried while the service cannot be reached; by default the
            service's own time.
        :param others: The connections that :meth:`other_connections` names, by role. Passed only where it names any.
        :raises ConnectionProblem: when a field of the connection is wrong.
        """
        raise NotImplementedError

    @classmethod
    def other_connections(cls, connection: Connection) -> Mapping[str, str]:  # noqa: ARG003 -- none by default
        """Name the other connections that the service needs, such as one of AWS beside one of Kubernetes.

        :returns: Connection ids by role, such as ``{"aws": "aws_default"}``, read from the connection's extra.
        :raises ConnectionProblem: when a field of the connection is wrong.
        """
        return {}

    @classmethod
    def seal_secret(cls, connection: Connection) -> str | None:
        """Return the secret of the connection. A key made of it hides the secrets of jobs in Airflow's database.

        :returns: By default the password, else the extra; None where the connection has no secret.
        """
        return connection.password or connection.extra or None

    def submit(self, job: TrainingJob, job_id: str) -> Submission:
        """Upload the job's files and submit it. Idempotent: a second call with the same id and job changes nothing.

        :param job_id: A UUID.
        :raises JobConflict: when the id belongs to a job with another content.
        """
        return self.service.submit(job, job_id)

    def status(self, handle: Handle) -> JobStatus:
        """Get the status of a job."""
        return self.service.status(handle)

    def stop(self, handle: Handle) -> None:
        """Stop a job; one that has ended is no error."""
        self.service.stop(handle)

    def logs(self, handle: Handle, count: int = 20) -> tuple[str, ...]:
        """Get the last lines of a job's log.

        :param count: The number of lines, at most.
        """
        return self.service.last_lines(handle, count)

    def environment(self, handle: Handle) -> str | None:
        """Get the packages of a job as requirements that install the same.

        :returns: None where the service keeps no list of them, or not yet.
        """
        read = getattr(self.service, "environment", None)
        return None if read is None else read(handle)

    def fetch(
        self,
        handle: Handle,
        destination: str | ObjectStoragePath,
        version: str | None = None,
        kind: str | None = None,
    ) -> FetchedModel:
        """Fetch a job's model into ``<destination>/<version>/``. The folder appears when it is complete.

        :param destination: A path, a URI or an ``ObjectStoragePath``.
        :param version: By default the Unix time at which the job ended.
        :param kind: The kind that the model must have, such as ``saved_model``; by default any.
        :raises NoSavedModel: when the job left no model, or none of this kind.
        """
        from airflow.sdk import ObjectStoragePath

        place = ObjectStoragePath(destination) if isinstance(destination, str) else destination
        return self.service.fetch_model(handle, place, version, kind)

    @staticmethod
    def service_of(conn_id: str, patience: float | None = None) -> TrainingService:
        """Make the service of a connection, with the hook of the connection's type.

        :param patience: As for :meth:`build`.
        :raises ConnectionProblem: when no installed provider trains with connections of this type.
        """
        from airflow_provider_jobapi.hooks.discovery import hook_class_for

        connection = BaseHook.get_connection(conn_id)
        return make_service(hook_class_for(connection.conn_type, conn_id), connection, patience)

    @staticmethod
    async def async_service_of(conn_id: str) -> TrainingService:
        """As :meth:`service_of`, without blocking the event loop."""
        from airflow_provider_jobapi.hooks.discovery import hook_class_for

        connection = await BaseHook.aget_connection(conn_id)
        # Airflow imports the provider at its first use.
        hook = await asyncio.to_thread(hook_class_for, connection.conn_type, conn_id)
        named = hook.other_connections(connection)
        others = {}
        for role, name in named.items():
            with _naming(connection, role, name):
                others[role] = await BaseHook.aget_connection(name)
        return build(hook, connection, others)


def make_service(hook: type[TrainingHook], connection: Connection, patience: float | None = None) -> TrainingService:
    """Make the service of a connection, and read the other connections that it needs. Blocks.

    :param patience: As for :meth:`TrainingHook.build`.
    """
    others = {}
    for role, name in hook.other_connections(connection).items():
        with _naming(connection, role, name):
            others[role] = BaseHook.get_connection(name)
    return build(hook, connection, others, patience)


@contextmanager
def _naming(connection: Connection, role: str, name: str) -> Iterator[None]:
    """Say which connection names one that is not defined."""
    from airflow_provider_jobapi._airflow import AirflowNotFoundException

    try:
        yield
    except AirflowNotFoundException:
        raise ConnectionProblem(
            f"Connection {connection.conn_id} names {name!r} as its connection for {role}, which is not defined: "
            "define it, or name another."
        ) from None


def build(
    hook: type[TrainingHook], connection: Connection, others: Mapping[str, Connection], patience: float | None = None
) -> TrainingService:
    """Call the hook's :meth:`TrainingHook.build`, which has no parameter ``others`` in a hook of one connection."""
    return hook.build(connection, patience, **({"others": others} if others else {}))


def read_connection(model: type[Model], connection: Connection) -> Model:
    """Read and check an Airflow connection.

    :param model: The model of the connection's fields.
    :raises ConnectionProblem: naming the field and saying what is allowed.
    """
    return model.of(
        host=connection.host,
        port=connection.port,
        schema=connection.schema,
        login=connection.login,
        password=connection.password,
        extra=connection.extra_dejson,
    )


def summary(check: Callable[[], Sequence[CheckResult]]) -> tuple[bool, str]:
    """Run the checks of a connection for Airflow's *Test* button.

    :param check: Answers one result for each check.
    :returns: Whether all passed, and one line for each.
    """
    try:
        results = check()
    except TrainingError as error:
        return False, str(error)
    return all(result.ok for result in results), "\n".join(str(result) for result in results)


_FORM_LIBRARIES = ("flask_appbuilder.fieldwidgets", "flask_babel", "wtforms", "wtforms.validators")
"""Airflow 3.1 installs these libraries, or replaces them by mocks while it reads the form."""


def form_widgets(connection: type[ConnectionSettings]) -> dict[str, Any]:
    """Make the form fields of a connection by key; empty where the form's libraries are not installed."""
    try:
        fab, babel, wtforms, validators = (import_module(name) for name in _FORM_LIBRARIES)
    except ImportError:
        return {}

    made: dict[str, Any] = {}
    for name, field in connection.conn_fields().items():
        schema = field["schema"]
        if schema.get("format") == "password":
            kind, widget = wtforms.PasswordField, fab.BS3PasswordFieldWidget
        else:
            kinds = {"boolean": (wtforms.BooleanField, None), "integer": (wtforms.IntegerField, fab.BS3TextFieldWidget)}
            kind, widget = kinds.get(schema["type"][0], (wtforms.StringField, fab.BS3TextFieldWidget))
        made[name] = kind(
            babel.lazy_gettext(field["label"]),
            validators=[validators.Optional(), *([validators.any_of(schema["enum"])] if "enum" in schema else [])],
            description=field["description"],
            default=schema.get("default"),
            **({"widget": widget()} if widget else {}),
        )
    return made
