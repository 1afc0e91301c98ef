# SPDX-License-Identifier: Apache-2.0
"""This provider's own XComs, with Airflow's backend for an object storage and without."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.execution_time.comms import GetXCom, SetXCom, XComResult

from airflow_provider_jobapi.triggers import xcoms
from airflow_provider_jobapi.triggers.xcom_writer import sink_of

backend = pytest.importorskip("airflow.providers.common.io.xcom.backend")

STATUS = {"job_id": "7", "status": "RUNNING", "message": "x" * 2_000}


class Database(dict[str, Any]):
    """What Airflow's database holds, as its API stores and returns it."""

    def send(self, message: Any) -> Any:
        if isinstance(message, SetXCom):
            self[message.key] = message.value
            return None
        assert isinstance(message, GetXCom)
        return XComResult(key=message.key, value=self.get(message.key))


def task(**more: Any) -> SimpleNamespace:
    return SimpleNamespace(dag_id="d", task_id="t", run_id="r", map_index=None, **more)


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch) -> Database:
    made = Database()
    monkeypatch.setattr("airflow.sdk.execution_time.task_runner.SUPERVISOR_COMMS", made, raising=False)
    return made


@pytest.fixture(params=[0, 1_000], ids=["all on the storage", "large ones on the storage"])
def objects(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Callable[[], int]]:
    """Airflow's backend for an object storage; answers the number of objects."""
    caches = (backend._get_base_path, backend._get_threshold, backend._get_compression)
    monkeypatch.setenv("AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_PATH", f"file://{tmp_path}/xcoms")
    monkeypatch.setenv("AIRFLOW__COMMON_IO__XCOM_OBJECTSTORAGE_THRESHOLD", str(request.param))
    monkeypatch.setattr("airflow.sdk.execution_time.xcom.XCom", backend.XComObjectStorageBackend)
    for cache in caches:
        cache.cache_clear()
    yield lambda: sum(path.is_file() for path in tmp_path.rglob("*"))
    for cache in caches:
        cache.cache_clear()


def test_what_the_trigger_writes_stays_in_the_database(database: Database, objects: Callable[[], int]) -> None:
    assert xcoms.has_backend()
    write = sink_of(task())
    for number in range(20):
        write("trainingStatus", STATUS | {"number": number})
    assert database["trainingStatus"] == STATUS | {"number": 19}
    assert xcoms.read(task(), "trainingStatus") == STATUS | {"number": 19}
    assert backend.XComObjectStorageBackend.get_one(
        key="trainingStatus", dag_id="d", task_id="t", run_id="r", map_index=-1
    ) == STATUS | {"number": 19}
    assert objects() == 0


def test_what_a_worker_writes_stays_in_the_database(database: Database, objects: Callable[[], int]) -> None:
    ti = task(xcom_push=None, xcom_pull=None)  # which would use the backend
    xcoms.push(ti, "training_job_id", "7")
    xcoms.push_result(ti, "7", "s3://models/7")
    assert database == {"training_job_id": "7", "training_result": {"job_id": "7", "model": "s3://models/7"}}
    assert xcoms.pull(ti, "training_job_id") == "7"
    assert xcoms.pull(ti, "training_facts") is None
    assert objects() == 0


def test_what_an_earlier_version_wrote_with_the_backend_is_read(database: Database, objects: Callable[[], int]) -> None:
    backend.XComObjectStorageBackend.set(key="k", value=STATUS, dag_id="d", task_id="t", run_id="r")
    assert objects() == 1
    assert str(database["k"]).startswith("file://")
    assert xcoms.read(task(), "k") == STATUS
    assert xcoms.pull(task(), "k") == STATUS


def test_without_a_backend_the_tasks_own_methods_are_used(database: Database) -> None:
    kept: dict[str, Any] = {}
    ti = task(
        xcom_push=lambda key, value: kept.update({key: value}),
        xcom_pull=lambda key, **_: kept[key],
    )
    xcoms.push(ti, "k", STATUS)
    xcoms.push_result(ti, "7", None)
    assert (kept, database) == ({"k": STATUS}, {})
    assert xcoms.pull(ti, "k") == STATUS
    sink_of(ti)("k", 1)
    assert (database, xcoms.read(ti, "k")) == ({"k": 1}, 1)
