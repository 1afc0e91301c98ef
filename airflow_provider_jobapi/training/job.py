# SPDX-License-Identifier: Apache-2.0
"""A training job as a user describes it, for any service: the fields of SAP's ``trainingClient`` and more."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Annotated, Any, Literal, Protocol, runtime_checkable

from pydantic import AfterValidator, BeforeValidator, Field

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.training.arguments import argument_list
from airflow_provider_jobapi.training.entry_point import find, refuse_notebook_text, words_of
from airflow_provider_jobapi.training.job_file import (
    JOB_ID,
    NAME,
    EnvVar,
    Execution,
    InputFile,
    JobFile,
    JobSpec,
    Resources,
    check_path,
    digest_of,
)
from airflow_provider_jobapi.training.parameter_names import named
from airflow_provider_jobapi.training.requirement_text import wheels_of
from airflow_provider_jobapi.training.units import is_no_time
from airflow_provider_jobapi.training.validation import (
    NumberAsText,
    Strict,
    Text,
    number_as_text,
    refuse_duplicates,
    validated,
)

SCRIPT_NAME = "train.py"
REQUIREMENTS_NAME = "requirements.txt"
DEFAULT_IMAGE = "tensorflow/tensorflow:latest"
"""The image that the operator names where its user names none."""


SYSTEM_VARIABLES = frozenset(
    {"PATH", "HOME", "PWD", "SHELL", "IFS", "BASH_ENV", "TMPDIR", "TMP", "TEMP", "PYTHONHOME", "VIRTUAL_ENV"}
    | {"MODEL_DIR", "JOB_ID", "CUDA_VISIBLE_DEVICES"}
)
"""Variables that the system and the service set for a job, which breaks or loses its model with others."""


@runtime_checkable
class DataPath(Protocol):
    """A path that can be opened: ``pathlib.Path``, Airflow's ``ObjectStoragePath``, any ``UPath``."""

    def open(self, mode: str) -> Any:
        """Open the file for reading bytes."""


DataSource = str | bytes | DataPath
"""The content of a data file: a text, bytes, or a path to read it from."""


def _env(value: object) -> object:
    """Turn a mapping into a list of names and values, in its order."""
    return [{"name": name, "value": text} for name, text in value.items()] if isinstance(value, Mapping) else value


def _span(value: object) -> object:
    """Turn a timedelta into text: its seconds."""
    if not isinstance(value, timedelta):
        text = number_as_text(value)
        return "" if isinstance(text, str) and not text.strip() else text
    seconds = value.total_seconds()
    return str(int(seconds) if seconds.is_integer() else seconds)


def _some_time(text: str) -> str:
    if is_no_time(text):
        raise ValueError("no time")
    return text


def _requirements(value: object) -> object:
    if isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping):
        value = "\n".join(str(line) for line in value)
    # As editors on Windows save it; pip would read the marks as part of a name.
    return (
        re.sub(r"\r\n?", "\n", value.removeprefix("\ufeff"))
        if isinstance(value, str)
        else ""
        if value is None
        else value
    )


def _job_id_of(value: object) -> object:
    """Return the id of a job that is given by it, or by the result of the task that trained it."""
    if isinstance(value, Mapping):
        value = value.get("job_id")
    return "" if value is None else value.strip().lower() if isinstance(value, str) else value


