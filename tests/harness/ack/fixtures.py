# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the double of ACK and SageMaker."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.harness.ack.cloud import Cloud, serve
from tests.harness.ack.double import Ack
from tests.harness.kubernetes.cluster import Kubernetes


@pytest.fixture(scope="session")
def cloud() -> Iterator[Cloud]:
    """One AWS for the whole test run."""
    with serve() as running:
        yield running


@pytest.fixture
def ack(kubernetes: Kubernetes, cloud: Cloud, namespace: str) -> Iterator[Ack]:
    """The double, which watches the test's namespace; it runs scripts for real unless the test says otherwise."""
    with Ack(kubernetes, cloud, namespaces={namespace}) as running:
        yield running
