# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the ModelArts double."""

from __future__ import annotations

from tests.harness.modelarts.fixtures import (
    caller,
    dialect,
    job_id,
    modelarts,
    modelarts_service,
    modelarts_shared,
    no_cached_sessions,
    samples,
)
from tests.harness.s3 import s3

__all__ = [
    "caller",
    "dialect",
    "job_id",
    "modelarts",
    "modelarts_service",
    "modelarts_shared",
    "no_cached_sessions",
    "s3",
    "samples",
]