class TrainingJob(Strict):
    """A training job.

    What a service cannot do, such as several nodes or a job without a script, that service refuses before it uploads.
    """

    name: Annotated[
        str,
        Field(
            pattern=f"^{NAME}$",
            description="1 to 100 letters, digits, '.', '_' and '-', beginning with a letter or digit",
        ),
    ]
    script: Text | None = Field(default=None, min_length=1, description="the source text of the training script")
    """None where ``source`` has it, or an image or a built-in algorithm says by itself what to run."""
    source: dict[str, Any] = Field(default_factory=dict, description="an object of file names and their contents")
    """Files of code, by their path in the working directory. A script finds them beside itself."""
    entry_point: Text = Field(
        default="", description="the path of a .py file of source, such as train.py, or -m and a module"
    )
    """What of ``source`` is run, in place of ``script``; a module may be one that ``requirements`` install."""
    env: Annotated[
        tuple[EnvVar, ...],
        BeforeValidator(_env),
        Field(default=(), description='a list of {"name": …, "value": …} objects'),
    ]
    """Each is an environment variable, unless it is one of :data:`SYSTEM_VARIABLES`, and reaches the script as
    ``--name=value``, the name in lower case."""
    env_vars: Annotated[
        tuple[EnvVar, ...],
        BeforeValidator(_env),
        Field(default=(), description='an object of names and values, or a list of {"name": …, "value": …} objects'),
    ]
    """Environment variables that are no arguments."""
    arguments: Annotated[
        tuple[Annotated[Text, NumberAsText], ...],
        Field(
            default=(),
            max_length=1_000,
            description='a list such as ["--epochs", "5"], or an object such as {"epochs": 5}',
        ),
    ]
    """More arguments of the script, after those of ``env``; without a script, the arguments of the image's command."""
    image: Text = Field(
        default="", max_length=500, description="a container image's name, such as tensorflow/tensorflow:2.21.0"
    )
    completion_time: Annotated[
        Text,
        BeforeValidator(_span),
        AfterValidator(_some_time),
        Field(
            default="",
            max_length=200,
            description="a time of more than 0 such as 20h, a timedelta, or a number of seconds",
        ),
    ]
    """The time that the run may take; a blank text is that of the service where nothing is given."""
    resources: Resources = Field(
        default_factory=Resources,
        description='an object of cpus, gpus and memory, such as {"cpus": 1, "gpus": 0, "memory": 2048}',
    )
    """What each node needs."""
    nodes: int = Field(default=1, ge=1, le=10_000, description="a whole number of machines from 1, such as 2")
    requirements: Annotated[
        Text,
        BeforeValidator(_requirements),
        Field(default="", description="pip requirements as a text or a list, such as tensorflow==2.21.0"),
    ]
    python_major_version: Literal[2, 3] = Field(default=3, description="2 or 3")
    """Chooses ``pip`` and ``python``, or ``pip3`` and ``python3``."""
    data: dict[str, Any] = Field(default_factory=dict, description="an object of file names and their contents")
    """Files for the script, by their name in the working directory."""
    resume_from: Annotated[
        str,
        BeforeValidator(_job_id_of),
        Field(
            default="",
            pattern=f"^({JOB_ID})?$",
            description="the id of an ended job, a UUID, or the result of the task that trained it",
        ),
    ]
    """The job whose checkpoints this one continues; empty for none."""
    keep_checkpoints: bool = Field(default=False, description="true or false")
    """Whether the job's checkpoints stay after its success."""
    cycle: str = ""
    """A key that the jobs of one clear cycle of a task have in common: each continues the checkpoints of those before.
    It is no part of what the job is, nor of its digest."""
    metric_definitions: tuple[dict[str, str], ...] = ()
    """The checked ``metric_definitions`` of the operator, for a service that has a use for them. No part of a job
    file."""
    service_options: dict[str, Any] = Field(default_factory=dict, description="an object in the service's own words")

    @classmethod
    def of(cls, **fields: Any) -> TrainingJob:
        """Make a job from its fields.

        :param fields: ``arguments`` may have options as objects, see
            :mod:`~airflow_provider_jobapi.training.arguments`.
        :raises InvalidJob: naming the field and saying what is allowed.
        """
        if "arguments" in fields:
            fields["arguments"] = argument_list(fields["arguments"])
        job = validated(cls, fields)
        refuse_duplicates("env", [variable.name.lower() for variable in job.env])
        _check_env_vars(job)
        for name, source in job.data.items():
            _check_file("data", name, source)
            if name in job.source or (job.script is not None and name == job.script_name):
                raise InvalidJob(
                    f"data[{name!r}] would replace a file of {named('source')}; give it another name.", field="data"
                )
        job = job.model_copy(update={"entry_point": _checked_entry_point(job)})
        for path in wheels_of(job.requirements):
            if path not in job.files():
                raise InvalidJob(
                    f"requirements has the wheel {path!r}, which is no file of the job: give the file in "
                    f"{named('data')} or {named('source')} under this name.",
                    field="requirements",
                )
        return job

    @property
    def script_name(self) -> str:
        """The name of the script in the working directory, which no file of ``source`` has."""
        name = SCRIPT_NAME
        while name in self.source:
            name = f"{name.removesuffix('.py')}_.py"
        return name

    @property
    def program(self) -> tuple[str, ...]:
        """What Python runs: the script's name, the path of a file, or ``-m`` and a module; empty without a script."""
        if self.script is not None:
            return (self.script_name,)
        return words_of(self.entry_point) if self.entry_point else ()

    def variables(self) -> tuple[EnvVar, ...]:
        """The environment variables: ``env`` without those that the system and the service set, and ``env_vars``."""
        return (*(each for each in self.env if each.name not in SYSTEM_VARIABLES), *self.env_vars)

    def command(self) -> str:
        """The shell command that installs the requirements and runs the script, every value quoted.

        ``[{"name": "TEST_DATA", "value": "…"}]`` is passed as ``--test_data=…``.

        :raises InvalidJob: when the job has no script.
        """
        if not self.program:
            raise InvalidJob("script is missing: it is the source text of the training script.", field="script")
        suffix = "3" if self.python_major_version == 3 else ""
        variables = [f"--{each.name.lower()}={each.value}" for each in self.env]
        run = [f"python{suffix}", *self.program, *variables, *self.arguments]
        install = [f"pip{suffix}", "install", "-r", REQUIREMENTS_NAME]
        installs = self.requirements.strip() or REQUIREMENTS_NAME in self.source
        return " && ".join(shlex.join(part) for part in ([install, run] if installs else [run]))

    def files(self) -> dict[str, DataSource]:
        """Every file of the working directory and where its content comes from."""
        own: dict[str, DataSource] = dict(self.source)
        if self.script is not None:
            own[self.script_name] = self.script
        if self.requirements.strip():
            own[REQUIREMENTS_NAME] = re.sub(r"\s*\Z", "\n", self.requirements)
        return own | self.data

    def job_file(self, inputs: Iterable[InputFile]) -> JobFile:
        """The job as a job file, for a service that runs a script on one machine.

        :param inputs: The files of :meth:`files` with their sizes and hashes, in any order.
        :raises InvalidJob: when the job has no script.
        """
        execution = Execution(
            image=self.image,
            command=self.command(),
            completion_time=self.completion_time,
            resources=self.resources,
        )
        spec = JobSpec(
            name=self.name,
            env=self.variables(),
            execution=execution,
            inputs=self.marked(inputs),
            resume_from=self.resume_from,
            keep_checkpoints=self.keep_checkpoints,
        )
        return JobFile(job=spec)

    def marked(self, inputs: Iterable[InputFile]) -> tuple[InputFile, ...]:
        """Return the files sorted by name; those of a folder of code are marked as such, so that they are no data.

        :param inputs: As for :meth:`job_file`.
        """
        known = (file.model_copy(update={"code": True}) if self._is_code(file.path) else file for file in inputs)
        return tuple(sorted(known, key=lambda file: file.path))

    def _is_code(self, path: str) -> bool:
        """Whether a file is code of a folder; the usual script and the requirements are known by their names."""
        beside = self.script is not None and path == self.script_name != SCRIPT_NAME
        return beside or (path in self.source and path != REQUIREMENTS_NAME)


