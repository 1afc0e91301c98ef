# SPDX-License-Identifier: Apache-2.0
"""The double of ModelArts for the tests of its service."""

from __future__ import annotations

from tests.harness.modelarts.fixtures import caller, modelarts, modelarts_shared, samples
from tests.harness.s3 import s3

__all__ = ["caller", "modelarts", "modelarts_shared", "s3", "samples"]
