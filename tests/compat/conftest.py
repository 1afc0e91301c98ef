# SPDX-License-Identifier: Apache-2.0
"""The recorded root of a server, served by the code of today."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.compat.fixtures import serve_recorded, unpack
from tests.harness.server import Server, stop_jobs


@pytest.fixture(scope="session")
def recorded_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that was started on the recorded root."""
    server = serve_recorded(unpack(tmp_path_factory.mktemp("compat") / "root"))
    try:
        yield server
    finally:
        stop_jobs(server)
        server.stop()


@pytest.fixture
def recorded(recorded_server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The server on the recorded root, which ``jobapi_default`` points to."""
    monkeypatch.setenv("AIRFLOW_CONN_JOBAPI_DEFAULT", json.dumps(recorded_server.connection))
    return recorded_server
