# SPDX-License-Identifier: Apache-2.0
"""The parameters that describe a job: the operator's attributes after rendering, overridden by ``config``.

They may be JSON text, as rendered templates are, and name files beside the DAG file. Each is declared once, in
:data:`PARAMETERS`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.operators.paths import (
    beside,
    bundle_of,
    check_data,
    check_script,
    data_entries,
    is_script_file,
    shipped_wheels,
    source_folder,
)

if TYPE_CHECKING:
    from airflow_provider_jobapi.operators.training import SubmitTrainingOperator
    from airflow_provider_jobapi.services.files.code import Code
    from airflow_provider_jobapi.training.job import DataSource, TrainingJob


class Parameter(NamedTuple):
    """One parameter that describes a job.

    :ivar name: Its name on the operator.
    :ivar field: The field of :class:`~airflow_provider_jobapi.training.job.TrainingJob`; None where the operator itself
        uses the parameter.
    :ivar header: What SAP's ``trainingClient`` calls it in ``config``, beside ``name``.
    :ivar json: The structure that may come as JSON text.
    :ivar templated: Whether Airflow renders templates in it.
    """

    name: str
    field: str | None = None
    header: str | None = None
    json: type[dict[str, Any] | list[Any]] | None = None
    templated: bool = True


PARAMETERS = (
    Parameter("script", "script", templated=False),  # ``{{`` is legal Python
    Parameter("source", "source"),
    Parameter("entry_point", "entry_point"),
    Parameter("job_name", "name", "jobName"),
    Parameter("env", "env", json=list),
    Parameter("env_vars", "env_vars", json=list),
    Parameter("arguments", "arguments", json=list),
    Parameter("image", "image"),
    Parameter("completion_time", "completion_time", "completionTime"),
    Parameter("job_resources", "resources", "resources", json=dict),
    Parameter("nodes", "nodes"),
    Parameter("requirements", "requirements"),
    Parameter("python_major_version", "python_major_version", "pythonMajorVersion"),
    Parameter("data_input", "data", json=list),
    Parameter("resume_from", "resume_from", "resumeFrom"),
    Parameter("keep_checkpoints", "keep_checkpoints", "keepCheckpoints"),
    Parameter("service_options", "service_options", json=dict),
    Parameter("destination"),
    Parameter("metric_definitions", "metric_definitions", json=list, templated=False),  # ``{3}`` too
)

CONNECTION_HEADERS = frozenset({"oauthClientId", "oauthClientSecret", "oauthTokenUrl", "jobAPI"})
"""Headers of the ``trainingClient`` that belong to the connection; ``config`` must not redirect it."""

_BY_HEADER = {spelling: each for each in PARAMETERS for spelling in (each.name, each.header) if spelling}


class Parameters:
    """The parameters of one execution. Each is parsed and checked when it is first read.

    So an invalid value in the DAG file does not stop a try that only adopts the job of an earlier one.

    :param given: The operator's attributes, by name.
    :param config: Headers that override them: a mapping, or JSON text.
    :param conn_id: The connection, for error messages.
    :param default_name: The job's name where the DAG gives none.
    :param folder: The folder of the DAG file, where relative paths begin.
    :param bundle: The root of the DAG bundle; by default the same folder.
    :param without: The names of parameters that are left out, wherever they are given.
    """

    def __init__(
        self,
        given: Mapping[str, Any],
        config: Any = None,
        *,
        conn_id: str,
        default_name: str,
        folder: Path,
        bundle: Path | None = None,
        without: Iterable[str] = (),
    ) -> None:
        self._given = given
        self._config = config
        self._conn_id = conn_id
        self._default_name = default_name
        self._folder = folder
        self._bundle = bundle or folder
        self._without = tuple(without)

    @classmethod
    def of(
        cls, operator: SubmitTrainingOperator, map_index: int | None = None, without: Iterable[str] = (), **others: Any
    ) -> Parameters:
        """The parameters of a rendered operator.

        :param without: The names of parameters that are left out, also where ``config`` gives them.
        :param others: Parameters that are not those of the operator, by name.
        """
        return cls(
            {each.name: getattr(operator, each.name) for each in PARAMETERS} | others,
            operator.config,
            conn_id=operator.conn_id,
            default_name=default_name(operator.dag_id, operator.task_id, map_index),
            folder=Path(operator.dag.fileloc).parent,
            bundle=bundle_of(operator.dag),
            without=without,
        )

    @property
    def given(self) -> dict[str, Any]:
        """The values as the DAG gives them, unchecked, and ``config``."""
        return {**self._given, "config": self._config}

    @property
    def ignored_headers(self) -> list[str]:
        """The headers of ``config`` that name no parameter."""
        return [str(header) for header in _structure("config", self._config, dict) or {} if header not in _BY_HEADER]

    @cached_property
    def job(self) -> TrainingJob:
        """The training job.

        :raises InvalidJob: naming the parameter and what is allowed.
        """
        from airflow_provider_jobapi.training.job import TrainingJob
        from airflow_provider_jobapi.training.parameter_names import spelled
        from airflow_provider_jobapi.training.requirement_files import requirements_text, script_text

        own = {None, "script", "source", "data", "metric_definitions"}
        given = {str(each.field): self._value(each) for each in PARAMETERS if each.field not in own}
        fields = {field: value for field, value in given.items() if value not in (None, "")}
        script, data = self.script(), self._data_files()
        if "requirements" in fields:
            given_requirements, wheels = shipped_wheels(fields["requirements"], self._folder)
            data = wheels | data
            fields["requirements"] = requirements_text(given_requirements, self._folder)
        elif script is not None and (found := script_text(script)):
            fields["requirements"] = found
        fields |= {field: _whole(fields[field]) for field in fields.keys() & {"nodes", "python_major_version"}}
        if "resources" in fields:
            fields["resources"] = {name: _whole(value) for name, value in fields["resources"].items()}
        fields |= {"name": self.job_name, "script": script, "data": data}
        fields["metric_definitions"] = tuple(self.metric_definitions or ())
        if self.code is not None:
            fields["source"] = self.code.files
            fields["entry_point"] = self.code.entry_point or fields.get("entry_point", "")
            fields.setdefault("requirements", self.code.requirements or "")
            fields["requirements"] = self.code.with_wheel(fields["requirements"])
        try:
            return TrainingJob.of(**fields)
        except InvalidJob as error:
            raise InvalidJob(spelled(str(error)), field=error.field) from None

    @property
    def job_name(self) -> str:
        """The job's name, by default made of the DAG's and the task's ids."""
        from airflow_provider_jobapi.training.validation import number_as_text

        name = self._read("job_name") or self._default_name
        return cast("str", number_as_text(name))  # such as ds_nodash, of which a native template makes a number

    @cached_property
    def code(self) -> Code | None:
        """The folder of code; None where the DAG gives none.

        :raises InvalidJob: when it cannot be a job's code.
        """
        from airflow_provider_jobapi.services.files.code import read_code

        source, entry_point = self._read("source"), self._read("entry_point")
        if source in (None, ""):
            return None
        root = source_folder(source, self._folder, self._bundle)
        return read_code(
            root,
            entry_point,
            with_script=self._read("script") is not None,
            with_requirements=self._read("requirements") not in (None, ""),
            bundle=self._bundle,
        )

    @property
    def data(self) -> dict[str, DataSource]:
        """The job's data as the DAG gives it, with folders and globs, and where it comes from."""
        data: dict[str, DataSource] = {}
        for name, source in self._data_entries():
            data[str(source) if name in data else name] = source
        return data

    def _data_entries(self) -> list[tuple[str, DataSource]]:
        entries = data_entries(self._read("data_input"), self._folder, self._bundle)
        for name, source in entries:
            check_data(str(name), source)
        return entries

    def _data_files(self) -> dict[str, DataSource]:
        from airflow_provider_jobapi.services.files.data import expand

        return expand(self._data_entries())

    @property
    def destination(self) -> str | None:
        """Where to fetch the model to; None to leave it on the service."""
        return str(destination) if (destination := self._read("destination")) else None

    @cached_property
    def metric_definitions(self) -> list[dict[str, str]] | None:
        """The metric definitions, checked; None where the DAG gives none.

        :raises InvalidJob: naming the invalid definition.
        """
        from airflow_provider_jobapi.training.metrics.definitions import read_definitions

        checked = read_definitions(self._read("metric_definitions"))
        return None if checked is None else [{"name": each.name, "regex": each.pattern.pattern} for each in checked]

    def script(self) -> str | None:
        """The source text of the script; None where the job has none.

        :raises InvalidJob: when its file cannot be read.
        """
        script = self._read("script")
        return None if script is None else read_script(script, self._folder)

    def _read(self, name: str) -> Any:
        return self._value(_BY_HEADER[name])

    def _value(self, parameter: Parameter) -> Any:
        value = self._overridden[parameter.name]
        return value if parameter.json is None else _structure(parameter.name, value, parameter.json)

    @cached_property
    def _overridden(self) -> dict[str, Any]:
        """The values after the headers of ``config``.

        SAP's documents: "Only the message headers are considered. If a field has the same field as the config, it is
        overridden."

        :raises InvalidJob: for a header that belongs to the connection, and for a parameter that is given twice.
        """
        changed: dict[str, Any] = {}
        for header, value in (_structure("config", self._config, dict) or {}).items():
            if header in CONNECTION_HEADERS:
                raise InvalidJob(
                    f"config cannot hold {header}, which belongs to the connection {self._conn_id}: change it there."
                )
            if header not in _BY_HEADER:
                continue
            name = _BY_HEADER[header].name
            if name in changed:
                raise InvalidJob(f"config has {name} twice, in two spellings; keep one.", field=name)
            changed[name] = value
        return {**self._given, **changed, **dict.fromkeys(self._without)}


