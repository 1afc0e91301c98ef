# SPDX-License-Identifier: Apache-2.0
"""From what a DAG says to a training job: headers of ``config``, JSON texts, files beside the DAG."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.training.job import DataPath, TrainingJob
from airflow_provider_jobapi.training.job_file import Resources
from airflow_provider_jobapi.training.validation import validated

HEADERS = {
    "jobName": "job_name",
    "completionTime": "completion_time",
    "resources": "job_resources",
    "pythonMajorVersion": "python_major_version",
}
"""The headers that SAP's ``trainingClient`` spells differently from us."""

OF_THE_CONNECTION = frozenset({"oauthClientId", "oauthClientSecret", "oauthTokenUrl", "jobAPI"})
"""Its headers that say where and as whom: one connection holds them, and no message may redirect it."""

_OURS = {"name": "job_name", "resources": "job_resources", "data": "data_input"}


@dataclass(frozen=True, slots=True)
class Parameters:
    """What the DAG said about the job, after its templates were rendered."""

    script: Any
    job_name: Any
    env: Any
    image: Any
    completion_time: Any
    job_resources: Any
    requirements: Any
    python_major_version: Any
    destination: Any
    data_input: Any
    metric_definitions: Any = None
    service_options: Any = None

    def overridden(self, config: Any, conn_id: str) -> tuple[Parameters, list[str]]:
        """These parameters after the headers of ``config``, and the headers that name none of them.

        "Only the message headers are considered. If a field has the same field as the config, it is overridden."

        :raises InvalidJob: for a header that belongs to the connection, and for one that is given twice.
        """
        changed: dict[str, Any] = {}
        ignored: list[str] = []
        known = {field.name for field in fields(self)}
        for header, value in (structure("config", config) or {}).items():
            name = HEADERS.get(header, header)
            if header in OF_THE_CONNECTION:
                raise InvalidJob(
                    f"config cannot hold {header}, which belongs to the connection {conn_id}: change it there."
                )
            if name in changed:
                raise InvalidJob(f"config says {name} twice, in two spellings; keep one.", field=name)
            if name in known:
                changed[name] = value
            else:
                ignored.append(str(header))
        return replace(self, **changed), ignored

    def definitions(self) -> list[dict[str, str]] | None:
        """The metric definitions, checked; None where the DAG gives none.

        :raises InvalidJob: saying which one cannot be and why.
        """
        from airflow_provider_jobapi.training.metrics.definitions import read_definitions

        checked = read_definitions(structure("metric_definitions", self.metric_definitions))
        return None if checked is None else [{"name": each.name, "regex": each.pattern.pattern} for each in checked]

    def resources(self) -> Resources:
        """What the job needs, the defaults filled.

        :raises InvalidJob: when it cannot be.
        """
        return validated(Resources, structure("job_resources", self.job_resources) or {})

    def requirement_lines(self) -> list[str]:
        """The requirements, one each."""
        given = self.requirements or ()
        return [line for each in ([given] if isinstance(given, str) else given) for line in str(each).splitlines()]

    def job(self, default_name: str, folder: Path) -> TrainingJob:
        """The training job.

        :param default_name: The job's name where the DAG gives none.
        :param folder: The DAG file's folder; relative paths begin there.
        :raises InvalidJob: naming the parameter and saying what is allowed.
        """
        data = structure("data_input", self.data_input) or {}
        try:
            return TrainingJob.of(
                name=self.job_name or default_name,
                script=read_script(self.script, folder),
                env=structure("env", self.env) or (),
                image=self.image or "",
                completion_time=self.completion_time or "",
                resources=structure("job_resources", self.job_resources) or {},
                requirements=self.requirements,
                python_major_version=self.python_major_version,
                data={name: _beside(source, folder) for name, source in data.items()},
                service_options=structure("service_options", self.service_options) or {},
            )
        except InvalidJob as error:
            spelled = re.sub(r"^(name|resources|data)\b", lambda found: _OURS[found[0]], str(error))
            raise InvalidJob(spelled, field=error.field) from None


def structure(name: str, value: Any) -> Any:
    """A list or mapping that may come as JSON text, as rendered templates do.

    :raises InvalidJob: when the text is no JSON, or a mapping was asked for and it is none.
    """
    if isinstance(value, str):
        if not value.strip():
            return None
        try:
            value = json.loads(value)
        except ValueError:
            raise InvalidJob(
                f"{name} is a text that is not JSON: {value[:80]!r}. A template that gives it ends with '| tojson'.",
                field=name,
            ) from None
    if value is not None and name not in {"env", "metric_definitions"} and not isinstance(value, Mapping):
        raise InvalidJob(f"{name} is a {type(value).__name__}; it must be an object of names and values.", field=name)
    return value


def read_script(script: Any, folder: Path) -> str:
    """The source text of a script that is given as text, as a path, or as the name of a file beside the DAG.

    :raises InvalidJob: when there is no such file or it is no UTF-8 text.
    """
    source = script
    if isinstance(script, str) and script.strip().endswith(".py") and "\n" not in script.strip():
        source = folder / script.strip()
        if not source.resolve().is_relative_to(folder.resolve()):
            raise InvalidJob(f"script {script!r} is not beside the DAG file; name it as a Path.", field="script")
    if isinstance(source, str):
        return source
    if not isinstance(source, DataPath):
        raise InvalidJob(
            f"script is a {type(script).__name__}: it must be source text, a Path, or the name of a .py file beside "
            "the DAG file.",
            field="script",
        )
    source = _beside(source, folder)
    try:
        with source.open("rb") as file:
            return bytes(file.read()).decode("utf-8")
    except OSError as error:
        raise InvalidJob(
            f"script {source} cannot be read: {error.strerror or error}. A file's name is looked up beside the DAG "
            f"file, in {folder}.",
            field="script",
        ) from None
    except UnicodeDecodeError:
        raise InvalidJob(f"script {source} is not UTF-8; save it as UTF-8.", field="script") from None


def _beside(source: Any, folder: Path) -> Any:
    """A relative path begins at the DAG file, wherever the worker was started."""
    return folder / source if isinstance(source, Path) and not source.is_absolute() else source


def default_name(dag_id: str, task_id: str, map_index: int | None = None) -> str:
    """A job's name made of names that may hold anything; each of a mapped task's has its own."""
    index = "" if map_index in {None, -1} else f"-{map_index}"
    text = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{dag_id}-{task_id}")
    return (re.sub(r"^[^A-Za-z0-9]+", "", text)[: 100 - len(index)] or "training") + index
