# SPDX-License-Identifier: Apache-2.0
"""The stage of the kill matrix: one cluster on PostgreSQL and one jobAPI server for all rows, and its summary."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest

from tests.harness import postgres
from tests.harness.cluster import Cluster
from tests.harness.cluster_training import Stage, Tally
from tests.harness.proxy_faults import ScriptedProxy
from tests.harness.remote import JobApi
from tests.harness.server import running
from tests.harness.waiting import wait_for

DAGS = Path(__file__).parent / "dags"
TALLY = pytest.StashKey[Tally]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[TALLY] = Tally()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    tally = config.stash[TALLY]
    if tally.kills:
        terminalreporter.section("the kill matrix")
        terminalreporter.write_line(
            f"{tally.kills} kills survived, {tally.lines:,} log lines compared, {tally.jobs} jobs counted"
        )


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Stage]:
    """Everything, started when the first row asks for it."""
    if reason := postgres.missing():
        pytest.skip(f"the kill matrix needs PostgreSQL: {reason}")
    tally = request.config.stash[TALLY]
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kills-", ignore_cleanup_errors=True)))
        options = ("--grace", "2s", "--cpus", "100", "--memory", "100000", "--gpus", "1", "--queue-bound", "200")
        server = stack.enter_context(running(home / "jobapi", *options))
        remote = JobApi(server)
        network = stack.enter_context(remote.way())
        dags = Path(shutil.copytree(DAGS, home / "dags"))
        cluster = Cluster(home / "airflow", dags, environment={})
        control = stack.enter_context(ScriptedProxy(cluster.port))
        cluster.let_workers_speak_through(control.port)
        stack.enter_context(cluster)
        stage = Stage(cluster, server, remote, network, control, dags, tally)
        cluster.connect("kills_plain", remote.connection(network))
        wait_for("the DAGs are parsed", lambda: _parsed(cluster), 60, 0.5)
        yield stage
        tally.kills += sum(component.kills for component in cluster.components)


def _parsed(cluster: Cluster) -> bool:
    errors = cluster.api("GET", "importErrors")["import_errors"]
    assert not errors, errors
    return cluster.api("GET", "dags", limit=100)["total_entries"] >= 10


@pytest.fixture
def shifted(stage: Stage) -> Iterator[None]:
    """Connections to the server as it were with its clock an hour ahead, and behind."""
    with ExitStack() as stack:
        for name, hours in (("ahead", 1), ("behind", -1)):
            way = stack.enter_context(stage.remote.way(timedelta(hours=hours)))
            stage.cluster.connect(f"kills_{name}", stage.remote.connection(way))
        yield


@pytest.fixture
def ways(stage: Stage) -> Iterator[list[ScriptedProxy]]:
    """Four ways to the service, on the connections ``kills_way_1`` to ``kills_way_4``."""
    with ExitStack() as stack:
        ways = [stack.enter_context(stage.remote.way()) for _ in range(4)]
        for number, way in enumerate(ways, 1):
            stage.cluster.connect(f"kills_way_{number}", stage.remote.connection(way))
        yield ways