def _structure(name: str, value: Any, kind: type) -> Any:
    """A list or mapping that may come as JSON text; None where the text is blank.

    :param kind: ``dict`` where nothing but a mapping will do; a list is checked by the code that uses it.
    :raises InvalidJob: when the text is not JSON, or the value is not a mapping.
    """
    if isinstance(value, str):
        if not value.strip():
            return None
        try:
            value = json.loads(value)
        except ValueError:
            raise InvalidJob(
                f"{name} is a text that is not JSON: {value[:80]!r}. End a template that makes it with '| tojson'.",
                field=name,
            ) from None
    if value is not None and kind is dict and not isinstance(value, Mapping):
        raise InvalidJob(f"{name} is a {type(value).__name__}; it must be an object of names and values.", field=name)
    return value


def portable(value: Any) -> Any:
    """The same value, with integers beyond 64 bits as text: a DAG that holds one disappears from Airflow.

    :param value: Of a parameter that Airflow writes into the DAG. In ``env`` and ``arguments`` a number reaches the
        script as text; elsewhere such a number is refused when the task runs.
    """
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return str(value) if value.bit_length() < 10_000 else value
    if value.__class__ is dict:
        return {name: portable(each) for name, each in value.items()}
    return value.__class__(map(portable, value)) if value.__class__ in {list, tuple} else value


