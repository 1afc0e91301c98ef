# SPDX-License-Identifier: Apache-2.0
"""Options that contradict a parameter of the job are refused, and those that complete one are not."""

from __future__ import annotations

import re
from typing import Any

import pytest

from airflow_provider_jobapi.exceptions import InvalidJob
from airflow_provider_jobapi.services.sagemaker_ack import spec
from tests.services.sagemaker_ack.building import BARE, IMAGE, build, job


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"completion_time": "1h", "service_options": {"stoppingCondition": {"maxRuntimeInSeconds": 60}}},
         "completion_time is 3600, and service_options has stoppingCondition.maxRuntimeInSeconds = 60: leave one of"),
        ({"nodes": 2, "service_options": {"resourceConfig": {"instanceGroups": [{"instanceType": "ml.m5.large"}]}}},
         "nodes is 2, and service_options has resourceConfig.instanceGroups = a list of 1"),
        ({"service_options": {"instance_type": "ml.m5.large", "resourceConfig": {"instanceType": "ml.m5.xlarge"}}},
         "instance_type is ml.m5.large, and service_options has resourceConfig.instanceType = ml.m5.xlarge"),
        ({"service_options": {"instance_type": "ml.m5.large", "resourceConfig": {"instanceGroups": [{}]}}},
         "instance_type is ml.m5.large, and service_options has resourceConfig.instanceGroups"),
        ({"service_options": {"volume_size": 9, "resourceConfig": {"volumeSizeInGB": 10}}},
         "volume_size is 9, and service_options has resourceConfig.volumeSizeInGB = 10"),
        ({"image": IMAGE, "service_options": {"algorithmSpecification": {"trainingImage": "other"}}},
         f"image is {IMAGE}, and service_options has algorithmSpecification.trainingImage = other"),
        ({"image": IMAGE, "service_options": {"algorithmSpecification": {"algorithmName": "mine"}}},
         f"image is {IMAGE}, and service_options has algorithmSpecification.algorithmName = mine"),
        ({"env": {"EPOCHS": 5}, "service_options": {"hyperParameters": {"epochs": 3}}},
         "env has 'epochs', and service_options has hyperParameters.epochs with another value"),
        ({"env_vars": {"MODE": "a"}, "service_options": {"environment": {"MODE": "b"}}},
         "env and env_vars has 'MODE', and service_options has environment.MODE with another value"),
        ({"service_options": {"environment": {"MODEL_DIR": "/tmp"}}},
         "service_options has environment.MODEL_DIR, which this provider sets itself"),
        ({"service_options": {"environment": {"JOB_ID": None}}},
         "service_options has environment.JOB_ID, which this provider sets itself"),
        ({"service_options": {"environment": None}}, "service_options removes environment, in which"),
        ({"service_options": {"hyperParameters": {"sagemaker_program": "mine.py"}}},
         "service_options has hyperParameters.sagemaker_program, which this provider sets itself"),
        ({"service_options": {"hyperParameters": {"sagemaker_submit_directory": None}}},
         "service_options has hyperParameters.sagemaker_submit_directory, which this provider sets itself"),
        ({"service_options": {"hyperParameters": None}}, "service_options removes hyperParameters"),
        ({"data": {"a.csv": "1"}, "service_options": {"inputDataConfig": []}},
         "service_options removes inputDataConfig, by which the files of data_input reach the job"),
        ({"data": {"a.csv": "1"}, "service_options": {"inputDataConfig": None}},
         "service_options removes inputDataConfig"),
        ({"resources": {"gpus": 1}, "service_options": {"instance_type": "ml.m5.large"}},
         "job_resources asks for 1 CPUs, 1 GPUs and 2,048 MB, and service_options names ml.m5.large (2 CPUs, 8 GiB)"),
        ({"resources": {"cpus": 8}, "service_options": {"resourceConfig": {"instanceType": "ml.m5.large"}}},
         "and service_options names ml.m5.large"),
    ],
)  # fmt: skip
def test_options_that_contradict_a_parameter(more: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidJob, match=re.escape(words)):
        build(job(**more))


def test_options_that_say_the_same_as_a_parameter() -> None:
    options = {
        "stoppingCondition": {"maxRuntimeInSeconds": "3600"}, "hyperParameters": {"epochs": 5},
        "algorithmSpecification": {"trainingImage": IMAGE}, "resourceConfig": {"instanceCount": 2},
    }  # fmt: skip
    made = build(job(completion_time="1h", image=IMAGE, env={"EPOCHS": 5}, nodes=2, service_options=options))["spec"]
    assert made["stoppingCondition"] == {"maxRuntimeInSeconds": 3_600}
    assert build(job(resources={"gpus": 1}), instance_type="ml.m5.large")["spec"]["resourceConfig"][
        "instanceType"
    ] == "ml.g4dn.xlarge"  # fmt: skip


def test_what_is_not_this_providers_own_may_be_removed() -> None:
    without = job(script=None, image=IMAGE, service_options={"hyperParameters": None})
    assert "hyperParameters" not in build(without, BARE)["spec"]
    louder = job(service_options={"hyperParameters": {"sagemaker_container_log_level": 10}})
    assert build(louder)["spec"]["hyperParameters"]["sagemaker_container_log_level"] == "10"


@pytest.mark.parametrize(
    ("given", "kept", "place"),
    [
        ({}, "s3://b/k/", "/opt/ml/checkpoints"),
        ({"localPath": "/opt/ml/own"}, "s3://b/k/", "/opt/ml/own"),
        ({"s3URI": "s3://b/mine"}, "", "/opt/ml/checkpoints"),
        ({"localPath": "/opt/ml/own"}, "", None),
        (None, "s3://b/k/", None),
    ],
)
def test_the_script_is_told_where_its_checkpoints_are(given: Any, kept: str, place: str | None) -> None:
    places = spec.Places(output="s3://b/o", code="s3://b/c", checkpoints=kept)
    made = build(job(service_options={"checkpointConfig": given}), places)["spec"]
    assert made["environment"].get("CHECKPOINT_DIR") == place
