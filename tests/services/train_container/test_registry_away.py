# SPDX-License-Identifier: Apache-2.0
"""Registries that refuse a successor image, or end in the middle of its push; a retry does not run the train again."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from airflow_provider_jobapi.exceptions import ConnectionProblem, ServiceUnavailable, TrainingError
from airflow_provider_jobapi.services.retry import Retry
from airflow_provider_jobapi.services.train_container import names
from airflow_provider_jobapi.services.train_container.service import TrainContainerService
from airflow_provider_jobapi.services.train_container.successor import Wanted
from airflow_provider_jobapi.training.status import JobState
from tests.harness.containers.engine import Engine
from tests.harness.containers.registry import Registry
from tests.harness.waiting import wait_for
from tests.services.train_container.station import Station, scripted

CODE = """
path = '/opt/pht_train/model/weights'
open(path, 'wb').write(os.urandom({size}))
print('ran')
answer(next_train_tag='n', export_files=[path], rebase=dict(type='docker', **{{'from': 'localhost/base:1'}}))
"""


@contextmanager
def refusing(port: int, status: int) -> Iterator[None]:
    """A registry that answers every request with this status, but that for its version."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(200 if self.path == "/v2/" else 404)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self._answer(status)

        do_HEAD = do_GET  # noqa: N815 -- as its base wants it
        do_PUT = do_PATCH = do_POST  # noqa: N815 -- as its base wants it

        def _answer(self, code: int) -> None:
            self.send_response(code)
            self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def trained(trains: Engine) -> Iterator[tuple[Station, TrainContainerService, Any]]:
    """A train that was run, whose successor is pushed in one attempt."""
    station = Station(trains)
    service, handle, status = station.ended(scripted(CODE.format(size=100)))
    assert status.status is JobState.SUCCESSFUL
    service._retry = Retry(attempts=1)
    yield station, service, handle
    check_one_run(station, service, handle)
    station.clean()


def check_one_run(station: Station, service: TrainContainerService, handle: Any) -> None:
    found = station.engine.client.containers(all=True, filters={"label": [f"{names.JOB_ID}={handle['job_id']}"]})
    assert len(found) == 1, [each["Names"] for each in found]
    assert service.last_lines(handle, 100).count("ran") == 1


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (401, ConnectionProblem, r"refuses that .*: give the connection's docker_conn_id a user who may"),
        (
            413,
            ConnectionProblem,
            r"refuses that .* too large .*: let the registry, or the proxy before it, take larger",
        ),
        (None, ServiceUnavailable, "cannot be reached, so "),
    ],
)
def test_a_registry_that_refuses_a_successor(
    trained: tuple[Station, TrainContainerService, Any],
    registry: Registry,
    status: int | None,
    kind: type[TrainingError],
    words: str,
) -> None:
    station, service, handle = trained
    address = f"127.0.0.1:{registry.other}"
    wanted = Wanted(repository=f"{address}/{station.engine.name}/trains", push=True)
    with refusing(registry.other, status) if status else nullcontext(), pytest.raises(kind) as raised:
        service.successor(handle, wanted)
    assert re.match(rf"The registry {address} {words}", str(raised.value)), str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.slow
def test_a_registry_that_is_killed_in_the_middle_of_a_push(station: Station, registry: Registry) -> None:
    service, handle, status = station.ended(scripted(CODE.format(size=20_000_000)))
    service._retry = Retry(total=60, attempts=10, longest_wait=1)
    with Registry(registry.other) as own:
        wanted = Wanted(repository=f"{own.address}/{station.engine.name}/trains", push=True)

        def kill() -> None:
            wait_for("an upload has begun", lambda: [*own.home.glob("data/**/_uploads/*/data")], 30, 0.005)
            own.kill()
            own.start()

        killing = threading.Thread(target=kill)
        killing.start()
        made = service.successor(handle, wanted)
        killing.join()
        assert made.digest == own.digest(f"{station.engine.name}/trains", "n"), status.describe()
        again = station.service().successor(handle, wanted)
        assert (again.digest, again.image_id) == (made.digest, made.image_id)
    check_one_run(station, service, handle)
    station.engine.client.remove_image(made.image)
