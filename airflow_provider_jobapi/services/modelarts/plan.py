# SPDX-License-Identifier: Apache-2.0
"""Map a training job to ModelArts: its name and description there, its files in OBS, and its service options.

ModelArts chooses the ids of jobs, so this provider's job id is part of the name and of the description, and a job is
found again by them.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.services.files.sources import Source, measure
from airflow_provider_jobapi.services.modelarts import boot, boot_checkpoints, boot_work_folder
from airflow_provider_jobapi.services.modelarts.catalogue import CustomImage, ModelArtsEngine
from airflow_provider_jobapi.services.modelarts.obs import KEEPER
from airflow_provider_jobapi.training import checkpoint_formats, checkpoint_rules, pip_directions
from airflow_provider_jobapi.training.job import REQUIREMENTS_NAME, TrainingJob
from airflow_provider_jobapi.training.requirement_text import Directions, named_index, wheels_of
from airflow_provider_jobapi.training.units import read_span

BOOT_FILE = "modelarts_boot.py"
CODE, DATA, OUTPUT = "code/", "data/", "output/"
"""The folders below a job's own folder."""

SHORTCUTS = ("engine", "flavor", "nodes", "spec_code")
"""The keys of ``service_options`` that this provider reads. All others are merged into the request."""

LONGEST_SLUG = 27
"""Characters of a job's own name in its name on ModelArts, which has at most 64."""

_BESIDE_BOOT = {
    Path(module.__file__ or "").name: Path(module.__file__ or "")
    for module in (boot_checkpoints, boot_work_folder, checkpoint_formats, checkpoint_rules)
}
"""The modules that the boot file imports."""

_PLATFORM_REQUIREMENTS = "pip-requirements.txt"


@dataclass(frozen=True, slots=True)
class Plan:
    """A job as ModelArts needs it, independent of the dialect.

    :ivar code: The OBS folder of the code, as ``/bucket/key/``; ``data`` and ``output`` have the same form.
    :ivar boot_file: The name of the boot file in the code folder.
    :ivar engine: None if ``more`` has it.
    :ivar flavor: Its code; None if ``more`` has it.
    :ivar env: Names as in the DAG, and values; a script gets them as ``--name=value``.
    :ivar more: Request fields from the DAG, merged into the request.
    :ivar spec_id: The number of the flavour, by which v1's reference names it; its procedure uses the code.
    """

    name: str
    description: str
    workspace_id: str
    code: str
    boot_file: str
    data: str
    output: str
    engine: ModelArtsEngine | CustomImage | None
    flavor: str | None
    nodes: int
    env: tuple[tuple[str, str], ...]
    more: Mapping[str, Any] = field(default_factory=dict)
    spec_id: int | None = None

    @property
    def parameters(self) -> list[tuple[str, str]]:
        """What the script gets as ``--name=value``; the names are in lower case."""
        return [(name.lower(), value) for name, value in self.env]


@dataclass(frozen=True, slots=True)
class Options:
    """The DAG's ``service_options``.

    :ivar flavor: The flavour's code.
    :ivar engine: ``name:version``, the version, or the id.
    :ivar nodes: The number of machines.
    :ivar more: All other options, merged into the request.
    """

    flavor: str | None
    engine: str | None
    nodes: int
    more: Mapping[str, Any]

    @classmethod
    def of(cls, given: Mapping[str, Any], job_nodes: int = 1) -> Options:
        """Parse ``service_options``.

        :param job_nodes: The job's ``nodes``.
        :raises InvalidJob: naming the option that is wrong.
        """
        flavors = [_text(given, name) for name in ("flavor", "spec_code") if given.get(name) is not None]
        if len(flavors) > 1:
            raise _invalid("both flavor and spec_code, which mean the same; remove one of them")
        nodes = given.get("nodes", job_nodes)
        if not isinstance(nodes, int) or isinstance(nodes, bool) or nodes < 1:
            raise _invalid(f"nodes = {nodes!r}; expected an integer of at least 1")
        if job_nodes not in {1, nodes}:
            raise _invalid(f"nodes = {nodes}, but the job has nodes = {job_nodes}; remove one of them")
        engine = None if given.get("engine") is None else _text(given, "engine")
        more = {name: value for name, value in given.items() if name not in SHORTCUTS}
        try:
            json.dumps(more)
        except (TypeError, ValueError):
            raise _invalid("a value that is not JSON; use strings, numbers, booleans, lists and objects") from None
        return cls(flavors[0] if flavors else None, engine, nodes, more)


def job_name(name: str, job_id: str) -> str:
    """Return the job's name on ModelArts: at most 64 letters, digits, ``_`` and ``-``; the last 36 are the job id."""
    return f"{re.sub(r'[^A-Za-z0-9_-]', '-', name)[:LONGEST_SLUG]}-{job_id}"


def description(job_id: str, digest: str) -> str:
    """Return the job's description on ModelArts, which identifies the job and its content."""
    return f"airflow:{job_id} sha256:{digest}"


