# SPDX-License-Identifier: Apache-2.0
"""A training job as ModelArts wants it: its name there, the files of its folder in OBS, and what is asked for.

No id can be chosen on ModelArts, so ours travels in the name and in the description, and a job is found again by them.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.services.files.sources import Source, measure
from airflow_provider_jobapi.services.modelarts import boot
from airflow_provider_jobapi.services.modelarts.mapping import Found
from airflow_provider_jobapi.training.job import REQUIREMENTS_NAME, SCRIPT_NAME, TrainingJob
from airflow_provider_jobapi.training.units import read_span

BOOT_FILE = "modelarts_boot.py"
CODE, DATA, OUTPUT = "code/", "data/", "output/"
"""The folders below a job's own."""

KEEPER = ".keep"
"""Makes a folder be there, which OBS has only where an object is in it."""

SHORTCUTS = ("engine", "flavor", "nodes", "spec_code")
"""What ``service_options`` may say in our words; everything else is the API's."""

_PLATFORM_REQUIREMENTS = "pip-requirements.txt"
_LONGEST_SLUG = 27


@dataclass(frozen=True, slots=True)
class Options:
    """What ``service_options`` say.

    :ivar flavor: The flavour's code.
    :ivar engine: ``name:version``, the version, or the id.
    :ivar more: The rest, which is merged into the request.
    """

    flavor: str | None
    engine: str | None
    nodes: int
    more: Mapping[str, Any]

    @classmethod
    def of(cls, given: Mapping[str, Any], job_nodes: int = 1) -> Options:
        """Parse the options.

        :param job_nodes: The job's ``nodes``.
        :raises InvalidJob: naming the option that is invalid.
        """
        flavors = [_text(given, name) for name in ("flavor", "spec_code") if given.get(name) is not None]
        if len(flavors) > 1:
            raise _wrong("flavor and spec_code, which are the same: keep one")
        nodes = given.get("nodes", job_nodes)
        if not isinstance(nodes, int) or isinstance(nodes, bool) or nodes < 1:
            raise _wrong(f"nodes as {nodes!r}: it is a whole number from 1, of machines")
        if job_nodes not in {1, nodes}:
            raise _wrong(f"nodes as {nodes}, and the job's nodes is {job_nodes}: keep one of the two")
        engine = None if given.get("engine") is None else _text(given, "engine")
        more = {name: value for name, value in given.items() if name not in SHORTCUTS}
        try:
            json.dumps(more)
        except (TypeError, ValueError):
            raise _wrong("what JSON has no word for: keep to texts, numbers, lists and objects") from None
        return cls(flavors[0] if flavors else None, engine, nodes, more)


def job_name(name: str, job_id: str) -> str:
    """The job's name there: at most 64 letters, digits, ``_`` and ``-``, the last 36 of them our id."""
    return f"{re.sub(r'[^A-Za-z0-9_-]', '-', name)[:_LONGEST_SLUG]}-{job_id}"


def description(job_id: str, digest: str) -> str:
    """By which we know a job for ours, and whether it is the one that is asked for."""
    return f"airflow:{job_id} sha256:{digest}"


def owned(found: Found, job_id: str) -> bool:
    """Whether a job is ours, by its name and its description."""
    ours = re.match(rf"airflow:{re.escape(job_id)}(?![0-9A-Za-z-])", found.description)
    return found.name.endswith(f"-{job_id}") and ours is not None


def digest_in(said: str) -> str | None:
    """The digest that a description holds."""
    found = re.search(r" sha256:([0-9a-f]{64})\b", said)
    return found[1] if found else None


def digest_of(job: TrainingJob, sources: Mapping[str, Source]) -> str:
    """One SHA-256 over all that a job is."""
    job_file = job.job_file(each.as_input() for each in sources.values())
    nodes = {"nodes": job.nodes} if job.nodes > 1 else {}
    options = json.dumps(nodes | job.service_options, sort_keys=True, default=str)
    return hashlib.sha256(job_file.canonical() + options.encode()).hexdigest()


def check_script(job: TrainingJob) -> None:
    """Refuse a job without a script.

    :raises InvalidJob: saying what to do.
    """
    if job.script is None:
        raise InvalidJob(
            "script is missing: this provider runs scripts on ModelArts; give one, or choose the connection of another "
            "service.",
            field="script",
        )


def check_env(job: TrainingJob) -> None:
    """Refuse names that ModelArts uses itself.

    :raises InvalidJob: naming one.
    """
    for each in job.env:
        if each.name.lower() in {"data_url", "train_url"}:
            raise InvalidJob(
                f"env {each.name!r} cannot be: ModelArts passes --{each.name.lower()} itself; call it otherwise.",
                field="env",
            )


def files(job: TrainingJob, job_id: str, sources: Mapping[str, Source], *, installs: bool) -> dict[str, Source]:
    """The files of a job's folder, by their path in it.

    :param sources: The files of the job, by their path in its working directory.
    :param installs: Whether the platform installs ``pip-requirements.txt``, which it does for its own engines.
    """
    span = read_span(job.completion_time)
    requirements = REQUIREMENTS_NAME in sources
    told: dict[str, Any] = {
        "id": job_id,
        "script": SCRIPT_NAME,
        "env": {each.name: each.value for each in job.env},
        "seconds": span.total_seconds() if span else None,
        "requirements": REQUIREMENTS_NAME if requirements and not installs else "",
    }
    if job.arguments:
        told["arguments"] = list(job.arguments)
    found = {
        f"{CODE}{BOOT_FILE}": measure(BOOT_FILE, Path(boot.__file__).read_text(encoding="utf-8")),
        f"{CODE}{boot.JOB}": measure(boot.JOB, json.dumps(told, sort_keys=True)),
        f"{CODE}{SCRIPT_NAME}": sources[SCRIPT_NAME],
        f"{DATA}{KEEPER}": measure(KEEPER, ""),
        f"{OUTPUT}{KEEPER}": measure(KEEPER, ""),
    }
    if requirements:
        name = _PLATFORM_REQUIREMENTS if installs else REQUIREMENTS_NAME
        found[f"{CODE}{name}"] = sources[REQUIREMENTS_NAME]
    data = {path: source for path, source in sources.items() if path not in {SCRIPT_NAME, REQUIREMENTS_NAME}}
    return found | {f"{DATA}{path}": source for path, source in data.items()}


def _text(given: Mapping[str, Any], name: str) -> str:
    value = given[name]
    if not isinstance(value, str | int) or isinstance(value, bool) or not str(value).strip():
        raise _wrong(f"{name} as {value!r}: it is a text")
    return str(value).strip()


def _wrong(what: str) -> InvalidJob:
    return InvalidJob(f"service_options has {what}.", field="service_options")