def _whole(value: Any) -> Any:
    """The whole number that a template wrote as text, or made a float of."""
    if isinstance(value, str) and (found := re.fullmatch(r"([0-9]{1,18})(\.0+)?", value.strip())):
        return int(found[1])
    return int(value) if isinstance(value, float) and value.is_integer() else value


def read_script(script: Any, folder: Path) -> str:
    """Read a script that is given as source text, as a path, or as the name of a file beside the DAG file.

    :param folder: The folder of the DAG file.
    :raises InvalidJob: when there is no such file, or it is not UTF-8.
    """
    from airflow_provider_jobapi.training.job import DataPath

    check_script(script)
    source = script
    if isinstance(script, str) and is_script_file(script):
        source = folder / script.strip()
        if not source.resolve().is_relative_to(folder.resolve()):
            raise InvalidJob(f"script {script!r} is not beside the DAG file; give it as a Path.", field="script")
    if isinstance(source, str):
        return source
    if not isinstance(source, DataPath):
        raise InvalidJob(
            f"script is a {type(script).__name__}; it must be source text, a Path, or the name of a .py file beside "
            "the DAG file.",
            field="script",
        )
    source = beside(source, folder)
    try:
        with source.open("rb") as file:
            return bytes(file.read()).decode("utf-8")
    except NotADirectoryError:
        raise InvalidJob(
            f"script {source} is in an archive, from which no script is read: give the source text, or an absolute "
            "Path outside the archive.",
            field="script",
        ) from None
    except OSError as error:
        raise InvalidJob(
            f"script {source} cannot be read: {error.strerror or error}. A file's name is looked up beside the DAG "
            f"file, in {folder}.",
            field="script",
        ) from None
    except UnicodeDecodeError:
        raise InvalidJob(f"script {source} is not UTF-8; save it as UTF-8.", field="script") from None


def default_name(dag_id: str, task_id: str, map_index: int | None = None) -> str:
    """A valid job name made of the ids of the DAG and the task; mapped task instances get different names."""
    index = "" if map_index in {None, -1} else f"-{map_index}"
    text = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{dag_id}-{task_id}")
    return (re.sub(r"^[^A-Za-z0-9]+", "", text)[: 100 - len(index)] or "training") + index
