# SPDX-License-Identifier: Apache-2.0
"""What the tests of Train API containers share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.harness.containers.engine import Engine
from tests.harness.containers.fixtures import dockerd, engine, image_tree, podman, registry
from tests.harness.containers.trains import make_trains
from tests.services.train_container.station import Station

__all__ = ["dockerd", "engine", "image_tree", "podman", "registry"]


@pytest.fixture(scope="session")
def trains(engine: Engine) -> Engine:
    """An engine with the images of :mod:`tests.harness.containers.trains`."""
    make_trains(engine)
    return engine


@pytest.fixture
def station(trains: Engine) -> Iterator[Station]:
    """A station on each of the engines."""
    made = Station(trains)
    yield made
    made.clean()
