# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the real Kubernetes API and of the double of ACK and SageMaker."""

from __future__ import annotations

from tests.harness.ack.fixtures import ack, cloud
from tests.harness.kubernetes.fixtures import kubernetes, namespace

__all__ = ["ack", "cloud", "kubernetes", "namespace"]
