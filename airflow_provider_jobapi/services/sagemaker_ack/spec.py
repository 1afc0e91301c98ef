# SPDX-License-Identifier: Apache-2.0
"""The whole ``TrainingJob`` object of a job: its metadata, and the spec made of job, connection and options. Pure."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.services.files.sources import Source
from airflow_provider_jobapi.services.sagemaker_ack import (
    contradictions,
    instance_types,
    limits,
    names,
    schema,
    script_mode,
)
from airflow_provider_jobapi.services.sagemaker_ack.connection import ECR, SageMakerConnection
from airflow_provider_jobapi.services.sagemaker_ack.options import Options, merged
from airflow_provider_jobapi.training.job import TrainingJob, data_version
from airflow_provider_jobapi.training.job_file import InputFile
from airflow_provider_jobapi.training.units import read_span

MODEL_DIR, CHECKPOINT_DIR = "/opt/ml/model", "/opt/ml/checkpoints"
"""The folders of a container that SageMaker brings to S3: the model at the end, checkpoints all the time."""

DEFAULT_RUNTIME = timedelta(days=1)
"""The ``maxRuntimeInSeconds``, which a job must have, where ``completion_time`` is not given; SageMaker's own
default."""
SPOT_WAIT = timedelta(days=1)
"""How much longer than it runs a spot job may wait, where the options do not say."""

VOLUME_GB = 30
"""GB of the storage volume without any data; the default of SageMaker's Python SDK."""
_ROOM_FOR_DATA = 2
_GB = 10**9

_ECR = re.compile(ECR)
_NOT_IN_DIGEST = {"source", "data", "cycle"}


@dataclass(frozen=True, slots=True)
class Places:
    """Where the files of a job are in S3. Folders end in ``/``.

    :ivar code: The archive of the script; empty without one.
    :ivar channels: The folder of each channel of data.
    :ivar output: What becomes ``s3OutputPath``.
    :ivar checkpoints: Empty where the job keeps none.
    """

    output: str
    code: str = ""
    channels: Mapping[str, str] = field(default_factory=dict)
    checkpoints: str = ""


@dataclass(frozen=True, slots=True)
class Identity:
    """What identifies a job.

    :ivar digest: The SHA-256 of its content, see :func:`job_digest`.
    """

    job_id: str
    namespace: str
    digest: str


def job_digest(job: TrainingJob, sources: Mapping[str, Source]) -> str:
    """Return the SHA-256 of a job's content: its fields, and the hashes of its files.

    Fields with their default do not count, so that a later version, which has more fields, gives the same digest.
    """
    described = job.model_dump(mode="json", exclude=_NOT_IN_DIGEST, exclude_defaults=True)
    content = {"job": described, "files": {path: each.sha256 for path, each in sources.items()}}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def channels(job: TrainingJob, sources: Mapping[str, Source]) -> dict[str, str]:
    """Return the channel of each data file, by its path.

    A script has one channel, and finds its files by their paths. An image or an algorithm has one for each folder of
    ``data_input``, such as ``train/part.csv``; files outside of folders are in ``training``.
    """
    data = sorted(sources.keys() - (script_mode.in_archive(job) if job.program else frozenset()))
    if job.program:
        return dict.fromkeys(data, script_mode.CHANNEL)
    return {path: path.partition("/")[0] if "/" in path else script_mode.CHANNEL for path in data}


