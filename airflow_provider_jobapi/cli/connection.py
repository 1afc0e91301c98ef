# SPDX-License-Identifier: Apache-2.0
"""Find the connection of a command and make its service.

A secret comes from a variable or a file, never from the arguments, which every user of the machine can read; and no
message repeats the content of a variable or a file. Connections to a jobAPI and to ModelArts are read without Airflow.
Every other connection, and one that no variable contains, is read by an entry point of the group
``airflow_provider_jobapi.connections``, which needs Airflow.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_jobapi.exceptions import ConnectionProblem
from airflow_provider_jobapi.services.jobapi.connection import JobApiConnection
from airflow_provider_jobapi.services.modelarts.connection import ModelArtsConnection

if TYPE_CHECKING:
    import logging

    from airflow_provider_jobapi.cli.jobs import Jobs
    from airflow_provider_jobapi.services.base import TrainingService
    from airflow_provider_jobapi.services.files.transfers import Meters

DEFAULT = "jobapi_default"
CLIENT = ("JOBAPI_CLIENT_ID", "JOBAPI_CLIENT_SECRET")
GROUP = "airflow_provider_jobapi.connections"
"""The group of entry points for other connections: ``(conn_id, patience in seconds) -> (service, user)``."""

Settings = JobApiConnection | ModelArtsConnection

MODELS: dict[str, type[Settings]] = {"jobapi": JobApiConnection, "modelarts": ModelArtsConnection}
"""The connection types that need no Airflow."""

_FIELDS = ("host", "port", "schema", "login", "password", "extra")
_IGNORED = ("conn_id", "conn_type", "description")
_LARGEST = 64 * 1024
"""Bytes; the most of a connection's file that are read."""


@dataclass(frozen=True, slots=True)
class InAirflow:
    """A connection that only Airflow can read."""

    conn_id: str


def connect(
    named: str | None,
    environ: Mapping[str, str],
    log: logging.Logger,
    patience: float | None = None,
    meters: Meters | None = None,
) -> Jobs:
    """Make what runs the jobs of a command.

    :param named: See :func:`connection_of`.
    :param patience: Seconds for which each request is retried while the service cannot be reached.
    :param meters: Shows the progress of transfers.
    :raises ConnectionProblem: when there is no such connection, or it is wrong.
    """
    from airflow_provider_jobapi.cli.jobs import JobApiJobs, Jobs
    from airflow_provider_jobapi.services.retry import Retry

    found = connection_of(named, environ)
    if isinstance(found, InAirflow):
        return Jobs(*_ask_airflow(found.conn_id, patience))
    options: dict[str, Any] = {"log": log, "meters": meters}
    options["retry"] = None if patience is None else Retry.lasting(patience)
    if isinstance(found, ModelArtsConnection):
        from airflow_provider_jobapi.services.modelarts.service import ModelArtsService

        return Jobs(ModelArtsService(found, **options), found.user)
    from airflow_provider_jobapi.services.jobapi.service import JobApiService

    return JobApiJobs(JobApiService(found, **options), found.client_id)


def connection_of(named: str | None, environ: Mapping[str, str]) -> Settings | InAirflow:
    """Read the connection that an option names, or the default one.

    :param named: The address of a jobAPI, whose client is in the variables of :data:`CLIENT`; a file (its name has a
        ``/`` or a ``.``); or the id of an Airflow connection, in ``AIRFLOW_CONN_<ID>`` or wherever Airflow finds it.
    :raises ConnectionProblem: when there is none, or it is wrong.
    """
    name = (named or DEFAULT).strip()
    if name.startswith("{") or re.search(r"//[^/]*@", name):
        raise ConnectionProblem(
            "--connection contains a secret, which every user of this machine can read there; put the connection into "
            "a file or a variable, and name that."
        )
    if "://" in name:
        return _of_address(name, environ)
    if "/" in name or "." in name:
        return _read(_content(Path(name).expanduser()), name)
    variable = f"AIRFLOW_CONN_{name.upper()}"
    text = environ.get(variable, "")
    # The default connection is not looked up in Airflow's database, which importing Airflow may create.
    needs_airflow = _type_of(text) not in {*MODELS, None} if text.strip() else named is not None
    if needs_airflow and find_spec("airflow") is not None:
        return InAirflow(name)
    if not text.strip():
        raise ConnectionProblem(_missing(variable))
    return _read(text, variable)


