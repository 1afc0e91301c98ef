# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the real Kubernetes API and of the double of ACK and SageMaker."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import Any

import pytest

from tests.harness.ack import RBAC, drivers
from tests.harness.ack.cloud import Cloud
from tests.harness.ack.double import Ack
from tests.harness.ack.fixtures import ack, cloud
from tests.harness.kubernetes.cluster import Kubernetes
from tests.harness.kubernetes.fixtures import kubernetes, namespace
from tests.services.sagemaker_ack.follow import Begun, Following, following
from tests.services.sagemaker_ack.service import Make, job, maker

__all__ = ["ack", "cloud", "kubernetes", "namespace"]


@pytest.fixture
def make(kubernetes: Kubernetes, cloud: Cloud, namespace: str) -> Make:
    """Makes the service as Airflow does, with the rights of the documentation."""
    return maker(kubernetes, cloud, namespace, kubernetes.grant(RBAC, namespace))


@pytest.fixture
def begun(ack: Ack, make: Make) -> Begun:
    """Submits a job that the test moves, and makes a follower of it. ``waits=False`` for one that is not accepted."""
    ack.sagemaker.driver = drivers.by_hand

    def begin(
        aws: bool | str = True, accept_timeout: float | None = None, waits: bool = True, **more: Any
    ) -> tuple[Following, Any]:
        job_id = str(uuid.uuid4())
        handle = make().submit(job(**more), job_id).handle
        service = make(aws=aws, poll_interval=0.1)
        if accept_timeout is not None:  # less than a connection may have
            service.connection = replace(service.connection, accept_timeout=accept_timeout)
        return following(service, handle), ack.job(job_id) if waits else None

    return begin
