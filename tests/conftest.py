# SPDX-License-Identifier: Apache-2.0
"""One Airflow and one jobAPI server for the whole test run, each started when the first test asks for it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

# Airflow reads its settings when it is first imported, so they stand here, before any test module is.
_HOME = tempfile.TemporaryDirectory(prefix="airflow-tests-", ignore_cleanup_errors=True)
_EXAMPLES = Path(__file__).parents[1] / "dags"
_STUBS = Path(__file__).parent / "harness" / "dags"

for _name in [name for name in os.environ if name.startswith("AIRFLOW_")]:
    del os.environ[_name]

from tests.harness.airflow import settings  # noqa: E402

os.environ.update(settings(Path(_HOME.name) / "inline", _EXAMPLES, _STUBS))

import json  # noqa: E402
from collections.abc import Iterator  # noqa: E402

import pytest  # noqa: E402
from hypothesis import HealthCheck  # noqa: E402
from hypothesis import settings as examples  # noqa: E402

from tests.harness.airflow import Airflow  # noqa: E402
from tests.harness.inline import Inline  # noqa: E402
from tests.harness.mlflow import mlflow  # noqa: E402
from tests.harness.server import Server, jobapi, jobapi_server  # noqa: E402

__all__ = ["jobapi", "jobapi_server", "mlflow"]

pytest_plugins = ["tests.harness.masked", "tests.harness.promised"]

# How long an example takes depends on what else the machine does.
examples.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
examples.load_profile("any machine")


@pytest.fixture(scope="session")
def inline() -> Inline:
    """Runs DAGs by ``dag.test()``."""
    return Inline(_EXAMPLES, _STUBS)


@pytest.fixture
def connected(jobapi_server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The shared server, and ``jobapi_default`` pointing to it in this process."""
    monkeypatch.setenv("AIRFLOW_CONN_JOBAPI_DEFAULT", json.dumps(jobapi_server.connection))
    return jobapi_server


@pytest.fixture(scope="session")
def airflow(jobapi_server: Server) -> Iterator[Airflow]:
    """A real Airflow with our examples and stubs, and ``jobapi_default`` pointing to the shared server."""
    with Airflow(Path(_HOME.name) / "standalone", _EXAMPLES, _STUBS) as started:
        started.connect("jobapi_default", jobapi_server.connection)
        yield started
