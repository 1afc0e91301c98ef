# SPDX-License-Identifier: Apache-2.0
"""Find the hook of a connection type in any installed provider, as Airflow itself does."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import PackageNotFoundError, requires
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook

from airflow_provider_jobapi.exceptions import ConnectionProblem
from airflow_provider_jobapi.hooks.base import TrainingHook, make_service

if TYPE_CHECKING:
    from airflow_provider_jobapi.services.base import TrainingService

DISTRIBUTION = "airflow-provider-jobapi"

_hooks: dict[str, type[TrainingHook]] = {}
_looking_up = threading.Lock()
"""Airflow's manager of providers is one for the process and not made for several threads."""


def hook_class_for(conn_type: str | None, conn_id: str) -> type[TrainingHook]:
    """Find the hook of a connection type in any installed provider. Blocks while Airflow imports the provider.

    :param conn_id: The id of the connection, for the error.
    :raises ConnectionProblem: when no installed provider trains with connections of this type.
    """
    with _looking_up:
        if conn_type not in _hooks:
            manager = _providers_manager()
            found = _imported(manager, conn_type)
            if not _trains(found):
                raise ConnectionProblem(_no_hook(manager, conn_type, conn_id, found))
            _hooks[str(conn_type)] = found
        return _hooks[str(conn_type)]


def service_for_command(conn_id: str, patience: float | None) -> tuple[TrainingService, str] | None:
    """Make the service of a connection for the command line.

    This is the entry point in the group ``airflow_provider_jobapi.connections``.

    :param patience: As for :meth:`TrainingHook.build`.
    :returns: The service and the user's name there; None when Airflow has no such connection.
    :raises ConnectionProblem: when no installed provider trains with connections of this type.
    """
    from airflow_provider_jobapi._airflow import AirflowNotFoundException

    # Outside of a task Airflow reads its database only where this variable allows it.
    os.environ.setdefault("_AIRFLOW_PROCESS_CONTEXT", "server")
    try:
        connection = BaseHook.get_connection(conn_id)
    except AirflowNotFoundException:
        return None
    service = make_service(hook_class_for(connection.conn_type, conn_id), connection, patience)
    return service, connection.login or conn_id


def _providers_manager() -> Any:
    try:
        from airflow.sdk.providers_manager_runtime import ProvidersManagerTaskRuntime as Manager
    except ImportError:  # before 3.2
        from airflow.providers_manager import ProvidersManager as Manager  # type: ignore[assignment]
    return Manager()  # type: ignore[no-untyped-call]


def _imported(manager: Any, conn_type: str | None) -> Any:
    """The hook class of a connection type. None where it has none, and where its import fails, which Airflow logs."""
    hook = manager.hooks.get(conn_type)
    if hook is None or not hook.hook_class_name:
        return None
    module, _, name = hook.hook_class_name.rpartition(".")
    return getattr(import_module(module), name)


def _trains(found: Any) -> bool:
    return isinstance(found, type) and issubclass(found, TrainingHook)


def _no_hook(manager: Any, conn_type: str | None, conn_id: str, found: Any) -> str:
    expected = sorted({*_training_types(manager)})
    if found is None and conn_type in expected:
        return (
            f"Connection {conn_id} has type {conn_type!r}, whose hook cannot be imported; a warning of Airflow in this "
            "log contains the reason."
        )
    names = f"{', '.join(expected[:-1])} or {expected[-1]}"
    return f"Connection {conn_id} has type {conn_type!r}; expected {names}."


def _training_types(manager: Any) -> Iterator[str]:
    """The connection types for training, of this provider and of those that depend on it."""
    for package, provider in manager.providers.items():
        if package == DISTRIBUTION or _depends_on_us(package):
            for each in provider.data.get("connection-types", ()):
                found = _imported(manager, each["connection-type"])
                if found is None or _trains(found):
                    yield each["connection-type"]


def _depends_on_us(package: str) -> bool:
    try:
        names = (re.match(r"[\w.-]+", each) for each in requires(package) or ())
    except PackageNotFoundError:
        return False
    return any(name and re.sub(r"[-_.]+", "-", name[0]).lower() == DISTRIBUTION for name in names)
