# SPDX-License-Identifier: Apache-2.0
"""An engine on another machine, by TLS and with a client's certificate, as the hook of the provider docker opens it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_jobapi.exceptions import ConnectionProblem
from airflow_provider_jobapi.hooks.base import TrainingHook
from airflow_provider_jobapi.services.train_container.plan import Plan
from airflow_provider_jobapi.training.status import JobState
from tests.harness.containers.engine import BASE, Dockerd, keys_of
from tests.harness.containers.programs import missing
from tests.harness.containers.trains import make_trains
from tests.harness.tls import Authority
from tests.services.train_container.station import Station, end_of, followed, scripted


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def remote(image_tree: Path, authority: Authority) -> Iterator[Dockerd]:
    if why := missing(*Dockerd.programs):
        pytest.skip(why)
    with Dockerd(tls=authority) as engine:
        engine.load(image_tree, BASE)
        make_trains(engine)
        yield engine


def service(monkeypatch: pytest.MonkeyPatch, engine: Dockerd, keys: tuple[Path, Path, Path] | None) -> Any:
    names = ("ca_cert", "client_cert", "client_key")
    extra = {"engine": engine.tcp, **({} if keys is None else dict(zip(names, map(str, keys), strict=True)))}
    monkeypatch.setenv(
        "AIRFLOW_CONN_STATION", json.dumps({"conn_type": "train_container", "extra": {**extra, "poll_interval": 0.1}})
    )
    return TrainingHook.service_of("station", 1.0)


def test_a_train_on_another_machine(
    remote: Dockerd, authority: Authority, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Files of this machine are copied, since the engine does not see them; REQUESTS_CA_BUNDLE has no say."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(Authority(tmp_path / "others").bundle))
    (tmp_path / "rows.csv").write_text("1\n2\n")
    made = service(monkeypatch, remote, keys_of(authority, tmp_path / "keys", "worker"))
    station = Station(remote)
    plan: Plan = scripted(
        "print('begun')\nanswer(message=pathlib.Path('/data/rows.csv').read_text())",
        data={"rows.csv": tmp_path / "rows.csv"},
    )
    submitted = made.launch(plan, station.job_id())
    assert abs(submitted.skew.total_seconds()) < 10
    assert followed(made, submitted.handle)[0][0].text == "begun"
    status = end_of(made, submitted.handle)
    assert (status.status, status.message) == (JobState.SUCCESSFUL, "1\n2")
    (mount,) = [
        each
        for each in remote.client.inspect_container(submitted.handle["container"])["Mounts"]
        if each["Destination"] == "/data"
    ]
    assert (mount["Type"], mount["RW"]) == ("volume", False)
    made.release(submitted.handle)
    volumes = remote.client.volumes(filters={"label": [f"airflow.job_id={station.jobs[0]}"]})["Volumes"]
    assert not [each["Name"] for each in volumes if "-data" in each["Name"]]
    station.clean()


def test_a_client_without_a_certificate_or_with_another_one(
    remote: Dockerd, authority: Authority, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    others = Authority(tmp_path / "others")
    stranger = keys_of(others, tmp_path / "keys", "stranger")
    for keys in (None, stranger, (authority.bundle, *stranger[1:])):
        made = service(monkeypatch, remote, keys)
        with pytest.raises(ConnectionProblem, match=r"^The container engine at tcp://localhost:\d+ "):
            made.find("00000000-0000-0000-0000-000000000000")
