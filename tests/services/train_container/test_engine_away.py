# SPDX-License-Identifier: Apache-2.0
"""An engine that goes away in mid-run, and comes back; each test ends an engine of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_provider_jobapi.exceptions import ServiceUnavailable
from airflow_provider_jobapi.services.retry import Retry
from airflow_provider_jobapi.services.train_container import names
from airflow_provider_jobapi.training.status import JobState
from tests.harness.containers.engine import BASE, Dockerd, Engine, Podman
from tests.harness.containers.programs import missing
from tests.harness.containers.trains import make_trains
from tests.services.train_container.station import Station, end_of, followed, scripted

LINES = "for number in range(40):\n    print(f'line {number}', flush=True)\n    time.sleep(0.1)\nanswer()"


@pytest.fixture(scope="module", params=[Podman, Dockerd])
def own(request: pytest.FixtureRequest, image_tree: Path) -> Iterator[Engine]:
    kind: type[Engine] = request.param
    if why := missing(*kind.programs):
        pytest.skip(why)
    with kind() as engine:
        engine.load(image_tree, BASE)
        make_trains(engine)
        yield engine


def test_an_engine_that_is_killed_in_mid_run(own: Engine) -> None:
    """Containers go on without Podman. Those of Docker may, until it is back and ends what still runs. No run is lost,
    nor made twice, and no line is shown twice.
    """
    station = Station(own)
    service, handle = station.run(scripted(LINES))
    service._retry = service._containers._retry = Retry(attempts=1)
    lines, cursor = followed(service, handle, until=lambda seen: len(seen) > 2)
    own.stop()
    with pytest.raises(ServiceUnavailable, match=r"^The container engine at unix://\S+ does not answer, so it could "):
        followed(service, handle, cursor)
    with pytest.raises(ServiceUnavailable, match="does not answer"):
        service.status(handle)
    with pytest.raises(ServiceUnavailable, match="does not answer"):
        service.stop(handle)
    own.start()
    rest, _ = followed(service, handle, cursor)
    shown = [line.text for line in (*lines, *rest)]
    status = end_of(service, handle)
    whole = [*(f"line {number}" for number in range(40)), '{"state": "success", "message": ""}']
    if own.name == "podman" or status.status is JobState.SUCCESSFUL:
        assert status.status is JobState.SUCCESSFUL, status.describe()
        assert shown == whole
    else:
        assert (status.status, status.reason) == (JobState.FAILED, "NonZeroExit"), status.describe()
        assert shown == whole[: len(shown)]
    assert service.find(handle["job_id"]).handle == handle
    station.clean()


def test_an_engine_that_does_not_answer(own: Engine) -> None:
    station = Station(own)
    service, handle = station.run(scripted(LINES))
    service._retry = service._containers._retry = Retry(attempts=1)
    service.engine._made.timeout = 1
    own.freeze()
    try:
        with pytest.raises(ServiceUnavailable, match="does not answer"):
            service.status(handle)
    finally:
        own.thaw()
    assert end_of(service, handle).status is JobState.SUCCESSFUL
    station.clean()


def test_podman_that_is_killed_while_it_creates_a_container(own: Engine) -> None:
    """It has stored the container then, and does not know it: its name would be taken for ever."""
    if own.name != "podman":
        return
    station, database = Station(own), own.home / "root" / "libpod" / "bolt_state.db"
    plan, job_id = scripted(), station.job_id()
    own.stop()
    before = database.read_bytes()
    own.start()
    left = own.client.create_container(BASE, ["true"], name=names.container_name(job_id))["Id"]
    own.stop()
    database.write_bytes(before)
    own.start()
    assert not [each for each in own.containers() if each["Id"] == left]
    service, handle = station.run(plan, job_id)
    assert end_of(service, handle).status is JobState.SUCCESSFUL
    station.clean()
