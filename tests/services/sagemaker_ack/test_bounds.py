# SPDX-License-Identifier: Apache-2.0
"""The bounds of every field, as botocore's model of CreateTrainingJob has them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import botocore.session
import pytest

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.services.sagemaker_ack import bounds, schema
from tests.services.sagemaker_ack.building import build, job


@pytest.fixture(scope="module")
def request_shape() -> Any:
    return (
        botocore.session.get_session().get_service_model("sagemaker").operation_model("CreateTrainingJob").input_shape
    )


def shapes(whole: Any) -> Iterator[tuple[str, Any]]:
    """The fields of the schema, and what they are in botocore's model, which spells them in another way."""
    for path in schema.fields():
        shape = whole
        for part in path.split("."):
            members = {name.lower(): each for name, each in shape.members.items()}
            shape = members[part.removesuffix("[]").lower()]
            shape = shape.member if part.endswith("[]") else shape
        yield path, shape
        if shape.type_name == "map":
            yield from ((f"{path}{{name}}", shape.key), (f"{path}{{value}}", shape.value))
        elif shape.type_name == "list":
            yield f"{path}[]", shape.member


def test_the_table_is_that_of_botocore(request_shape: Any) -> None:
    expected = {
        path: bounds.Bound(shape.metadata.get("min", 0), shape.metadata.get("max"), shape.metadata.get("pattern", ""))
        for path, shape in shapes(request_shape)
        if shape.metadata.keys() & {"min", "max", "pattern"}
    }
    every_text = bounds.Bound(0, 512, r"[\S\s]*")
    assert expected.pop("environment{value}") == every_text
    assert {name: each for name, each in bounds.table().items() if name != "environment{value}"} == expected


GROUP = {"instanceType": "ml.m5.large", "instanceCount": 1}
PLACE = {"s3DataType": "S3Prefix", "s3URI": "gs://other/place"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"resourceConfig": {"instanceGroups": [{**GROUP, "instanceGroupName": f"g{n}"} for n in range(6)]}},
         "spec.resourceConfig.instanceGroups has 6 entries, and SageMaker allows 0 to 5"),
        ({"resourceConfig": {"volumeSizeInGB": -1}}, "volumeSizeInGB is -1, and SageMaker allows 0 or more"),
        ({"vpcConfig": {"subnets": ["s"] * 17, "securityGroupIDs": ["sg-1"]}}, "spec.vpcConfig.subnets has 17 entries"),
        ({"vpcConfig": {"subnets": ["subnet 1"], "securityGroupIDs": ["sg-1"]}}, "vpcConfig.subnets[0] has a form"),
        ({"inputDataConfig": [{"channelName": "x", "dataSource": {"s3DataSource": PLACE}}]},
         "spec.inputDataConfig[1].dataSource.s3DataSource.s3URI has a form that SageMaker does not allow: it is"),
        ({"tensorBoardOutputConfig": {"s3OutputPath": "/tb"}}, "spec.tensorBoardOutputConfig.s3OutputPath has a form"),
        ({"debugHookConfig": {"hookParameters": {"a": "x" * 257}}}, "hookParameters.a has 257 characters"),
        ({"enableManagedSpotTraining": True, "stoppingCondition": {"maxWaitTimeInSeconds": 86_399}},
         "A spot job needs service_options stoppingCondition.maxWaitTimeInSeconds, of at least the completion_time"),
        ({"experimentConfig": {"experimentName": "my experiment"}}, "spec.experimentConfig.experimentName has a form"),
        ({"tags": [{"key": "who?", "value": "me"}]}, "spec.tags[0].key has a form that SageMaker does not allow"),
        ({"stoppingCondition": {"maxPendingTimeInSeconds": 1}}, "maxPendingTimeInSeconds is 1, and SageMaker allows"),
        ({"algorithmSpecification": {"metricDefinitions": [{"name": "a", "regex": "a\nb"}]}}, "it is one line"),
        ({"hyperParameters": {"a": "x\ny"}}, "The hyperparameter 'a' has a value of several lines"),
    ],
)  # fmt: skip
def test_what_sagemaker_would_refuse_later(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidJob, match=re.escape(words)):
        build(job(service_options=options))


def test_what_sagemaker_takes() -> None:
    options = {
        "tags": [{"key": "Köstenstelle 7", "value": "a+b=c@d"}], "environment": {"TEXT": "two\nlines"},
        "vpcConfig": {"subnets": ["subnet-0a"] * 16, "securityGroupIDs": ["sg-0b"] * 5},
        "stoppingCondition": {"maxPendingTimeInSeconds": 7_200}, "resourceConfig": {"volumeSizeInGB": 0},
    }  # fmt: skip
    made = build(job(service_options=options))["spec"]
    assert {name: made[name] for name in ("tags", "vpcConfig")} == {
        name: options[name] for name in ("tags", "vpcConfig")
    }
