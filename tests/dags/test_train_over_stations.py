# SPDX-License-Identifier: Apache-2.0
"""The example DAG of two stations: a train goes from Podman through a registry to Docker, and learns at both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.harness.containers.engine import Engine
from tests.harness.containers.fixtures import dockerd, image_tree, podman, registry
from tests.harness.containers.registry import PASSWORD, USER, Registry
from tests.harness.inline import Inline

__all__ = ["dockerd", "image_tree", "podman", "registry"]

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "docs" / "train_container" / "example"


@pytest.fixture
def train(podman: Engine, dockerd: Engine, registry: Registry) -> str:
    """The train of the page, in the registry."""
    name = f"{registry.address}/bmi"
    program = (EXAMPLE / "train.py").read_text().replace("registry.example.com/trains/bmi:base", f"{name}:base")
    files = {
        "/opt/pht_train/train.py": program.encode(),
        "/opt/pht_train/model/bmi.json": (EXAMPLE / "model" / "bmi.json").read_bytes(),
    }
    podman.make_image(f"{name}:base", files, 'ENTRYPOINT ["python", "/opt/pht_train/train.py"]')
    podman.client.push(name, "base", auth_config={"username": USER, "password": PASSWORD})
    assert registry.tags("bmi") == ["base"]
    return f"{name}:base"


def test_a_train_over_two_stations(
    podman: Engine, dockerd: Engine, registry: Registry, train: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def define(conn_id: str, **fields: Any) -> None:
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(fields))

    define("registry", conn_type="docker", host=registry.address, login=USER, password=PASSWORD)
    for conn_id, engine in (("station_one_default", podman), ("station_two_default", dockerd)):
        extra = {
            "engine": engine.url, "docker_conn_id": "registry", "poll_interval": 0.2, "isolation": {"user": "0"},
            "environment": {"PATIENTS_URL": "file:///data/patients.csv"},
        }  # fmt: skip
        define(conn_id, conn_type="train_container", extra=extra)
    for station, rows in (("station_one", "2,80\n"), ("station_two", "1,30\n2,160\n")):
        (tmp_path / station).mkdir()
        (tmp_path / station / "patients.csv").write_text(f"height,weight\n{rows}")
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = tmp_path / "dags"
    folder.mkdir()
    (folder / "train_over_stations.py").write_text((ROOT / "dags" / "train_over_stations.py").read_text())
    run = Inline(folder).run("train_over_stations", {"train": train})
    assert run.state == "success", run.states
    assert run.xcom("compare") == {"patients": [1, 3], "mean_bmi": [20.0, 30.0]}
    successor = run.xcom("run_station_two")["successor"]
    assert successor["image"] == train.replace(":base", ":station.2")
    assert successor["digest"] == registry.digest("bmi", "station.2")
    assert successor["parent"] == train.replace(":base", ":station.1")
    assert sorted(registry.tags("bmi")) == ["base", "station.1", "station.2"]
    for engine in (podman, dockerd):
        assert engine.client.containers(all=True) == []
        for volume in engine.client.volumes()["Volumes"] or []:
            engine.client.remove_volume(volume["Name"])
