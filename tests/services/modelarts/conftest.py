# SPDX-License-Identifier: Apache-2.0
"""The double of ModelArts for the tests of its service."""

from __future__ import annotations

from tests.harness.modelarts.fixtures import (
    asking,
    caller,
    dialect,
    job_id,
    modelarts,
    modelarts_shared,
    nobody_has_logged_in,
    samples,
)
from tests.harness.s3 import s3

__all__ = [
    "asking",
    "caller",
    "dialect",
    "job_id",
    "modelarts",
    "modelarts_shared",
    "nobody_has_logged_in",
    "s3",
    "samples",
]
