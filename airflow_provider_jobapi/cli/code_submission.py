# SPDX-License-Identifier: Apache-2.0
"""``jobapi submit --source`` and ``--script``: a job of a folder of code or of a script, without a job file."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from airflow_provider_jobapi.cli.submission import Prepared
from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.services.files.code import Code, read_code
from airflow_provider_jobapi.services.files.data import expand, named
from airflow_provider_jobapi.services.files.sources import measure_all
from airflow_provider_jobapi.training.entry_point import refuse_notebook
from airflow_provider_jobapi.training.job import TrainingJob
from airflow_provider_jobapi.training.job_file import check_input_count
from airflow_provider_jobapi.training.requirement_files import requirements_text, script_text
from airflow_provider_jobapi.training.units import count_text, size_text


def prepare_code(options: argparse.Namespace, say: Callable[[str], None], warn: Callable[[str], None]) -> Prepared:
    """Make a job of a folder of code or of a script.

    :param say: Called with a message about the files of the job.
    :param warn: Called with a message about files that were left out.
    :raises InvalidJob: for what cannot be a job.
    """
    code = _code(options)
    fields: dict[str, Any] = {"entry_point": f"-m {options.module}"} if options.module else {}
    if code is not None:
        fields |= {"source": code.files, "entry_point": code.entry_point}
    if options.script is not None:
        fields["script"] = _script(options.script)
    if options.requirements is not None:
        fields["requirements"] = requirements_text(options.requirements, Path(), "in this folder")
    elif requirements := script_text(fields.get("script", ""), options.script or ""):
        fields["requirements"] = requirements
    elif code is not None and code.requirements is not None:
        fields["requirements"] = code.requirements
    if code is not None:
        fields["requirements"] = code.with_wheel(fields.get("requirements", ""))
    data = expand(_data(each) for each in options.data or ())
    resources = {name: getattr(options, name) for name in ("cpus", "gpus", "memory")}
    job = TrainingJob.of(
        name=options.name or _name(options.script or options.source or options.module),
        env_vars=[_variable(each) for each in options.env_var or ()],
        arguments=options.script_arguments,
        image=options.image or "",
        completion_time=options.completion_time or "",
        resources={name: value for name, value in resources.items() if value is not None},
        data=data,
        **fields,
    )
    check_input_count(len(job.files()))
    _refuse_connection(options.connection, [*job.source.values(), *data.values()])
    sources = measure_all(job.files())
    if code is not None:
        say(f"The job gets from {options.source}: {code.summary()}")
        if warning := code.warning():
            warn(warning)
    if data:
        say(f"Its data: {count_text(len(data), 'file')}, {size_text(sum(sources[path].size for path in data))}.")
    return Prepared(job.job_file(each.as_input() for each in sources.values()), sources, job)


def _code(options: argparse.Namespace) -> Code | None:
    if options.source is None:
        return None
    refuse_notebook("--source", options.source)
    if not options.source.strip():  # what a shell makes of a variable that is not set
        raise InvalidJob("--source is an empty text; name the folder of the job's code.")
    entry_point = options.entry_point if options.module is None else f"-m {options.module}"
    return read_code(
        Path(options.source),
        entry_point,
        with_script=options.script is not None,
        with_requirements=options.requirements is not None,
    )


def _script(name: str) -> str:
    refuse_notebook("--script", name)
    try:
        return Path(name).read_bytes().decode("utf-8")
    except OSError as error:
        raise InvalidJob(f"The script {name} cannot be read: {error.strerror or error}.") from None
    except UnicodeDecodeError:
        raise InvalidJob(f"The script {name} is not UTF-8; save it as UTF-8.") from None


def _data(text: str) -> tuple[str, Any]:
    if re.match(r"(?:[^=/]*=)?[A-Za-z][\w+.-]*://", text):
        raise InvalidJob(
            f"--data {text} is an address: it takes paths of this machine; the operator knows object stores."
        )
    name, mark, path = text.partition("=")
    if mark and name and path and not Path(text).exists() and not any(each in name for each in "*?["):
        return name, Path(path)
    return named(Path(text), Path())


def _variable(text: str) -> dict[str, str]:
    name, mark, value = text.partition("=")
    if not mark:
        raise InvalidJob(f"--env-var {name!r} has no value: write NAME=VALUE.")
    return {"name": name, "value": value}


def _name(path: str) -> str:
    """A job's name, made of that of its folder or script."""
    place = Path(path).resolve()
    text = re.sub(r"[^A-Za-z0-9._-]+", "-", place.stem if place.suffix == ".py" else place.name)
    return re.sub(r"^[^A-Za-z0-9]+", "", text)[:100].rstrip("-") or "training"


def _refuse_connection(connection: str | None, files: Sequence[Any]) -> None:
    """Refuse the file with the secret of the connection as a file of the job."""
    secret = None if connection is None else Path(connection).expanduser().resolve()
    for file in files:
        if isinstance(file, Path) and file.resolve() == secret:
            raise InvalidJob(f"{file} holds the secret of the connection and would be uploaded; move it elsewhere.")
