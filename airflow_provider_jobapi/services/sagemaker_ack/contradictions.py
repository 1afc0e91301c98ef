# SPDX-License-Identifier: Apache-2.0
"""Refuse options that contradict a parameter of the job, of which one would win in silence. Pure.

A default is no parameter: an option replaces it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.services.sagemaker_ack.options import Options
from airflow_provider_jobapi.training.job import TrainingJob
from airflow_provider_jobapi.training.units import read_span

OWN_VARIABLES = ("JOB_ID", "MODEL_DIR", "CHECKPOINT_DIR")
"""Environment variables that follow from the job; with others its model or its checkpoints would be lost."""


OWN_HYPERPARAMETERS = ("sagemaker_program", "sagemaker_submit_directory")
"""Hyperparameters by which SageMaker's toolkit finds the script; with others it would not run."""


def check(job: TrainingJob, options: Options, image: str) -> None:
    """Compare options and parameters.

    :param image: The job's own image in ECR; empty where it has none.
    :raises InvalidJob: naming both.
    """
    for parameter, ours, path, theirs in _pairs(job, options, image):
        if ours is not None and theirs is not None and ours != theirs:
            raise InvalidJob(
                f"{parameter} is {ours}, and service_options has {path} = {_shown(theirs)}: leave one of them out.",
                field=parameter,
            )
    _check_names("env", {each.name.lower(): each.value for each in job.env}, options, "hyperParameters")
    _check_names("env and env_vars", {each.name: each.value for each in job.variables()}, options, "environment")
    _check_own("environment", OWN_VARIABLES, options)
    if job.program:
        _check_own("hyperParameters", OWN_HYPERPARAMETERS, options)
    if job.data and options.spec.get("inputDataConfig", ...) in (None, []):
        raise InvalidJob(
            "service_options removes inputDataConfig, by which the files of data_input reach the job: leave one of "
            "them out.",
            field="service_options",
        )


def _check_own(field: str, own: tuple[str, ...], options: Options) -> None:
    """Refuse to set or remove what this provider sets itself; None removes."""
    given = options.spec.get(field, {})
    if given is None:
        raise InvalidJob(
            f"service_options removes {field}, in which this provider sets {own[0]}: leave it out.",
            field="service_options",
        )
    for name in own:
        if name in given:
            raise InvalidJob(
                f"service_options has {field}.{name}, which this provider sets itself: use another name.",
                field="service_options",
            )


def _pairs(job: TrainingJob, options: Options, image: str) -> Iterator[tuple[str, Any, str, Any]]:
    """Yield the name and value of each parameter, and the path and value of the option for the same thing."""
    machines = _object(options.spec, "resourceConfig")
    algorithm = _object(options.spec, "algorithmSpecification")
    groups, nodes = machines.get("instanceGroups"), job.nodes if job.nodes > 1 else None
    volume = machines.get("volumeSizeInGB")
    span = read_span(job.completion_time)
    seconds = None if span is None else max(1, round(span.total_seconds()))
    runtime = _object(options.spec, "stoppingCondition").get("maxRuntimeInSeconds")
    yield "nodes", nodes, "resourceConfig.instanceGroups", groups
    yield "nodes", nodes, "resourceConfig.instanceCount", machines.get("instanceCount")
    yield "instance_type", options.instance_type, "resourceConfig.instanceGroups", groups
    yield "instance_type", options.instance_type, "resourceConfig.instanceType", machines.get("instanceType")
    yield "volume_size", options.volume_size, "resourceConfig.volumeSizeInGB", volume
    yield "completion_time", seconds, "stoppingCondition.maxRuntimeInSeconds", runtime
    yield "image", image or None, "algorithmSpecification.trainingImage", algorithm.get("trainingImage")
    yield "image", image or None, "algorithmSpecification.algorithmName", algorithm.get("algorithmName")


def _check_names(parameter: str, ours: Mapping[str, str], options: Options, field: str) -> None:
    for name, value in _object(options.spec, field).items():
        if value is not None and name in ours and ours[name] != value:
            raise InvalidJob(
                f"{parameter} has {name!r}, and service_options has {field}.{name} with another value: leave one of "
                "them out.",
                field="service_options",
            )


def _object(spec: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = spec.get(name)
    return found if isinstance(found, Mapping) else {}


def _shown(value: Any) -> Any:
    return f"a list of {len(value)}" if isinstance(value, list) else value
