# SPDX-License-Identifier: Apache-2.0
"""Make the service as Airflow does, and jobs for it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from airflow.sdk import Connection

from airflow_provider_jobapi.hooks.sagemaker_ack import SageMakerAckHook
from airflow_provider_jobapi.services.sagemaker_ack.service import SageMakerAckService
from airflow_provider_jobapi.training.job import TrainingJob
from tests.harness.ack.cloud import REGION, Cloud
from tests.harness.kubernetes.cluster import Kubernetes

IMAGE = f"763104351884.dkr.ecr.{REGION}.amazonaws.com/tensorflow-training:2.19.0-cpu-py312"
ROLE = "arn:aws:iam::123456789012:role/training"

Make = Callable[..., SageMakerAckService]


def connection(conn_id: str, given: dict[str, Any]) -> Connection:
    return Connection(conn_id=conn_id, **{**given, "extra": json.dumps(given["extra"])})


def maker(kubernetes: Kubernetes, cloud: Cloud, namespace: str, token: str) -> Make:
    """Return what makes the service of a connection with some more fields."""

    def made(aws: bool = True, **extra: Any) -> SageMakerAckService:
        own = {"region": REGION, "bucket": cloud.bucket, "role_arn": ROLE, "training_image": IMAGE, **extra}
        others = {"kubernetes": connection("k8s", kubernetes.connection(token, namespace))}
        if aws:
            others["aws"] = connection("aws", cloud.connection)
        return SageMakerAckHook.build(
            Connection(conn_id="s", conn_type="sagemaker_ack", extra=json.dumps(own)), 20, others
        )

    return made


def job(**more: Any) -> TrainingJob:
    return TrainingJob.of(**{"name": "digits", "script": "print('hello')", "image": "tensorflow", **more})
