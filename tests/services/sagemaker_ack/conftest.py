# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the real Kubernetes API."""

from __future__ import annotations

from tests.harness.kubernetes.fixtures import kubernetes, namespace

__all__ = ["kubernetes", "namespace"]