def build(
    job: TrainingJob,
    identity: Identity,
    connection: SageMakerConnection,
    options: Options,
    places: Places,
    data_size: int = 0,
    sources: Mapping[str, Source] | None = None,
) -> dict[str, Any]:
    """Return the object, checked against the schema and the limits of the API.

    :param data_size: Bytes of the job's data.
    :param sources: The job's files, for the version of its data.
    :raises InvalidJob: naming the parameter or the path that is wrong.
    """
    job_name = names.training_job_name(job.name, identity.job_id)
    contradictions.check(job, options, job.image if _ECR.fullmatch(job.image) else "")
    spec = merged(
        {
            "trainingJobName": job_name,
            "roleARN": connection.role_arn,
            "algorithmSpecification": _algorithm(job, connection, options),
            "hyperParameters": _hyperparameters(job, job_name, connection, places),
            "environment": _environment(job, identity, options, places),
            "inputDataConfig": [_channel(channel, url) for channel, url in places.channels.items()],
            "outputDataConfig": {"s3OutputPath": places.output},
            "resourceConfig": _machines(job, connection, options, data_size),
            "stoppingCondition": _time(job, options),
            "checkpointConfig": {"s3URI": places.checkpoints, "localPath": CHECKPOINT_DIR}
            if places.checkpoints
            else {},
        },
        _with_channels(options.spec, places),
    )
    spec = schema.fitted({name: value for name, value in spec.items() if value not in ({}, [], None)})
    _check_required(spec)
    limits.check(spec)
    return {
        "apiVersion": f"{names.GROUP}/{names.VERSION}",
        "kind": names.KIND,
        "metadata": _metadata(identity, connection, options, data_version(_inputs(job, sources or {}))),
        "spec": spec,
    }


def instances(spec: Mapping[str, Any]) -> int:
    """Return how many instances a job has, in all its groups."""
    machines = spec.get("resourceConfig", {})
    groups = machines.get("instanceGroups") or [machines]
    return max(1, sum(int(group.get("instanceCount") or 0) for group in groups))


def image_of(job: TrainingJob, connection: SageMakerConnection) -> str:
    """Return the image of a job: its own, or for a script the connection's where its own is not in ECR.

    SageMaker takes images from ECR only. The name of an image as other services take it, such as
    ``tensorflow/tensorflow:2.21.0``, so selects the connection's image, and the same DAG runs on all of them.

    :raises InvalidJob: when there is none.
    """
    if _ECR.fullmatch(job.image):
        return job.image
    if job.program and connection.training_image:
        return connection.training_image
    raise InvalidJob(
        f"image is {job.image!r}, and SageMaker takes images from ECR only: name one such as "
        f"763104351884.dkr.ecr.{connection.region}.amazonaws.com/tensorflow-training:2.19.0-cpu-py312, or set "
        "training_image in the connection for jobs with a script. An algorithm is named in service_options: "
        "algorithmSpecification.algorithmName.",
        field="image",
    )


def _algorithm(job: TrainingJob, connection: SageMakerConnection, options: Options) -> dict[str, Any]:
    given = options.spec.get("algorithmSpecification") or {}
    chosen = {} if {"trainingImage", "algorithmName"} & given.keys() else {"trainingImage": image_of(job, connection)}
    metrics = [dict(each) for each in sendable_metrics(job)]
    return {**chosen, "trainingInputMode": "File", **({"metricDefinitions": metrics} if metrics else {})}


def sendable_metrics(job: TrainingJob) -> tuple[Mapping[str, str], ...]:
    """Return the metric definitions that SageMaker can use as well: one unnamed group, and within its limits."""
    fit = (
        each
        for each in job.metric_definitions
        if len(each["name"]) <= limits.LONGEST_METRIC_NAME
        and len(each["regex"]) <= limits.LONGEST_METRIC_REGEX
        and "(?P<" not in each["regex"]
    )
    return tuple(fit)[: limits.MOST_METRICS]


def _hyperparameters(job: TrainingJob, name: str, connection: SageMakerConnection, places: Places) -> dict[str, str]:
    given = {each.name.lower(): each.value for each in job.env}
    if not places.code:
        if job.arguments:
            raise InvalidJob(
                "arguments are those of a script, and this job has none: ACK's TrainingJob has no arguments of a "
                "container. Give them in env, as hyperparameters.",
                field="arguments",
            )
        return given
    own = script_mode.hyperparameters(name, places.code, connection.region)
    if taken := own.keys() & given.keys():
        raise InvalidJob(f"env has {min(taken)!r}, which this provider sets itself: use another name.", field="env")
    return given | own


