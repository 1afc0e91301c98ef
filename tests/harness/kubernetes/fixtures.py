# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the real Kubernetes API."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.harness.kubernetes.cluster import PROGRAMS, Kubernetes
from tests.harness.kubernetes.programs import missing


@pytest.fixture(scope="session")
def kubernetes() -> Iterator[Kubernetes]:
    """One Kubernetes API for the whole test run; a test that stops it starts it again."""
    if why := missing(*PROGRAMS):
        pytest.skip(why)
    with Kubernetes() as running:
        yield running


@pytest.fixture
def namespace(kubernetes: Kubernetes) -> str:
    """A namespace of the test's own."""
    return kubernetes.namespace()
