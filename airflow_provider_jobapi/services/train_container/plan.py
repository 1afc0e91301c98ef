# SPDX-License-Identifier: Apache-2.0
"""What a container is to run: a command of the Train API, or a training job of ``SubmitTrainingOperator``. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.services.train_container.commands import (
    RULES,
    Command,
    Spelling,
    read_arguments,
    read_spelling,
)
from airflow_provider_jobapi.services.train_container.dialects import read_requirements
from airflow_provider_jobapi.services.train_container.responses import ResponseProblem
from airflow_provider_jobapi.services.train_container.tags import read_image
from airflow_provider_jobapi.services.train_container.targets import read_targets
from airflow_provider_jobapi.training.job import DEFAULT_IMAGE, DataSource, TrainingJob
from airflow_provider_jobapi.training.job_file import InputFile
from airflow_provider_jobapi.training.units import LONGEST_SPAN, read_span

OPTIONS = ("command", "command_names", "command_prefix", "isolation", "listed", "plain_summary", "strict", "targets")
"""The keys of ``service_options``."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a container is to run.

    :ivar image: The train's image.
    :ivar arguments: More arguments of the command.
    :ivar environment: Variables beside those of the station.
    :ivar data: Files that it finds in the data folder, by their path in it.
    :ivar isolation: What is loosened or tightened beside what the connection says.
    :ivar seconds: Seconds that it may run; None for as long as it takes.
    :ivar strict: Whether nothing but blanks may follow a response.
    :ivar plain_summary: Whether a summary may be text without JSON.
    :ivar listed: The train's response to ``list_requirements``, where that to ``check_requirements`` has its ids alone.
    :ivar targets: More targets of required variables, beside those of the connection.
    """

    image: str
    command: Command
    name: str = ""
    spelling: Spelling = field(default_factory=Spelling)
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    data: Mapping[str, DataSource] = field(default_factory=dict)
    isolation: Mapping[str, Any] = field(default_factory=dict)
    seconds: float | None = None
    strict: bool = False
    plain_summary: bool = False
    targets: Mapping[str, str] = field(default_factory=dict)
    listed: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        """Refuse what no container could run.

        :raises InvalidJob: naming the field.
        """
        read_image(self.image)
        if self.environment and not RULES[self.command].environment:
            raise InvalidJob(
                f"env is given for {self.command}, which gets no environment (Train API V1): leave it out.", field="env"
            )
        if self.data and not RULES[self.command].environment:
            raise InvalidJob(
                f"data_input is given for {self.command}, which gets nothing of the station (Train API V1): leave it "
                "out.",
                field="data_input",
            )

    @property
    def words(self) -> list[str]:
        """The arguments of the container, which follow the image's entry point."""
        return self.spelling.arguments(self.command, self.arguments)

    def digest(self, inputs: tuple[InputFile, ...]) -> str:
        """Return the SHA-256 of what is run. The station's environment, which may change between tries, is no part."""
        content = {
            "image": self.image,
            "words": self.words,
            "environment": dict(self.environment),
            "isolation": self.isolation,
            "seconds": self.seconds,
            "rules": [self.strict, self.plain_summary, self.targets, self.listed],
            "data": sorted([each.path, each.sha256] for each in inputs),
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def plan_of(job: TrainingJob) -> Plan:
    """Read a training job as the run of a train.

    :raises InvalidJob: for what a train cannot be given, naming the parameter and what to do.
    """
    _refuse_what_a_train_has_not(job)
    options = _options(job.service_options)
    return Plan(
        image=job.image,
        command=Command.of(options.get("command", Command.RUN_ALGORITHM)),
        name=job.name,
        spelling=read_spelling(options.get("command_names"), options.get("command_prefix")),
        arguments=read_arguments("arguments", list(job.arguments)),
        environment={each.name: each.value for each in job.variables()},
        data=job.data,
        isolation=_limits(job) | dict(options.get("isolation") or {}),
        seconds=_seconds(job.completion_time),
        strict=options.get("strict") is True,
        plain_summary=options.get("plain_summary") is True,
        targets=dict(options.get("targets") or {}),
        listed=options.get("listed"),
    )


def _refuse_what_a_train_has_not(job: TrainingJob) -> None:
    brings = "a train image brings its own algorithm"
    refused = (
        ("script", job.script is not None, f"{brings}: leave it out, or build it into the image"),
        ("source", bool(job.source) or bool(job.entry_point), f"{brings}: leave it out, or build it into the image"),
        ("requirements", bool(job.requirements.strip()), "a train image brings its own packages: install them there"),
        ("nodes", job.nodes > 1, "a train runs in one container: leave it out"),
        ("job_resources", job.resources.gpus > 0, "containers of trains get no GPUs here: ask for none"),
    )
    for name, is_given, why in refused:
        if is_given:
            raise InvalidJob(f"{name} cannot be used with train containers, where {why}.", field=name)
    if job.image in {"", DEFAULT_IMAGE}:
        raise InvalidJob(
            "image is not given, and is the train: name one, such as registry.example.com/trains/bmi:base.",
            field="image",
        )


def _seconds(text: str) -> float | None:
    """Read a completion time. The worker and the triggerer are all that ends a container, so it cannot be free text.

    :raises InvalidJob: when it is no duration.
    """
    if not text.strip():
        return None
    if (span := read_span(text)) is None:
        raise InvalidJob(
            f"completion_time cannot be {text[:80]!r}: it is a time of more than 0 and up to "
            f"{LONGEST_SPAN.days:,} days, such as 20h, 1h30m, PT4H or 10000 for seconds, or blank for no limit.",
            field="completion_time",
        )
    return span.total_seconds()


def _limits(job: TrainingJob) -> dict[str, Any]:
    """The job's own resources as limits, where its user has named any."""
    named = job.resources.model_fields_set
    limits: dict[str, Any] = {}
    if "cpus" in named:
        limits["cpus"] = job.resources.cpus
    if "memory" in named:
        limits["memory"] = f"{job.resources.memory}m"
    return limits


def _options(given: Mapping[str, Any]) -> dict[str, Any]:
    if unknown := sorted(set(given) - set(OPTIONS)):
        raise InvalidJob(
            f"service_options has {unknown[0]!r}, which trains do not know; it may hold {', '.join(OPTIONS)}.",
            field="service_options",
        )
    for name in ("strict", "plain_summary"):
        if not isinstance(given.get(name, False), bool):
            raise InvalidJob(f"service_options.{name} is true or false.", field="service_options")
    if not isinstance(given.get("isolation") or {}, Mapping):
        raise InvalidJob("service_options.isolation is an object.", field="service_options")
    read_targets(given.get("targets"))
    if (listed := given.get("listed")) is not None:
        try:
            read_requirements(listed if isinstance(listed, Mapping) else {})
        except ResponseProblem as problem:
            raise InvalidJob(f"service_options.listed is no response: {problem}", field="service_options") from None
    return dict(given)
