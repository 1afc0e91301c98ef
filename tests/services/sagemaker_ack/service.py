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
from tests.harness.ack.cloud import Cloud, connection
from tests.harness.kubernetes.cluster import Kubernetes

Make = Callable[..., SageMakerAckService]


def made_of(conn_id: str, given: dict[str, Any]) -> Connection:
    return Connection(conn_id=conn_id, **{**given, "extra": json.dumps(given["extra"])})


def maker(kubernetes: Kubernetes, cloud: Cloud, namespace: str, token: str) -> Make:
    """Return what makes the service of a connection with some more fields.

    Its ``aws`` is whether there are credentials of AWS, or the address of a way to it.
    """

    def made(aws: bool | str = True, **extra: Any) -> SageMakerAckService:
        others = {"kubernetes": made_of("k8s", kubernetes.connection(token, namespace))}
        if aws:
            given = cloud.connection
            way = {"endpoint_url": aws} if isinstance(aws, str) else {}
            others["aws"] = made_of("aws", given | {"extra": given["extra"] | way})
        return SageMakerAckHook.build(made_of("s", connection(cloud, **extra)), 20, others)

    return made


def job(**more: Any) -> TrainingJob:
    return TrainingJob.of(**{"name": "digits", "script": "print('hello')", "image": "tensorflow", **more})
