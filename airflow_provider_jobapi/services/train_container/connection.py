# SPDX-License-Identifier: Apache-2.0
"""The settings of a connection to a station: a container engine, a registry, and what trains find there."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from airflow_provider_jobapi.exceptions import ConnectionProblem, InvalidJob
from airflow_provider_jobapi.services import fields, settings
from airflow_provider_jobapi.services.train_container.targets import read_targets
from airflow_provider_jobapi.training.units import read_size

LARGEST_EXPORT = 10 * 1024**3
"""Bytes of all export files together, where nothing else is set."""

LOCAL_ENGINE = "unix:///var/run/docker.sock"
_ENGINE = r"unix:///\S+|(tcp|https?)://[^\s/@]+(:\d+)?/?"
_VARIABLE = r"[A-Za-z_][A-Za-z0-9_]{0,254}"
_SOURCE = r"(variable|connection):\S{1,250}"


def _object(name: str, value: Any) -> dict[str, Any]:
    """Read a JSON object, also where a form keeps it as a text."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            value = None
    if not isinstance(value, Mapping):
        raise ConnectionProblem(f'The connection\'s extra {name} is no JSON object, such as {{"FOO": "bar"}}.')
    return {str(key): each for key, each in value.items()}


def _environment(name: str, value: Any) -> dict[str, str]:
    read = _object(name, value)
    for key, each in read.items():  # the value may be a secret
        if not re.fullmatch(_VARIABLE, key) or not isinstance(each, str | int | float) or "\0" in str(each):
            raise ConnectionProblem(
                f"The connection's extra {name} has {key[:80]!r}, which is not the name of an environment variable "
                "with a text as its value."
            )
    return {key: str(each) for key, each in read.items()}


def _targets(name: str, value: Any) -> dict[str, str]:
    read = _object(name, value)
    try:
        read_targets(read)
    except InvalidJob as error:
        raise ConnectionProblem(f"The connection's extra {error}") from None
    return read


def _days(name: str, value: Any) -> float:
    try:
        read = float("nan") if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        read = float("nan")
    if not 0 <= read <= 3_650:
        raise ConnectionProblem(
            f"The connection's extra {name} cannot be {value!r}: it is days up to 3,650, such as 7, or 0 for ever."
        )
    return read


def _size(name: str, value: Any) -> int:
    if (size := read_size(value)) is None:
        raise ConnectionProblem(
            f"The connection's extra {name} cannot be {str(value)[:80]!r}: it is a size such as 512m or 10g, or a "
            "number of megabytes."
        )
    return size


