# SPDX-License-Identifier: Apache-2.0
"""Rows of Airflow's table of triggers that commit 83f1d40 wrote are read, and mean what they meant.

A parameter may have another name today, so what is compared are the values and what the triggers do.
"""

from __future__ import annotations

import asyncio
import json
import os
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_jobapi.triggers import training
from tests.compat.fixtures import DATA, load
from tests.harness.scripted import Recorder
from tests.harness.tries import follow

try:
    from airflow._shared.module_loading import import_string
except ImportError:  # before 3.2
    from airflow.utils.module_loading import import_string

ROWS = load("triggers")
AIRFLOW = load("airflow")
JOBS = load("server")["jobs"]
TRAIN = AIRFLOW["tasks"][0]["xcoms"]
TRAIN_ROW = ROWS[f"airflow {TRAIN['training_job_id']} True"]


def made(row: dict[str, Any], **changes: Any) -> Any:
    """A trigger of its row, as a triggerer makes it."""
    return import_string(row["classpath"])(**row["kwargs"] | changes)


def values(kwargs: dict[str, Any]) -> set[str]:
    return {json.dumps(value, sort_keys=True) for value in kwargs.values()}


def recording(row: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Recorder]:
    """A trigger and what it writes into the task's log."""
    trigger, recorder = made(row), Recorder()
    monkeypatch.setattr(type(trigger), "log", recorder)
    return trigger, recorder


def shown(recorder: Recorder) -> list[tuple[str, str]]:
    return [(each["event"], each["timestamp"]) for each in recorder.records if "timestamp" in each]


@pytest.mark.parametrize("name", ROWS)
def test_a_row_is_read_and_written_with_the_same_values(name):
    row = ROWS[name]
    trigger = made(row)
    classpath, kwargs = trigger.serialize()
    stored = json.loads(json.dumps(kwargs))
    assert stored == kwargs
    assert values(row["kwargs"]) <= values(stored)
    again = import_string(classpath)(**stored)
    assert type(again) is type(trigger)
    assert again.serialize() == (classpath, kwargs)


def test_the_names_of_the_classes_stay():
    assert {row["classpath"] for row in ROWS.values()} == {
        "airflow_provider_jobapi.triggers.training.TrainingTrigger",
        "airflow_provider_jobapi.triggers.new_data.NewDataTrigger",
    }


def test_a_row_of_a_job_that_waited_is_followed_to_its_end(recorded):
    job = JOBS["waiting"]
    assert follow(made(ROWS["waiting"])) == {
        "end": "over",
        "job_id": job["job_id"],
        "handle": job["row"]["kwargs"]["handle"],
        "detail": "",
        "metrics": {"measured": 0.3333},
    }


@pytest.mark.parametrize("name", ["ended", "failed", "overdue"])
def test_lines_are_shown_again_under_the_same_times(recorded, monkeypatch, name):
    """Airflow shows a line once, when a later version replays the log, only where its time is the same."""
    trigger, recorder = recording(ROWS[name], monkeypatch)
    event = follow(trigger)
    expected = JOBS[name]
    assert {key: event[key] for key in expected["event"]} == expected["event"]
    before = Recorder()
    before.records = expected["records"]
    assert shown(recorder) == shown(before)


def test_lines_of_a_real_airflow_are_shown_again_under_the_same_times(recorded, monkeypatch):
    trigger, recorder = recording(TRAIN_ROW, monkeypatch)
    follow(trigger)
    expected = [(each["event"], each["timestamp"][:23]) for each in AIRFLOW["log"]]
    assert [(text, time[:23]) for text, time in shown(recorder)] == expected
    assert len(expected) > 12


@pytest.mark.parametrize("lines", [5, {"0": 5}])
def test_the_bookmark_of_a_deferral_is_found(recorded, monkeypatch, mocker, lines):
    """With ``[jobapi] log_resume = cursor`` the lines that the log has are left out.

    The recorded bookmark is of a deferral that was over at once, so the number and the deferral are put in.
    """
    bookmark = next(each["xcoms"]["training_log"] for each in AIRFLOW["tasks"] if "training_log" in each["xcoms"])
    assert set(bookmark) == {"job_id", "floor", "lines"}
    xcoms = TRAIN | {"training_log": bookmark | {"floor": TRAIN_ROW["kwargs"]["floor"], "lines": lines}}
    monkeypatch.setenv("AIRFLOW__JOBAPI__LOG_RESUME", "cursor")
    mocker.patch("airflow.sdk.execution_time.xcom.XCom.get_one", side_effect=lambda key, **_: xcoms.get(key))
    mocker.patch("airflow.sdk.execution_time.xcom.XCom.set")
    monkeypatch.setattr(training.TrainingTrigger, "shortest", 0.0)
    trigger, recorder = recording(TRAIN_ROW, monkeypatch)
    trigger.task_instance = SimpleNamespace(dag_id="recorded", task_id="train", run_id="r", map_index=-1)
    follow(trigger)
    texts = [each["event"] for each in AIRFLOW["log"]]
    assert [text for text, _ in shown(recorder)] == texts[5:]


@pytest.mark.parametrize("name", ["all, owned", "all, not owned"])
def test_the_deadline_stops_a_job_of_the_tasks_own_only(recorded, name):
    row = ROWS[name]
    script = "import time\nprint('loss is 0.25', flush=True)\ntime.sleep(600)\n"
    job_id = recorded.submit(script)
    recorded.wait_for(job_id, "RUNNING")
    handle = row["kwargs"]["handle"] | {"job_id": job_id}
    event = follow(made(row, conn_id="jobapi_default", job_id=job_id, handle=handle))
    assert (event["end"], event["detail"]) == ("timeout", row["kwargs"]["limit"])
    if row["kwargs"]["owned"]:
        assert recorded.wait_for(job_id, "STOPPED")
    else:
        assert recorded.status(job_id)["status"] == "RUNNING"
        recorded.request("POST", f"/api/v2/jobs/{job_id}/stop")


def test_a_watcher_of_new_data_goes_on_from_its_state(tmp_path, monkeypatch):
    """A file that was told of before is not told of again."""
    recorded = load("new_data")
    store = dict(recorded["store"])

    async def get(key: str) -> Any:
        return store[key]

    async def put(key: str, value: Any) -> None:
        store[key] = value

    monkeypatch.chdir(tmp_path)
    (tmp_path / "incoming").mkdir()
    (tmp_path / "incoming" / "a.csv").write_text("a,b\n1,2\n")
    os.utime(tmp_path / "incoming" / "a.csv", (1_700_000_000, 1_700_000_000))
    (tmp_path / "incoming" / "b.csv").write_text("a,b\n3,4\n")
    trigger = made(ROWS["new data, runs"])
    trigger.asset_state_store = SimpleNamespace(aget=get, aset=put)

    async def first() -> Any:
        async with asyncio.timeout(20):
            return (await anext(trigger.run())).payload

    payload = asyncio.run(first())
    assert set(recorded["event"]) <= set(payload)
    assert (payload["names"], payload["count"], payload["files"]) == (["b.csv"], 1, 2)


def test_the_fixtures_are_small():
    assert sum(path.stat().st_size for path in DATA.iterdir()) < 300_000
