# SPDX-License-Identifier: Apache-2.0
"""The limits of SageMaker's API that a schema does not have, checked before a job is sent. Pure.

ACK retries what SageMaker refuses with a ``ValidationException`` for ever, so a job that breaks a limit would wait
until the accept timeout. The numbers are those of the API reference (CreateTrainingJob) and of botocore's model of it,
where the CRD's descriptions say nothing else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.services.sagemaker_ack import bounds, schema
from airflow_provider_jobapi.services.sagemaker_ack.connection import ROLE_ARN
from airflow_provider_jobapi.training.validation import refuse_duplicates

MOST_HYPERPARAMETERS, LONGEST_HYPERPARAMETER = 100, 256
MOST_VARIABLES, LONGEST_VARIABLE = 100, 512
MOST_CHANNELS, MOST_TAGS, MOST_METRICS = 20, 50, 40
LONGEST_METRIC_NAME, LONGEST_METRIC_REGEX = 255, 500
LONGEST_IMAGE = 255
LONGEST_TAG_KEY, LONGEST_TAG_VALUE = 128, 256
LONGEST_RUNTIME = 28 * 86_400
"""Seconds of ``maxRuntimeInSeconds``: 28 days ("SageMaker endpoints and quotas")."""
LONGEST_KEEP_ALIVE = 21_600
MOST_RETRIES = 30
LARGEST_OBJECT = 1024**2
"""Bytes of a spec. etcd stores objects of at most 1.5 MiB, and ACK writes the status into the same one."""

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_S3 = re.compile(r"s3://[^/\s]+(/\S*)?")
_CHANNEL = re.compile(r"[A-Za-z0-9._-]{1,64}")
_INSTEAD = "give it as a file of data_input, or in arguments"

Spec = Mapping[str, Any]


def check(spec: Spec) -> None:
    """Check a whole spec.

    :raises InvalidJob: naming the field, its value where it is no secret, and the limit.
    """
    for part in (_hyperparameters, _environment, _algorithm, _channels, _time, _machines, _places, _tags, _rest, _size):
        part(spec)
    bounds.check(spec)
    if not schema.unknown(spec):  # else the field that is missing may be one in another spelling, which is told later
        _check_complete(spec)


def _hyperparameters(spec: Spec) -> None:
    given = spec.get("hyperParameters", {})
    _most("hyperParameters", len(given), MOST_HYPERPARAMETERS, "env has too many names, or service_options")
    for name, value in given.items():
        for what, text in (("name", name), ("value", value)):
            if len(text) > LONGEST_HYPERPARAMETER:
                raise InvalidJob(
                    f"The hyperparameter {name[:80]!r} has a {what} of {len(text):,} characters, and SageMaker allows "
                    f"{LONGEST_HYPERPARAMETER}: {_INSTEAD}.",
                    field="env",
                )
            if re.search(r"[\r\n]", text):
                raise InvalidJob(
                    f"The hyperparameter {name[:80]!r} has a {what} of several lines, and SageMaker allows one: "
                    f"{_INSTEAD}.",
                    field="env",
                )


def _environment(spec: Spec) -> None:
    given = spec.get("environment", {})
    _most("environment", len(given), MOST_VARIABLES, "env and env_vars have too many names")
    for name, value in given.items():
        if not _VARIABLE.fullmatch(name) or len(name) > LONGEST_VARIABLE:
            raise InvalidJob(
                f"The environment variable {name[:80]!r} has a name that SageMaker does not allow: it is letters, "
                "digits and '_', and begins with no digit.",
                field="env_vars",
            )
        if len(value) > LONGEST_VARIABLE:
            raise InvalidJob(
                f"The environment variable {name[:80]!r} has {len(value):,} characters, and SageMaker allows "
                f"{LONGEST_VARIABLE}: {_INSTEAD}.",
                field="env_vars",
            )


def _algorithm(spec: Spec) -> None:
    algorithm = spec.get("algorithmSpecification", {})
    image, name = algorithm.get("trainingImage"), algorithm.get("algorithmName")
    if bool(image) == bool(name):
        raise InvalidJob(
            "A job of SageMaker has either an image or an algorithm: set image, or "
            'service_options={"algorithmSpecification": {"algorithmName": …}}.',
            field="image",
        )
    if image and len(image) > LONGEST_IMAGE:
        raise InvalidJob(f"image has {len(image)} characters, and SageMaker allows {LONGEST_IMAGE}.", field="image")
    metrics = algorithm.get("metricDefinitions", [])
    _most("metricDefinitions", len(metrics), MOST_METRICS, "leave some out")
    for each in metrics:
        if len(each.get("name", "")) > LONGEST_METRIC_NAME or len(each.get("regex", "")) > LONGEST_METRIC_REGEX:
            raise InvalidJob(
                f"The metric {each.get('name', '')[:80]!r} has a name of more than {LONGEST_METRIC_NAME} characters, "
                f"or a regex of more than {LONGEST_METRIC_REGEX}, which SageMaker does not allow.",
                field="metric_definitions",
            )


def _channels(spec: Spec) -> None:
    channels = spec.get("inputDataConfig", [])
    _most("inputDataConfig", len(channels), MOST_CHANNELS, "put several folders into one channel")
    names = [str(each.get("channelName", "")) for each in channels]
    for name in names:
        if name and not _CHANNEL.fullmatch(name):
            raise InvalidJob(
                f"The channel {name[:80]!r} has a name that SageMaker does not allow: it is 1 to 64 letters, digits, "
                "'.', '_' and '-'.",
                field="data_input",
            )
    refuse_duplicates("inputDataConfig", filter(None, names))


def _time(spec: Spec) -> None:
    limits = spec.get("stoppingCondition", {})
    runtime, wait = limits.get("maxRuntimeInSeconds"), limits.get("maxWaitTimeInSeconds")
    if runtime is not None and not 1 <= runtime <= LONGEST_RUNTIME:
        raise InvalidJob(
            f"completion_time is {runtime:,} seconds, and SageMaker allows at most {LONGEST_RUNTIME:,} (28 days).",
            field="completion_time",
        )
    if spec.get("enableManagedSpotTraining") and (wait is None or (runtime is not None and wait < runtime)):
        raise InvalidJob(
            "A spot job needs service_options stoppingCondition.maxWaitTimeInSeconds, of at least the completion_time.",
            field="service_options",
        )
    if wait is not None and not spec.get("enableManagedSpotTraining"):
        raise InvalidJob(
            "service_options has stoppingCondition.maxWaitTimeInSeconds, which only spot jobs have: leave it out, or "
            "set enableManagedSpotTraining.",
            field="service_options",
        )


def _machines(spec: Spec) -> None:
    machines = spec.get("resourceConfig", {})
    groups, one = machines.get("instanceGroups"), machines.get("instanceType")
    if bool(groups) == bool(one):
        raise InvalidJob(
            "resourceConfig has either an instanceType or instanceGroups: leave one of them out.",
            field="service_options",
        )
    counts = [each.get("instanceCount") for each in groups or [machines]]
    if any(count is not None and count < 1 for count in counts):
        raise InvalidJob(
            "service_options has a resourceConfig with an instanceCount below 1: it is 1 or more.",
            field="service_options",
        )
    alive = machines.get("keepAlivePeriodInSeconds") or 0
    if not 0 <= alive <= LONGEST_KEEP_ALIVE or (alive and spec.get("enableManagedSpotTraining")):
        raise InvalidJob(
            f"resourceConfig.keepAlivePeriodInSeconds is {alive:,}: it is at most {LONGEST_KEEP_ALIVE:,}, and spot "
            "jobs have no warm pool.",
            field="service_options",
        )


def _places(spec: Spec) -> None:
    role = str(spec.get("roleARN", ""))
    if not re.fullmatch(ROLE_ARN, role):
        raise InvalidJob(
            f"service_options has roleARN = {role[:80]!r}: it is an ARN such as "
            "arn:aws:iam::123456789012:role/training.",
            field="service_options",
        )
    for part, name in (("outputDataConfig", "s3OutputPath"), ("checkpointConfig", "s3URI")):
        url = spec.get(part, {}).get(name)
        if url is not None and not _S3.fullmatch(url):
            raise InvalidJob(
                f"service_options has {part}.{name} = {url[:80]!r}: it is a place in S3, such as s3://my-trainings/jobs.",
                field="service_options",
            )


def _check_complete(spec: Spec) -> None:
    """Refuse objects without a field that SageMaker wants in them, which the schema does not say."""
    wanted = {
        "inputDataConfig": ("channelName", "dataSource"),
        "tags": ("key",),
        "vpcConfig": ("subnets", "securityGroupIDs"),
        "resourceConfig.instanceGroups": ("instanceGroupName", "instanceType", "instanceCount"),
        "algorithmSpecification.metricDefinitions": ("name", "regex"),
    }
    for place, names in wanted.items():
        value: Any = spec
        for part in place.split("."):
            value = value.get(part) or {}
        what = f"an entry of {place}" if isinstance(value, list) else place
        for each in value if isinstance(value, list) else [value] if value else []:
            absent = [name for name in names if not each.get(name)]
            if absent == ["dataSource"]:
                raise InvalidJob(
                    f"The channel {each['channelName']!r} has no data: set its dataSource in service_options, or give "
                    "files of data_input, of which a job with a script makes the channel 'training', and one without "
                    "a script a channel for each folder.",
                    field="service_options",
                )
            if absent:
                raise InvalidJob(f"service_options: {what} has no {absent[0]}: add it.", field="service_options")


def _size(spec: Spec) -> None:
    sizes = {name: len(json.dumps(value).encode()) for name, value in spec.items()}
    if (size := sum(sizes.values())) > LARGEST_OBJECT:
        most = max(sizes, key=lambda name: sizes[name])
        raise InvalidJob(
            f"The job's object has {size:,} bytes, {sizes[most]:,} of them in {most}, and {LARGEST_OBJECT:,} are "
            "allowed, since Kubernetes stores no larger ones: put long values into a file of data_input.",
            field="service_options",
        )


def _tags(spec: Spec) -> None:
    tags = spec.get("tags", [])
    _most("tags", len(tags), MOST_TAGS, "leave some out")
    for i, each in enumerate(tags):
        key, value = each.get("key", ""), each.get("value", "")
        if len(key) > LONGEST_TAG_KEY or len(value) > LONGEST_TAG_VALUE or key.lower().startswith("aws:"):
            raise InvalidJob(
                f"tags[{i}] is a tag that SageMaker does not allow: a key has at most {LONGEST_TAG_KEY} characters and "
                f"begins with no 'aws:', a value has at most {LONGEST_TAG_VALUE}.",
                field="service_options",
            )
    refuse_duplicates("tags", [each["key"] for each in tags if "key" in each])


def _rest(spec: Spec) -> None:
    attempts = spec.get("retryStrategy", {}).get("maximumRetryAttempts")
    if attempts is not None and not 1 <= attempts <= MOST_RETRIES:
        raise InvalidJob(
            f"retryStrategy.maximumRetryAttempts is {attempts}: it is 1 to {MOST_RETRIES}.", field="service_options"
        )


def _most(name: str, count: int, most: int, advice: str) -> None:
    if count > most:
        raise InvalidJob(f"{name} has {count:,} entries, and SageMaker allows {most}: {advice}.", field=name)