def data_files(inputs: Iterable[InputFile]) -> tuple[InputFile, ...]:
    """The job's data files, sorted by name: all inputs but the script, the requirements and the other code."""
    own = {SCRIPT_NAME, REQUIREMENTS_NAME}
    data = (file for file in inputs if not file.code and file.path not in own)
    return tuple(sorted(data, key=lambda file: file.path))


def code_version(inputs: Iterable[InputFile]) -> str | None:
    """The SHA-256 over the names and hashes of a folder of code, or None when the job has none."""
    files = [(file.path, file.sha256) for file in inputs if file.code]
    return digest_of(files) if files else None


def data_version(inputs: Iterable[InputFile]) -> str | None:
    """The SHA-256 over the names and hashes of the job's data files, or None when the job has no data files."""
    files = [(file.path, file.sha256) for file in data_files(inputs)]
    return digest_of(files) if files else None


def _check_env_vars(job: TrainingJob) -> None:
    names = [each.name for each in job.env_vars]
    refuse_duplicates("env_vars", names)
    for name in names:
        if name in SYSTEM_VARIABLES:
            raise InvalidJob(
                f"env_vars cannot set {name!r}, since the job needs its own variable of that name; choose another one.",
                field="env_vars",
            )
        if any(each.name == name for each in job.env):
            raise InvalidJob(f"env_vars has {name!r}, which env has as well; name it once.", field="env_vars")


def _checked_entry_point(job: TrainingJob) -> str:
    """The entry point of a job's folder of code, checked against its files; empty for a job without one."""
    for name, source in job.source.items():
        _check_file("source", name, source)
    if job.script is not None:
        refuse_notebook_text("script", job.script)
        if job.entry_point:
            raise InvalidJob(
                "script and entry_point are both given, and each says what is run: leave out one of them.",
                field="entry_point",
            )
        return ""
    if job.source:
        path = next((each.value for each in job.variables() if each.name == "PYTHONPATH"), "")
        return str(find(job.entry_point, job.source, named("source"), path))
    if job.entry_point and words_of(job.entry_point)[0] != "-m":  # a module may be one that the requirements install
        raise InvalidJob(
            "entry_point needs source, the folder that it is in; a script alone is given as script.",
            field="entry_point",
        )
    return " ".join(words_of(job.entry_point)) if job.entry_point else ""


def _check_file(kind: str, name: str, source: object) -> None:
    field = f"{kind}[{name!r}]"
    try:
        check_path(name)
    except ValueError:
        raise InvalidJob(
            f"{field} cannot be a file's name: it is a relative path without '..', backslashes and control "
            "characters, such as data/train.csv.",
            field=field,
        ) from None
    if kind == "data" and name in {SCRIPT_NAME, REQUIREMENTS_NAME}:
        raise InvalidJob(f"{field} would replace the job's own {name}; give the file another name.", field=field)
    if not isinstance(source, str | bytes | DataPath):
        raise InvalidJob(
            f"{field} is a {type(source).__name__}: it must be a text, bytes, a Path or an ObjectStoragePath.",
            field=field,
        )