def _sources(name: str, value: Any) -> dict[str, str]:
    read = _object(name, value)
    for key, each in read.items():
        if not re.fullmatch(_VARIABLE, key) or not isinstance(each, str) or not re.fullmatch(_SOURCE, each):
            raise ConnectionProblem(
                f"The connection's extra {name} has {key[:80]!r}, which does not name a variable or a connection of "
                'Airflow, such as {"TOKEN": "variable:station_token", "DATABASE": "connection:station_db"}.'
            )
    return {key: str(each) for key, each in read.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConnection(fields.ConnectionSettings):
    """A connection to a station. See :meth:`~airflow_provider_jobapi.services.fields.ConnectionSettings.of`."""

    engine: str = fields.setting(
        "Engine",
        "The address of Docker or of Podman's service, such as unix:///run/podman/podman.sock or "
        "tcp://station.example.com:2376.",
        settings.matching(_ENGINE, "an address such as unix:///var/run/docker.sock or tcp://station.example.com:2376"),
        default=LOCAL_ENGINE,
    )
    docker_conn_id: str | None = fields.setting(
        "Registry connection",
        "The id of a connection of the type docker, with the user and the password for the registry of the images.",
        settings.stripped,
        default_text="none; the registry is used without a user",
    )
    ca_cert: str | None = fields.setting(
        "CA certificate", "A PEM file with the authority of the engine's certificate, for tcp://.", settings.file
    )
    client_cert: str | None = fields.setting(
        "Client certificate", "A PEM file with the certificate that the engine asks for.", settings.file
    )
    client_key: str | None = fields.setting("Client key", "A PEM file with the key of that certificate.", settings.file)
    station: str = fields.setting(
        "Station",
        "The name of the station, which labels its containers and images.",
        settings.matching(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,99}", "1 to 100 letters, digits, ' ', '.', '_' and '-'"),
        default="station",
    )
    environment: Mapping[str, str] = fields.setting(
        "Environment",
        'What the station offers to check_requirements and run_algorithm, as a JSON object such as {"PATIENTS_URL": '
        '"http://…"}. Whoever may inspect containers on the engine can read it.',
        _environment,
        default=lambda _: {},
        default_text="nothing",
        json_format="password",
    )
    environment_from: Mapping[str, str] = fields.setting(
        "Environment from Airflow",
        'More of it, from variables and connections of Airflow, which the worker reads: {"TOKEN": "variable:token", '
        '"DATABASE": "connection:station_db"}.',
        _sources,
        default=lambda _: {},
        default_text="nothing",
    )
    isolation: Mapping[str, Any] = fields.setting(
        "Isolation",
        "What is loosened or tightened of the containers' isolation, as a JSON object.",
        _object,
        default=lambda _: {},
        default_text="nothing is loosened",
    )
    targets: Mapping[str, str] = fields.setting(
        "Targets",
        "More targets of the environment variables that trains require, as a JSON object of names and regular "
        'expressions for the values, such as {"FHIR": "https?://.+/fhir"}.',
        _targets,
        default=lambda _: {},
        default_text="those of the vocabulary",
    )
    data_folder: str = fields.setting(
        "Data folder",
        "The folder of the container in which the files of data_input are, read-only; its name is in DATA_DIR.",
        settings.matching(r"(/[A-Za-z0-9_.-]+)+", "an absolute path such as /data"),
        default="/data",
    )
    mount_data: bool = fields.setting(
        "Mount data",
        "Whether files of this machine are mounted where the engine is local. false copies them, as for a remote "
        "engine, or where the worker runs in a container of its own.",
        settings.boolean,
        default=True,
        json_type="boolean",
    )
    pull: Literal["missing", "always", "never"] = fields.setting(
        "Pull",
        "When an image is pulled: missing, always or never.",
        settings.one_of(("missing", "always", "never")),
        default="missing",
        choices=("missing", "always", "never"),
    )
    largest_export: int = fields.setting(
        "Largest export",
        "What all files of a train may have together that are fetched or put into its successor, such as 512m or 10g. "
        "Larger ones are refused before they are copied.",
        _size,
        default=LARGEST_EXPORT,
        default_text="10g",
    )
    keep_days: float = fields.setting(
        "Keep containers",
        "Days after which the container of an ended job is removed, with its files and its copy of the data; 0 keeps "
        "all. A submit looks for them, at most once an hour.",
        _days,
        default=7,
        json_type="number",
    )
    grace: float = fields.setting(
        "Grace",
        "Seconds, from 1 to 600, that a container has to end after SIGTERM.",
        settings.seconds_between(1, 600, example=10),
        default=10,
        json_type="number",
    )
    poll_interval: float = fields.setting(
        "Poll interval",
        "Seconds between two looks at a container and its log, from 0.1 to 60; a tenth more or less each time.",
        settings.seconds_between(0.1, 60, example=2),
        default=2,
        json_type="number",
    )
    timeout: float = fields.setting(
        "Timeout",
        "Seconds to wait for an answer of the engine, from 5 to 3,600.",
        settings.seconds_between(5, 3_600, example=60),
        default=60,
        json_type="number",
    )

    @property
    def certificates(self) -> tuple[str, str, str] | None:
        """The files of the authority, the certificate and its key; None where the engine asks for none.

        :raises ConnectionProblem: when some of them are missing.
        """
        given = (self.ca_cert, self.client_cert, self.client_key)
        if not any(given):
            return None
        authority, certificate, key = given
        if authority is None or certificate is None or key is None or self.is_local:
            raise ConnectionProblem(
                "The connection's extra ca_cert, client_cert and client_key belong together, with an engine of tcp://: "
                "give all of them, or none."
            )
        return authority, certificate, key

    @property
    def is_local(self) -> bool:
        """Whether the engine is one of this machine, by its address."""
        return self.engine.startswith("unix://")
