# SPDX-License-Identifier: Apache-2.0
"""The double of ModelArts for the tests of its service."""

from __future__ import annotations

from tests.harness.modelarts.fixtures import modelarts, modelarts_shared
from tests.harness.s3 import s3

__all__ = ["modelarts", "modelarts_shared", "s3"]
