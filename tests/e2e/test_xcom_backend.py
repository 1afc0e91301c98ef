# SPDX-License-Identifier: Apache-2.0
"""A real Airflow whose XComs are on an object storage."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import _STUBS
from tests.harness.airflow import Airflow
from tests.harness.server import Server
from tests.harness.waiting import wait_for

PUBLISHED = ("training_job_id", "training_facts", "trainingStatus", "training_metrics")
BACKEND = "airflow.providers.common.io.xcom.backend.XComObjectStorageBackend"


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the XCom backend."""
    return tmp_path_factory.mktemp("xcoms")


@pytest.fixture(scope="module")
def airflow(jobapi_server: Server, objects: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Airflow]:
    environment = {
        "AIRFLOW__CORE__XCOM_BACKEND": BACKEND,
        "AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_PATH": f"file://{objects}",
        "AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_THRESHOLD": "0",
    }
    with Airflow(tmp_path_factory.mktemp("airflow") / "home", _STUBS, environment=environment) as started:
        started.connect("jobapi_default", jobapi_server.connection)
        yield started


class Run:
    """A run of a stub's DAG."""

    def __init__(self, airflow: Airflow, dag_id: str, **conf: Any) -> None:
        self.airflow, self.dag_id = airflow, dag_id
        self.run_id = airflow.run(dag_id, conf)

    def read(self, key: str, task_id: str = "train") -> Any:
        """An XCom as the Training tab reads it; None where there is none."""
        path = f"dags/{self.dag_id}/dagRuns/{self.run_id}/taskInstances/{task_id}/xcomEntries"
        entries = self.airflow.api("GET", path, limit=100)["xcom_entries"]
        if key not in {entry["key"] for entry in entries}:
            return None
        return self.airflow.api("GET", f"{path}/{key}")["value"]

    def ends(self, task_id: str = "train") -> None:
        self.airflow.wait_for_state(self.dag_id, self.run_id, task_id, "success")


def test_the_tab_reads_xcoms_while_a_backend_keeps_results_on_an_object_storage(
    airflow: Airflow, objects: Path, tmp_path: Path
) -> None:
    def stored(run: Run) -> list[Path]:
        return [path for path in objects.glob(f"{run.dag_id}/**/*") if path.is_file()]

    middle, gate = tmp_path / "middle", tmp_path / "gate"
    measured = Run(airflow, "stub_metrics", env={"STEPS": 60, "MIDDLE": str(middle), "GATE": str(gate)})
    for key in PUBLISHED:
        wait_for(f"{key} is there", lambda key=key: measured.read(key), 90, 1)
    assert stored(measured) == []
    values = {key: measured.read(key) for key in PUBLISHED}
    job_id = values.pop("training_job_id")
    assert [value["job_id"] for value in values.values()] == [job_id] * 3
    middle.touch()
    wait_for("the rest is there", lambda: len(measured.read("training_metrics")["metrics"]["loss"]["values"]) == 60, 60)
    assert stored(measured) == []

    modelled = Run(airflow, "stub", models=str(tmp_path / "models"))
    gate.touch()
    modelled.ends("fetch")
    measured.ends()
    for run, tasks in ((measured, 1), (modelled, 2)):
        kept = stored(run)
        assert len(kept) == tasks, kept  # the results, and nothing that the trigger wrote
        assert run.read("trainingStatus")["status"] == "SUCCESSFUL"
    assert str(modelled.read("return_value", "fetch")).startswith("file://")
    location = f"file://{tmp_path}/models/7"
    told = modelled.read("training_result", "fetch")
    assert len(told.pop("model_sha256")) == 64
    assert told == {
        "job_id": modelled.read("training_job_id"),
        "model": location,
        "model_kind": "saved_model",
        "model_unsafe": False,
    }
    assert modelled.read("training_result")["model"] is None
