# SPDX-License-Identifier: Apache-2.0
"""Make the TrainingJob object of a job, without any service."""

from __future__ import annotations

from typing import Any

from airflow_provider_jobapi.services.sagemaker_ack import spec
from airflow_provider_jobapi.services.sagemaker_ack.connection import SageMakerConnection
from airflow_provider_jobapi.services.sagemaker_ack.options import Options
from airflow_provider_jobapi.training.job import TrainingJob

JOB_ID = "0f3f7c1e-52a5-5a8e-9d0f-6a1f2f6f0c1a"
ROLE = "arn:aws:iam::123456789012:role/training"
IMAGE = "763104351884.dkr.ecr.eu-west-1.amazonaws.com/tensorflow-training:2.19.0-cpu-py312"
PLACES = spec.Places(output="s3://b/o", code="s3://b/c/sourcedir.tar.gz", channels={"training": "s3://b/d/"})
BARE = spec.Places(output="s3://b/o")


def connection(**more: Any) -> SageMakerConnection:
    extra = {"region": "eu-west-1", "bucket": "b-1", "role_arn": ROLE, "training_image": IMAGE, **more}
    return SageMakerConnection.of(extra=extra)


def job(**more: Any) -> TrainingJob:
    return TrainingJob.of(**{"name": "train", "script": "print(1)", "image": "tensorflow/tensorflow:latest", **more})


def build(given: TrainingJob | None = None, places: spec.Places = PLACES, size: int = 0, **known: Any) -> Any:
    given = given or job()
    identity = spec.Identity(JOB_ID, "train", "d" * 64)
    return spec.build(given, identity, connection(**known), Options.of(given.service_options), places, size)
