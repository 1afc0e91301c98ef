# SPDX-License-Identifier: Apache-2.0
"""Fixtures of real container engines and of a real registry, each started when the first test asks for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.containers.engine import BASE, Dockerd, Engine, Podman
from tests.harness.containers.image import write_tree
from tests.harness.containers.programs import missing
from tests.harness.containers.registry import Registry


@pytest.fixture(scope="session")
def registry() -> Iterator[Registry]:
    """A registry that asks for a user and a password."""
    if why := missing("docker-registry"):
        pytest.skip(why)
    with Registry() as running:
        yield running


@pytest.fixture(scope="session")
def image_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tar file of the image with Python and busybox."""
    if why := missing("busybox"):
        pytest.skip(why)
    path = tmp_path_factory.mktemp("image") / "tree.tar"
    write_tree(path)
    return path


@pytest.fixture(scope="session")
def podman(registry: Registry, image_tree: Path) -> Iterator[Engine]:
    """Podman's service."""
    yield from _running(Podman, registry, image_tree)


@pytest.fixture(scope="session")
def dockerd(registry: Registry, image_tree: Path) -> Iterator[Engine]:
    """Docker's daemon."""
    yield from _running(Dockerd, registry, image_tree)


@pytest.fixture(scope="session", params=["podman", "dockerd"])
def engine(request: pytest.FixtureRequest) -> Engine:
    """Each of the two."""
    started: Engine = request.getfixturevalue(request.param)
    return started


def _running(kind: type[Engine], registry: Registry, tree: Path) -> Iterator[Engine]:
    if why := missing(*kind.programs):
        pytest.skip(why)
    with kind(registries=[registry.address, f"127.0.0.1:{registry.other}"]) as started:
        started.load(tree, BASE)
        yield started
