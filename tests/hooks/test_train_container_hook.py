# SPDX-License-Identifier: Apache-2.0
"""From a connection to a station, with a registry of its own, and an environment that stays on the worker."""

from __future__ import annotations

import asyncio
import gc
import json
from typing import Any

import pytest

from airflow_provider_jobapi.exceptions import ConnectionProblem
from airflow_provider_jobapi.hooks.base import TrainingHook
from airflow_provider_jobapi.hooks.discovery import hook_class_for
from airflow_provider_jobapi.hooks.docker_client import registry_of
from airflow_provider_jobapi.hooks.train_container import TrainContainerHook
from airflow_provider_jobapi.services.train_container.service import TrainContainerService
from tests.harness.containers.engine import Engine
from tests.harness.containers.fixtures import dockerd, engine, image_tree, podman, registry

__all__ = ["dockerd", "engine", "image_tree", "podman", "registry"]


def defined(monkeypatch: pytest.MonkeyPatch, conn_id: str, conn_type: str, **fields: Any) -> None:
    monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps({"conn_type": conn_type, **fields}))


def station(monkeypatch: pytest.MonkeyPatch, **extra: Any) -> None:
    defined(monkeypatch, "station", "train_container", extra=extra)


def test_the_connection_decides_the_service(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    station(monkeypatch, engine=engine.url, docker_conn_id="hub", station="Leipzig")
    defined(monkeypatch, "hub", "docker", host="registry.example.com", port=5000, login="me", password="geheim")
    assert hook_class_for("train_container", "station") is TrainContainerHook
    for service in (TrainingHook.service_of("station"), asyncio.run(TrainingHook.async_service_of("station"))):
        assert isinstance(service, TrainContainerService)
        assert service.engine.version()["ApiVersion"]
        assert service._images.auth("registry.example.com:5000/trains/bmi:1") == {
            "username": "me",
            "password": "geheim",
        }
        for other in ("bmi:1", "localhost:5000/bmi", "registry.example.com/bmi", "evil.example.com:5000/bmi"):
            assert service._images.auth(other) is None
        assert "geheim" not in repr([service, vars(service), service.connection])


def test_one_client_for_all_services_of_an_engine(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    station(monkeypatch, engine=engine.url)
    one, two = TrainingHook.service_of("station"), asyncio.run(TrainingHook.async_service_of("station"))
    assert isinstance(one, TrainContainerService)
    assert isinstance(two, TrainContainerService)
    assert one.engine is two.engine
    assert one.engine.version()
    client = one.engine._made
    del one, two
    gc.collect()
    station(monkeypatch, engine=engine.url, timeout=30)
    other: Any = TrainingHook.service_of("station")
    assert other.engine.version()
    assert other.engine._made is not client


@pytest.mark.parametrize(
    ("image", "registry"),
    [
        ("bmi", "docker.io"),
        ("trains/bmi:1", "docker.io"),
        ("localhost/bmi", "localhost"),
        ("localhost:5000/bmi@sha256:1", "localhost:5000"),
        ("index.docker.io/library/bmi", "docker.io"),
        ("Registry.example.com/a/b", "registry.example.com"),
    ],
)
def test_the_registry_of_an_image(image: str, registry: str) -> None:
    assert registry_of(image) == registry


def test_the_environment_comes_from_airflow_on_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    station(
        monkeypatch,
        environment={"PATIENTS_URL": "http://fhir.example.com"},
        environment_from={"TOKEN": "variable:station_token", "DATABASE": "connection:station_db"},
    )
    monkeypatch.setenv("AIRFLOW_VAR_STATION_TOKEN", "geheim-geheim")
    defined(monkeypatch, "station_db", "postgres", host="db", login="me", password="ganz-geheim")
    service: Any = TrainingHook.service_of("station")
    assert service.offered() == {
        "PATIENTS_URL": "http://fhir.example.com",
        "TOKEN": "geheim-geheim",
        "DATABASE": "postgres://me:ganz-geheim@db",
    }
    monkeypatch.delenv("AIRFLOW_VAR_STATION_TOKEN")
    with pytest.raises(ConnectionProblem, match="TOKEN from the variable 'station_token', which is not defined"):
        service.offered()
    monkeypatch.setenv("AIRFLOW_VAR_STATION_TOKEN", "geheim-geheim")
    monkeypatch.delenv("AIRFLOW_CONN_STATION_DB")
    with pytest.raises(ConnectionProblem, match="DATABASE from the connection 'station_db', which is not defined"):
        service.offered()


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"engine": "station"}, "extra engine cannot be 'station': it is an address such as"),
        ({"environment": "{"}, "extra environment is no JSON object"),
        ({"environment": {"A B": "x"}}, "extra environment has 'A B'"),
        ({"environment_from": {"TOKEN": "token"}}, "does not name a variable or a connection"),
        ({"data_folder": "data"}, "extra data_folder cannot be 'data'"),
        ({"pull": "sometimes"}, "extra pull cannot be 'sometimes'"),
        ({"engine": "tcp://a:1", "ca_cert": __file__}, "belong together"),
        ({"docker_conn_id": "nowhere"}, "names 'nowhere' as its connection for registry, which is not defined"),
    ],
)
def test_a_connection_with_an_error_names_the_field(
    monkeypatch: pytest.MonkeyPatch, extra: dict[str, Any], words: str
) -> None:
    station(monkeypatch, **extra)
    with pytest.raises(ConnectionProblem) as error:
        TrainingHook.service_of("station")
    assert words in str(error.value)


@pytest.mark.parametrize("host", ["unix:///run/podman/podman.sock", "tcp://station:2376", "station.example.com"])
def test_an_engine_in_the_place_of_a_host(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    defined(monkeypatch, "station", "train_container", host=host)
    with pytest.raises(ConnectionProblem, match=r"a host, which its type does not use: .* in the extra: engine, "):
        TrainingHook.service_of("station")


def test_a_registry_of_another_type(monkeypatch: pytest.MonkeyPatch) -> None:
    station(monkeypatch, docker_conn_id="hub")
    defined(monkeypatch, "hub", "http", host="registry.example.com", login="me", password="geheim")
    with pytest.raises(ConnectionProblem, match=r"type 'http', and .* for registry: name one of the type 'docker'"):
        TrainingHook.service_of("station")


def test_the_test_button(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    station(monkeypatch, engine=engine.url, isolation={"network": "host"}, environment='{"PATIENTS_URL": "http://x"}')
    ok, message = TrainContainerHook("station").test_connection()
    assert ok, message
    assert "Environment: ok, station 'station' offers PATIENTS_URL" in message
    assert "Isolation: ok, containers are looser than by default in network" in message
    station(monkeypatch, engine="unix:///no/such.sock", isolation={"root": 1})
    ok, message = TrainContainerHook("station").test_connection()
    assert not ok
    assert "Engine: not ok, The container engine at unix:///no/such.sock does not answer" in message
    assert "Isolation: not ok, isolation has 'root'" in message
