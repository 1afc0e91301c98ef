# SPDX-License-Identifier: Apache-2.0
"""What the tests of the services share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from airflow_provider_jobapi.services import retry
from tests.harness.moto_s3 import moto_s3
from tests.harness.s3 import s3

__all__ = ["moto_s3", "s3"]


@pytest.fixture
def no_waits() -> Iterator[None]:
    """Repeat at once whatever is repeated."""
    with retry.testing():
        yield