def _environment(job: TrainingJob, identity: Identity, options: Options, places: Places) -> dict[str, str]:
    own = {"JOB_ID": identity.job_id, "MODEL_DIR": MODEL_DIR}
    given = options.spec.get("checkpointConfig", {})  # None removes it
    if given is not None and (places.checkpoints or given.get("s3URI")):
        own["CHECKPOINT_DIR"] = given.get("localPath") or CHECKPOINT_DIR
    return {each.name: each.value for each in job.variables()} | own


def _channel(name: str, url: str) -> dict[str, Any]:
    source = {"s3DataType": "S3Prefix", "s3URI": url, "s3DataDistributionType": "FullyReplicated"}
    return {"channelName": name, "dataSource": {"s3DataSource": source}}


def _with_channels(given: Mapping[str, Any], places: Places) -> dict[str, Any]:
    """Merge the channels of the options with those of the data: an entry of the same name is completed."""
    asked = given.get("inputDataConfig")
    if not asked:
        return dict(given)
    made = {name: _channel(name, url) for name, url in places.channels.items()}
    more: list[dict[str, Any]] = []
    for each in asked:
        name = each.get("channelName")
        if name in made:
            made[name] = merged(made[name], each)
        else:
            more.append(each)
    return {**given, "inputDataConfig": [*made.values(), *more]}


def _machines(job: TrainingJob, connection: SageMakerConnection, options: Options, data_size: int) -> dict[str, Any]:
    given = options.spec.get("resourceConfig") or {}
    volume = options.volume_size or VOLUME_GB + -(-_ROOM_FOR_DATA * data_size // _GB)
    if given.get("instanceGroups"):
        return {"volumeSizeInGB": volume}
    named = options.instance_type or given.get("instanceType")
    chosen = instance_types.named(named, job.resources) if named else ""
    chosen = chosen or instance_types.default(connection.instance_type or "", job.resources)
    return {"instanceType": chosen, "instanceCount": given.get("instanceCount", job.nodes), "volumeSizeInGB": volume}


def _time(job: TrainingJob, options: Options) -> dict[str, int]:
    span = read_span(job.completion_time) or DEFAULT_RUNTIME
    given = options.spec.get("stoppingCondition") or {}
    runtime = given.get("maxRuntimeInSeconds") or max(1, round(span.total_seconds()))
    made = {"maxRuntimeInSeconds": runtime}
    if options.spec.get("enableManagedSpotTraining"):
        made["maxWaitTimeInSeconds"] = min(
            runtime + round(SPOT_WAIT.total_seconds()), max(runtime, limits.LONGEST_RUNTIME)
        )
    return made


def _inputs(job: TrainingJob, sources: Mapping[str, Source]) -> Iterable[InputFile]:
    return job.marked(each.as_input() for each in sources.values())


def _metadata(
    identity: Identity, connection: SageMakerConnection, options: Options, version: str | None
) -> dict[str, Any]:
    annotations = {names.REGION_ANNOTATION: connection.region, names.DIGEST_ANNOTATION: identity.digest}
    if version:
        annotations[names.DATA_ANNOTATION] = version
    if options.accept_max_runtime:
        annotations[names.ACCEPT_ANNOTATION] = "true"
    if options.delete_refused:
        annotations[names.DELETE_REFUSED_ANNOTATION] = "true"
    return {
        "name": names.object_name(identity.job_id),
        "namespace": identity.namespace,
        "labels": names.MANAGED_BY | {names.JOB_ID_LABEL: identity.job_id},
        "annotations": annotations,
    }


def _check_required(spec: Mapping[str, Any]) -> None:
    absent = schema.missing(spec)
    if "roleARN" in absent:
        raise InvalidJob(
            "The job has no role: set role_arn in the connection, or roleARN in service_options.",
            field="service_options",
        )
    if absent:
        raise InvalidJob(f"service_options removes {absent[0]}, which every job needs.", field="service_options")
