# SPDX-License-Identifier: Apache-2.0
"""What the hostile tests share: servers on which nothing can run, and the numbers that stand at the end of the run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.hostile_server import HostileServer
from tests.harness.server import Server
from tests.hostile.tenants import Held, Tenant, add_client, hold_the_cpu, tenant_of

_TALLY = pytest.StashKey[Counter[str]]()


@pytest.fixture(scope="session")
def tally(request: pytest.FixtureRequest) -> Counter[str]:
    """What was done, by its name, for the summary: ``tally["races run"] += 1``."""
    return request.config.stash.setdefault(_TALLY, Counter())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the numbers."""
    if counted := config.stash.get(_TALLY, None):
        terminalreporter.section("hostile input")
        for name, count in sorted(counted.items()):
            terminalreporter.write_line(f"{name}: {count:,}")


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Held]:
    """A server whose one CPU is taken, so that a job which somebody invents is accepted and never runs."""
    root = tmp_path_factory.mktemp("hostile") / "jobapi"
    with hold_the_cpu(root, "--trust-all-clients", "--queue-bound", "100000") as held:
        yield held


@pytest.fixture(scope="module")
def alice(held: Held) -> Tenant:
    """The first client of that server."""
    return tenant_of(held.server)


@pytest.fixture(scope="module")
def mallory(held: Held) -> Tenant:
    """Another client of that server, who must not come to anything of Alice's."""
    return add_client(held.server, "mallory", "--trust-all-clients")


@pytest.fixture(scope="module")
def two_tenants(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Tenant, Tenant]]:
    """A server that runs jobs, and two clients of it."""
    with Server.start(tmp_path_factory.mktemp("tenants") / "jobapi", "--trust-all-clients", "--grace", "1s") as server:
        yield server, tenant_of(server), add_client(server, "mallory", "--trust-all-clients")


@pytest.fixture
def hostile() -> Iterator[HostileServer]:
    """A service that answers what a test tells it to."""
    with HostileServer() as server:
        yield server


@pytest.fixture
def destination(tmp_path: Path) -> Path:
    """Where a model is fetched to: a directory beside which nothing may appear."""
    place = tmp_path / "outside" / "models"
    place.mkdir(parents=True)
    return place
