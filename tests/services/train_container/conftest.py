# SPDX-License-Identifier: Apache-2.0
"""What the tests of Train API containers share."""

from __future__ import annotations

from tests.harness.containers.fixtures import dockerd, engine, image_tree, podman, registry

__all__ = ["dockerd", "engine", "image_tree", "podman", "registry"]
