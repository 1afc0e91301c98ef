# SPDX-License-Identifier: Apache-2.0
"""``service_options`` of a job: the shortcuts of this provider, and fields of the spec in ACK's own spelling. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.services.sagemaker_ack import schema

SHORTCUTS = {
    "instance_type": "the instance type, such as `ml.g5.xlarge`; by default the connection's, else the smallest that "
    "fits",
    "volume_size": "GB of the storage volume of each instance; by default 30, and more for large inputs",
    "accept_max_runtime": "`true`: a job that `completion_time` has ended counts as successful, with the model so far",
    "delete_refused": "`true`: the object of a job that ACK has refused for good is deleted; by default it stays in "
    "the cluster, for people to look at",
    "unpack_model": "`false`: the model is fetched as the `model.tar.gz` that SageMaker made; by default the "
    "connection's",
}
"""The keys that this provider reads, and what they mean. All others are fields of the spec."""

OWN_FIELDS = {"trainingJobName": "job_name"}
"""Fields that only this provider can set, since it finds the job by them; and the parameter that decides them."""

FROM_PARAMETERS = {
    "trainingJobName": "`job_name`, as much as fits, and the job's id",
    "roleARN": "the connection's `role_arn`",
    "algorithmSpecification.trainingImage": "`image`, where it is in ECR; else the connection's `training_image`",
    "algorithmSpecification.trainingInputMode": "`File`",
    "algorithmSpecification.metricDefinitions[].name": "`metric_definitions`, those without named groups",
    "algorithmSpecification.metricDefinitions[].regex": "the same",
    "hyperParameters": "`env`, the names in lower case; and for a script what SageMaker's toolkit needs",
    "environment": "`env` and `env_vars`; and `JOB_ID`, `MODEL_DIR`, `CHECKPOINT_DIR`",
    "inputDataConfig[].channelName": "`data_input`: `training` for a script, else the folders",
    "inputDataConfig[].dataSource.s3DataSource.s3URI": "`data_input`, uploaded",
    "inputDataConfig[].dataSource.s3DataSource.s3DataType": "`S3Prefix`",
    "inputDataConfig[].dataSource.s3DataSource.s3DataDistributionType": "`FullyReplicated`",
    "outputDataConfig.s3OutputPath": "the connection's `bucket` and `prefix`, and the job's id",
    "resourceConfig.instanceType": "`job_resources`, or the option `instance_type`",
    "resourceConfig.instanceCount": "`nodes`",
    "resourceConfig.volumeSizeInGB": "the option `volume_size`; by default 30 and twice the size of the data",
    "stoppingCondition.maxRuntimeInSeconds": "`completion_time`; by default a day",
    "stoppingCondition.maxWaitTimeInSeconds": "for a spot job a day more than it may run",
    "checkpointConfig.s3URI": "a folder for the clear cycle of the task",
    "checkpointConfig.localPath": "`/opt/ml/checkpoints`, which is `CHECKPOINT_DIR`",
}
"""The fields of the spec that this provider sets, and from what; `service_options` overrides them."""


@dataclass(frozen=True, slots=True)
class Options:
    """The options of a job.

    :ivar instance_type: None where it is to be chosen.
    :ivar volume_size: GB; None for the default.
    :ivar spec: Fields of the spec, checked against its schema; None removes one.
    """

    instance_type: str | None = None
    volume_size: int | None = None
    accept_max_runtime: bool = False
    delete_refused: bool = False
    unpack_model: bool | None = None
    spec: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Options:
        """Parse ``service_options``.

        :raises InvalidJob: naming the option that is wrong.
        """
        own = {name: given[name] for name in SHORTCUTS if given.get(name) is not None}
        rest = {name: value for name, value in given.items() if name not in SHORTCUTS}
        for name in rest:
            if meant := _SHORTCUTS_WITHOUT_MARKS.get(_without_marks(name)):
                raise _invalid(f"{name!r}; {meant!r} may be meant")
        for name, parameter in OWN_FIELDS.items():
            if name in rest:
                raise _invalid(f"{name}, by which this provider finds the job again; set {parameter} instead")
        removed = {name: None for name, value in rest.items() if value is None}
        spec = schema.fitted(_without_none({name: value for name, value in rest.items() if value is not None}))
        return cls(
            instance_type=_instance_type(own.get("instance_type")),
            volume_size=_volume(own.get("volume_size")),
            accept_max_runtime=bool(_boolean("accept_max_runtime", own.get("accept_max_runtime"))),
            delete_refused=bool(_boolean("delete_refused", own.get("delete_refused"))),
            unpack_model=_boolean("unpack_model", own.get("unpack_model")),
            spec=_with_none(spec, rest) | removed,
        )


def merged(body: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Merge options into a spec: objects are merged, None removes a field, every other value is replaced."""
    result = dict(body)
    for name, value in more.items():
        known = result.get(name)
        if value is None:
            result.pop(name, None)
        elif isinstance(known, Mapping) and isinstance(value, Mapping):
            result[name] = merged(known, value)
        else:
            result[name] = value
    return result


def _without_marks(name: str) -> str:
    return re.sub(r"[^a-z]", "", name.lower())


_SHORTCUTS_WITHOUT_MARKS = {_without_marks(name): name for name in SHORTCUTS}
"""The shortcuts as they are compared with what was given, which may be in camel case."""


def _without_none(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _without_none(each) for name, each in value.items() if each is not None}
    return value


def _with_none(spec: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Put back, after the check, what an option removes inside of an object."""
    for name, value in given.items():
        if value is None:
            spec[name] = None
        elif isinstance(value, Mapping) and isinstance(spec.get(name), dict):
            spec[name] = _with_none(spec[name], value)
    return spec


def _instance_type(value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not value.startswith("ml."):
        raise _invalid(f"instance_type = {value!r}; it is a type such as 'ml.m5.xlarge'")
    return value.strip()


def _volume(value: Any) -> int | None:
    if isinstance(value, str) and value.strip().isdecimal():
        value = int(value)
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value > 0):
        return value
    raise _invalid(f"volume_size = {value!r}; it is a whole number of GB, such as 100")


def _boolean(name: str, value: Any) -> bool | None:
    given = {"true": True, "false": False}.get(value.strip().lower()) if isinstance(value, str) else value
    if given is None and value is None:
        return None
    if not isinstance(given, bool):
        raise _invalid(f"{name} = {value!r}; it is true or false")
    return given


def _invalid(what: str) -> InvalidJob:
    return InvalidJob(f"service_options has {what}.", field="service_options")