def has_job_id(name: str, described: str, job_id: str) -> bool:
    """Whether the name and the description of a job on ModelArts are those of a job id."""
    found = re.match(rf"airflow:{re.escape(job_id)}(?![0-9A-Za-z-])", described)
    return name.endswith(f"-{job_id}") and found is not None


def digest_in(described: str) -> str | None:
    """Return the digest in a job's description, if there is one."""
    found = re.search(r" sha256:([0-9a-f]{64})\b", described)
    return found[1] if found else None


def job_digest(job: TrainingJob, sources: Mapping[str, Source]) -> str:
    """Return the SHA-256 of a job's content: its job file and its service options."""
    job_file = job.job_file(each.as_input() for each in sources.values())
    nodes = {"nodes": job.nodes} if job.nodes > 1 else {}
    options = json.dumps(nodes | job.service_options, sort_keys=True, default=str)
    return hashlib.sha256(job_file.canonical() + options.encode()).hexdigest()


def check_script(job: TrainingJob) -> None:
    """Refuse a job without a script.

    :raises InvalidJob: saying what to do.
    """
    if not job.program:
        raise InvalidJob(
            "script is missing: ModelArts jobs of this provider run a script; set script, or use another "
            "service's connection.",
            field="script",
        )


def check_env(job: TrainingJob) -> None:
    """Refuse names of variables that ModelArts uses itself.

    :raises InvalidJob: naming the variable.
    """
    for each in job.env:
        if each.name.lower() in {"data_url", "train_url"}:
            raise InvalidJob(
                f"env cannot contain {each.name!r}: ModelArts passes --{each.name.lower()} itself; use another name.",
                field="env",
            )


def check_requirements(job: TrainingJob) -> None:
    """Refuse a package index that is given by a name, which only a jobAPI server knows.

    :raises InvalidJob: saying what to do.
    """
    if named := named_index(job.requirements):
        raise InvalidJob(
            f"requirements has {named!r}, and ModelArts has no names of package indexes: give the index's address.",
            field="requirements",
        )


def files(job: TrainingJob, job_id: str, sources: Mapping[str, Source], *, installs: bool) -> dict[str, Source]:
    """Return the files of a job's folder in OBS, by their path in it.

    :param sources: The files of the job, by their path in its working directory.
    :param installs: Whether the platform installs ``pip-requirements.txt``, as it does for its own engines.
    """
    span = read_span(job.completion_time)
    requirements = REQUIREMENTS_NAME in sources
    directions = Directions.of(job.requirements)
    # The platform follows no directions, and has no wheels beside its file.
    installs = installs and not (wheels_of(job.requirements) or directions.exact or directions.constraints)
    settings: dict[str, Any] = {
        "id": job_id,
        "script": "" if job.script is None else job.script_name,
        "env": {each.name: each.value for each in job.variables()},
        "seconds": span.total_seconds() if span else None,
        "requirements": REQUIREMENTS_NAME if requirements and not installs else "",
    }
    if job.arguments:
        settings["arguments"] = list(job.arguments)
    if job.source or job.script is None:
        settings |= {
            "program": list(job.program),
            "code": sorted(job.source.keys() & sources.keys() - {REQUIREMENTS_NAME}),
        }
    if job.env_vars:
        settings["named"] = [each.name for each in job.env]
    if job.keep_checkpoints:
        settings["keep_checkpoints"] = True
    if directions.exact or directions.constraints:
        settings |= {"exact": directions.exact, "constraints": list(directions.constraints)}
    if directions.python:
        settings["requires_python"] = ",".join(directions.python)
    found = {
        f"{CODE}{BOOT_FILE}": measure(BOOT_FILE, Path(boot.__file__).read_text(encoding="utf-8")),
        **{f"{CODE}{name}": measure(name, path.read_text(encoding="utf-8")) for name, path in _BESIDE_BOOT.items()},
        f"{CODE}{boot.JOB}": measure(boot.JOB, json.dumps(settings, sort_keys=True)),
        f"{DATA}{KEEPER}": measure(KEEPER, ""),
        f"{OUTPUT}{KEEPER}": measure(KEEPER, ""),
    }
    if {"exact", "requires_python"} & settings.keys():
        name = Path(pip_directions.__file__).name
        found[f"{CODE}{name}"] = measure(name, Path(pip_directions.__file__).read_text(encoding="utf-8"))
    if job.script is not None:
        found[f"{CODE}{job.script_name}"] = sources[job.script_name]
    if requirements:
        name = _PLATFORM_REQUIREMENTS if installs else REQUIREMENTS_NAME
        found[f"{CODE}{name}"] = sources[REQUIREMENTS_NAME]
    own = {REQUIREMENTS_NAME} | (set() if job.script is None else {job.script_name})
    return found | {f"{DATA}{path}": source for path, source in sources.items() if path not in own}


def _text(given: Mapping[str, Any], name: str) -> str:
    value = given[name]
    if not isinstance(value, str | int) or isinstance(value, bool) or not str(value).strip():
        raise _invalid(f"{name} = {value!r}; expected a string")
    return str(value).strip()


def _invalid(what: str) -> InvalidJob:
    return InvalidJob(f"service_options has {what}.", field="service_options")