def _missing(variable: str) -> str:
    of_the_server = variable == f"AIRFLOW_CONN_{DEFAULT.upper()}"
    file = "run `. FILE` with the file that `jobapi serve` names, " if of_the_server else ""
    return (
        f"There is no connection: {file}set {variable} to the JSON of a connection, as `jobapi client add` prints it "
        "for a jobAPI, or name a file or a connection of Airflow with --connection."
    )


def _type_of(text: str) -> str | None:
    """The type of a connection that is JSON, ``uri`` for a URI, which Airflow can read; None for anything else."""
    if text.lstrip().startswith("{"):
        try:
            return str(json.loads(text).get("conn_type") or "jobapi")
        except (ValueError, RecursionError):
            return None
    return "uri" if re.match(r"[a-z][a-z0-9_-]*://", text.strip()) else None


def _ask_airflow(conn_id: str, patience: float | None) -> tuple[TrainingService, str]:
    # Airflow writes its warnings to standard output, where a script expects the job's id and nothing else.
    with redirect_stdout(sys.stderr):
        for entry_point in entry_points(group=GROUP):
            read: Callable[[str, float | None], tuple[TrainingService, str] | None] = entry_point.load()
            if (found := read(conn_id, patience)) is not None:
                return found
    raise ConnectionProblem(_missing(f"AIRFLOW_CONN_{conn_id.upper()}"))


def _of_address(address: str, environ: Mapping[str, str]) -> JobApiConnection:
    if missing := [variable for variable in CLIENT if not environ.get(variable)]:
        raise ConnectionProblem(
            f"--connection is an address, which needs the client in {' and '.join(CLIENT)}; {missing[0]} is not set."
        )
    login, password = (environ[variable] for variable in CLIENT)
    return JobApiConnection.of(host=address, login=login, password=password)


def _content(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_LARGEST).decode()
    except OSError as error:
        raise ConnectionProblem(f"The connection {path} cannot be read: {error.strerror or error}.") from None
    except UnicodeDecodeError:
        raise ConnectionProblem(f"The connection {path} is not UTF-8; it is the JSON of a connection.") from None


def _read(text: str, where: str) -> Settings:
    fields = _object(text, where, "the JSON of a connection, as `jobapi client add` prints it")
    if unknown := sorted(set(fields) - {*_FIELDS, *_IGNORED}):
        raise ConnectionProblem(f"{where} has {unknown[0]!r}; a connection has {', '.join((*_IGNORED, *_FIELDS))}.")
    kind = fields.get("conn_type") or "jobapi"
    if kind not in MODELS:
        raise ConnectionProblem(
            f"The connection in {where} has type {kind!r}; expected {' or '.join(MODELS)}. Other types need Airflow, "
            "and --connection ID."
        )
    extra = fields.get("extra") or {}
    if isinstance(extra, str):
        extra = _object(extra, f"The extra of {where}", "a JSON object")
    port = fields.get("port")
    texts = {name: fields.get(name) for name in ("host", "schema", "login", "password")}
    if wrong := [name for name, value in texts.items() if not isinstance(value, str | None)]:
        raise ConnectionProblem(f"The {wrong[0]} of {where} is not a text.")
    if not isinstance(extra, dict) or not re.fullmatch(r"\d{0,5}", str("" if port is None else port)):
        raise ConnectionProblem(f"{where} has an extra that is not an object, or a port that is not a number.")
    return MODELS[kind].of(**texts, port=int(port or 0) or None, extra=extra)


def _object(text: str, where: str, what: str) -> dict[str, Any]:
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise ConnectionProblem(f"{where} is not {what}.")
    return fields
