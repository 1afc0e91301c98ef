# SPDX-License-Identifier: Apache-2.0
"""Where the command line finds its connection. A secret comes from a variable or a file, never from the arguments,
which everybody on the machine can read; and no sentence repeats what stands there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow_provider_jobapi.exceptions import ConnectionProblem
from airflow_provider_jobapi.services.jobapi.connection import JobApiConnection

DEFAULT = "jobapi_default"
CLIENT = ("JOBAPI_CLIENT_ID", "JOBAPI_CLIENT_SECRET")

_FIELDS = ("host", "port", "schema", "login", "password", "extra")
_IGNORED = ("conn_id", "conn_type", "description")
_LARGEST = 64 * 1024


def connection_of(named: str | None, environ: Mapping[str, str]) -> JobApiConnection:
    """The connection that an option names, or the default one.

    :param named: An address, whose client stands in the variables of :data:`CLIENT`; a file (it has a ``/`` or a ``.``
        in its name); or the id of an Airflow connection, which stands in ``AIRFLOW_CONN_<ID>``.
    :raises ConnectionProblem: when there is none, or it is wrong.
    """
    name = (named or DEFAULT).strip()
    if name.startswith("{") or re.search(r"//[^/]*@", name):
        raise ConnectionProblem(
            "--connection holds a secret, which everybody on this machine can read there; put the connection into a "
            "file or a variable, and name that."
        )
    if "://" in name:
        return _of_address(name, environ)
    if "/" in name or "." in name:
        return _read(_content(Path(name).expanduser()), name)
    variable = f"AIRFLOW_CONN_{name.upper()}"
    text = environ.get(variable, "")
    if not text.strip():
        raise ConnectionProblem(
            f"There is no connection: set {variable} to the JSON that `jobapi client add` prints, or name a file that "
            "holds it with --connection FILE."
        )
    return _read(text, variable)


def _of_address(address: str, environ: Mapping[str, str]) -> JobApiConnection:
    if missing := [variable for variable in CLIENT if not environ.get(variable)]:
        raise ConnectionProblem(
            f"--connection names an address, whose client stands in {' and '.join(CLIENT)}; {missing[0]} is not set."
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


def _read(text: str, where: str) -> JobApiConnection:
    fields = _object(text, where, "the JSON that `jobapi client add` prints")
    if unknown := sorted(set(fields) - {*_FIELDS, *_IGNORED}):
        raise ConnectionProblem(f"{where} has {unknown[0]!r}; a connection has {', '.join((*_IGNORED, *_FIELDS))}.")
    kind = fields.get("conn_type") or "jobapi"
    if kind != "jobapi":
        raise ConnectionProblem(f"{where} is a connection of the type {kind!r}; the one of a jobAPI is 'jobapi'.")
    extra = fields.get("extra") or {}
    if isinstance(extra, str):
        extra = _object(extra, f"The extra of {where}", "a JSON object")
    port = fields.get("port")
    texts = {name: fields.get(name) for name in ("host", "schema", "login", "password")}
    if wrong := [name for name, value in texts.items() if not isinstance(value, str | None)]:
        raise ConnectionProblem(f"The {wrong[0]} of {where} is no text.")
    if not isinstance(extra, dict) or not re.fullmatch(r"\d{0,5}", str("" if port is None else port)):
        raise ConnectionProblem(f"{where} has an extra that is no object, or a port that is no number.")
    return JobApiConnection.of(**texts, port=int(port or 0) or None, extra=extra)


def _object(text: str, where: str, what: str) -> dict[str, Any]:
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise ConnectionProblem(f"{where} is not {what}.")
    return fields
