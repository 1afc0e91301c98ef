# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the real Kubernetes API and of the double of ACK and SageMaker."""

from __future__ import annotations

import pytest

from tests.harness.ack import RBAC
from tests.harness.ack.cloud import Cloud
from tests.harness.ack.fixtures import ack, cloud
from tests.harness.kubernetes.cluster import Kubernetes
from tests.harness.kubernetes.fixtures import kubernetes, namespace
from tests.services.sagemaker_ack.service import Make, maker

__all__ = ["ack", "cloud", "kubernetes", "namespace"]


@pytest.fixture
def make(kubernetes: Kubernetes, cloud: Cloud, namespace: str) -> Make:
    """Makes the service as Airflow does, with the rights of the documentation."""
    return maker(kubernetes, cloud, namespace, kubernetes.grant(RBAC, namespace))
