# SPDX-License-Identifier: Apache-2.0
"""From new data to a better model on a real Airflow: the examples as they stand, with a script that is light.

Rows come into ``rows/`` beside the DAGs, and models into ``~/models``, so the Airflow of these tests has a home of its
own. It tells OpenLineage's provider, too.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.harness.airflow import Airflow
from tests.harness.promised import OTHER_VERSION
from tests.harness.s3 import BUCKET, KEY, SECRET, s3
from tests.harness.waiting import wait_for

__all__ = ["s3"]

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]
TINY = REPOSITORY / "tests" / "harness" / "dags" / "scripts" / "tiny_model.py"
DAG = "retrain_on_new_data"


class Loop:
    """An Airflow, and the home in which its rows and models are."""

    def __init__(self, airflow: Airflow, home: Path) -> None:
        self.airflow = airflow
        self.home = home
        self.rows = home / "dags" / "rows"

    def serving(self) -> list[Path]:
        return sorted(self.home.glob("models/digits/serving/*"))

    def runs(self, dag_id: str = DAG, kind: str = "asset_triggered") -> list[dict[str, Any]]:
        runs = self.airflow.api("GET", f"dags/{dag_id}/dagRuns", order_by="run_after")["dag_runs"]
        return [run for run in runs if run["run_type"] == kind]

    def events(self, asset: str) -> list[dict[str, Any]]:
        """The extras of an asset's events, the oldest first."""
        told = self.airflow.api("GET", "assets/events", name_pattern=asset, order_by="timestamp", limit=100)
        return [event["extra"] for event in told["asset_events"] if event["name"] == asset]

    def unpause(self, dag_id: str) -> None:
        wait_for(f"{dag_id} is parsed", lambda: dag_id in self._dags(), 90, 0.5)
        self.airflow.api("PATCH", f"dags/{dag_id}", {"is_paused": False})

    def ended(self, dag_id: str, run_id: str) -> str:
        def state() -> str | None:
            seen = str(self.airflow.api("GET", f"dags/{dag_id}/dagRuns/{run_id}")["state"])
            return seen if seen in {"success", "failed"} else None

        return str(wait_for(f"{run_id} is over", state, 180, 0.5))

    def states(self, dag_id: str, run_id: str) -> dict[str, str]:
        tasks = self.airflow.api("GET", f"dags/{dag_id}/dagRuns/{run_id}/taskInstances", limit=100)
        return {f"{ti['task_id']}{ti['map_index']}".removesuffix("-1"): ti["state"] for ti in tasks["task_instances"]}

    def lineage(self, job: str, kind: str) -> list[dict[str, Any]]:
        """What OpenLineage was told of a task."""
        lines = (self.home / "lineage.jsonl").read_text().splitlines()
        told = [json.loads(line) for line in lines]
        return [each for each in told if each["job"]["name"] == job and each["eventType"] == kind]

    def _dags(self) -> list[str]:
        errors = self.airflow.api("GET", "importErrors")["import_errors"]
        assert not errors, errors
        return [dag["dag_id"] for dag in self.airflow.api("GET", "dags", limit=100)["dags"]]


@pytest.fixture(scope="module")
def loop(jobapi_server, s3, tmp_path_factory) -> Iterator[Loop]:
    home = tmp_path_factory.mktemp("loop")
    dags = home / "dags"
    (dags / "scripts").mkdir(parents=True)
    (dags / "rows").mkdir()
    for name in (DAG, "retrain_weekly", "sweep"):
        example = (REPOSITORY / "dags" / f"{name}.py").read_text()
        light, replaced = re.subn(r'requirements="tensorflow-cpu==[\d.]+"', 'requirements=""', example)
        assert replaced == 1
        light = light.replace('POOL = "default_pool"', 'POOL = "trainings"')
        # Each day is a file, which is no news to the watcher of the other DAG.
        (dags / f"{name}.py").write_text(light.replace("}/rows", "}/days") if name == "retrain_weekly" else light)
    for name in ("digits", "measured_digits"):
        shutil.copy(TINY, dags / "scripts" / f"{name}.py")
    shutil.copy(Path(__file__).parent / "dags" / "loop.py", dags)
    transport = {"type": "file", "log_file_path": str(home / "lineage.jsonl"), "append": True}
    environment = {
        "HOME": str(home),
        "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(transport),
        "AIRFLOW__OPENLINEAGE__NAMESPACE": "loop",
    }
    with Airflow(home / "airflow", dags, environment=environment) as airflow:
        airflow.connect("jobapi_default", jobapi_server.connection)
        aws = {"conn_type": "aws", "login": KEY, "password": SECRET, "extra": {"endpoint_url": s3.url}}
        airflow.connect("watched_bucket", aws)
        yield Loop(airflow, home)


def rows(begin: int, end: int, labels: int = 7) -> str:
    return "".join(f"{number},{number % labels}\n" for number in range(begin, end))


def stays(what: str, probe: Callable[[], object], seconds: float) -> None:
    """What must not happen is looked for as long as it takes to happen, twice over."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert not probe(), what
        time.sleep(0.5)


def test_new_rows_train_once_and_the_better_model_serves(loop: Loop):
    """The first in this file: the later ones go on with its model."""
    loop.unpause(DAG)
    with (loop.rows / "a.csv").open("w") as file:
        for part in range(30):
            file.write(rows(part * 10, part * 10 + 10))
            file.flush()
            stays("a file that is still written is announced", lambda: loop.events("new_rows"), 0.8)
    (extra,) = wait_for("the file is announced", lambda: loop.events("new_rows"), 90, 0.5)
    told = extra["payload"]
    size = (loop.rows / "a.csv").stat().st_size
    assert (told["path"], told["names"], told["count"]) == (f"file://{loop.rows}", ["a.csv"], 1)
    assert (told["bytes"], told["files"]) == (size, 1)
    (run,) = wait_for("the run begins", loop.runs, 60, 0.5)
    assert loop.ended(DAG, run["dag_run_id"]) == "success"
    (model,) = loop.serving()
    (served,) = loop.events("digits_in_service")
    assert served["location"] == model.as_uri()
    result = loop.airflow.xcom(DAG, run["dag_run_id"], "train")
    assert {key: served[key] for key in ("job_id", "metrics", "data_version")} == {
        key: result[key] for key in ("job_id", "metrics", "data_version")
    }
    assert result["data_version"]
    assert re.fullmatch("[0-9a-f]{64}", served["sha256"])


def test_a_triggerer_that_is_killed_tells_nothing_twice_and_misses_nothing(loop: Loop):
    before = len(loop.events("new_rows"))
    for process in list(loop.airflow.processes("triggerer")):
        with suppress(psutil.Error):  # a child may end by itself when its parent does
            process.kill()
    (loop.rows / "b.csv").write_text(rows(300, 400))
    loop.airflow.replace_triggerer()
    wait_for("the file is announced", lambda: len(loop.events("new_rows")) > before, 120, 0.5)
    last = loop.events("new_rows")[-1]["payload"]
    assert last["files"] == 2
    assert last["names"] == (["b.csv"] if kept(loop) else ["a.csv", "b.csv"])
    stays("a file is announced twice", lambda: len(loop.events("new_rows")) > before + 1, 30)
    assert len(loop.runs()) == before + 1


def kept(loop: Loop) -> bool:
    """Whether this Airflow keeps what a watcher has told."""
    major, minor = loop.airflow.api("GET", "version")["version"].split(".")[:2]
    return (int(major), int(minor)) >= (3, 3)


@pytest.mark.parametrize(("answer", "state"), [("Reject", "skipped"), ("Approve", "success")])
def test_a_person_may_have_the_last_word(loop: Loop, answer, state):
    for run in loop.runs():
        loop.ended(DAG, run["dag_run_id"])
    before = loop.serving()
    fresh = loop.home / f"models-{answer}"
    run_id = loop.airflow.run(DAG, {"approval": True, "models": fresh.as_uri()})
    loop.airflow.wait_for_state(DAG, run_id, "approve", "awaiting_input", "deferred", seconds=180)
    # Whoever answers before the scheduler has heard of the worker's end loses the task (Airflow 3.3.2).
    heard = f"task_id='approve', run_id='{run_id}'"
    said = loop.airflow.output
    wait_for("the scheduler knows", lambda: re.search(f"executor event.*{re.escape(heard)}", said.read_text()), 30)
    assert not list(fresh.glob("serving/*"))
    path = f"dags/{DAG}/dagRuns/{run_id}/taskInstances/approve/-1/hitlDetails"
    asked = loop.airflow.api("GET", path)
    assert str(fresh) in asked["subject"]
    loop.airflow.api("PATCH", path, {"chosen_options": [answer], "params_input": {}})
    assert loop.ended(DAG, run_id) == "success"
    assert loop.states(DAG, run_id)["promote"] == state
    assert len(list(fresh.glob("serving/*"))) == (state == "success")
    assert loop.serving() == before


def test_a_bucket_starts_a_run(loop: Loop, s3):
    place = s3.root / BUCKET / "rows"
    place.mkdir(parents=True)
    loop.unpause("bucket")
    (place / "a.csv").write_text("1,1\n")
    (run,) = wait_for("the run begins", lambda: loop.runs("bucket"), 90, 0.5)
    loop.airflow.wait_for_state("bucket", run["dag_run_id"], "what_came", "success")
    assert loop.airflow.xcom("bucket", run["dag_run_id"], "what_came") == [["a.csv"]]
    (extra,) = loop.events("rows_in_bucket")
    assert extra["from_trigger"]
    told = extra["payload"]
    assert (told["path"], told["names"], told["bytes"]) == ("s3://watched_bucket@data/rows", ["a.csv"], 4)
    stays("a second run begins", lambda: len(loop.runs("bucket")) > 1, 10)


def test_a_sweep_trains_two_at_a_time(loop: Loop):
    pool = {"name": "trainings", "slots": 2, "include_deferred": True}
    loop.airflow.api("POST", "pools", pool)
    run_id = loop.airflow.run("sweep", {"widths": [1, 2], "epochs": [20, 90]})
    most = 0

    def over() -> bool:
        nonlocal most
        states = loop.states("sweep", run_id)
        busy = [task for task, state in states.items() if task.startswith("train") and state in BUSY]
        most = max(most, len(busy))
        return states.get("keep") in {"success", "failed", "upstream_failed"}

    wait_for("the sweep is over", over, 240, 0.2)
    assert loop.states("sweep", run_id)["keep"] == "success"
    assert most == 2
    (best,) = loop.home.glob("models/sweep/best/*")
    assert json.loads((best / "assets.extra" / "evaluation.json").read_text())["candidate"] > 0.5


BUSY = {"queued", "running", "deferred"}


def test_a_week_is_a_partition(loop: Loop):
    pytest.importorskip("airflow.sdk.definitions.timetables.trigger", reason=f"{OTHER_VERSION}partitions came with 3.2")
    days = loop.home / "dags" / "days"
    days.mkdir()
    (days / "2026-01-10.csv").write_text(rows(0, 50))
    (days / "2026-01-11.csv").write_text(rows(50, 100))
    loop.unpause("retrain_weekly")
    body = {"logical_date": None, "partition_key": "2026-01-11"}
    run_id = loop.airflow.api("POST", "dags/retrain_weekly/dagRuns", body)["dag_run_id"]
    assert loop.ended("retrain_weekly", run_id) == "success"
    # The last week, for which Airflow itself began a run, may be there, too.
    assert "20260111" in [path.name for path in loop.home.glob("models/weekly/*")]
    data = loop.airflow.xcom("retrain_weekly", run_id, "train", "training_facts")["data"]
    assert [file["name"] for file in data] == ["rows/2026-01-10.csv"]


def test_a_run_that_is_late_is_told_of(loop: Loop):
    run_id = loop.airflow.run("late")
    try:
        words = f"The run {run_id} of late has not ended by its deadline, "

        def said() -> bool:
            logs = [loop.airflow.output, *loop.airflow.home.glob("logs/**/*.log")]
            return any(words in path.read_text(errors="replace") for path in logs)

        wait_for("the triggerer warns", said, 90, 0.5)
    finally:
        (loop.airflow.home / "late.gate").touch()
    assert loop.ended("late", run_id) == "success"


def test_openlineage_is_told_what_came_in_and_what_came_out(loop: Loop):
    run = loop.runs()[0]["dag_run_id"]
    result = loop.airflow.xcom(DAG, run, "train")
    train = loop.lineage(f"{DAG}.train", "COMPLETE")[0]
    model = {"namespace": "jobapi://jobapi_default", "name": f"{DAG}-train"}
    assert [(each["namespace"], each["name"]) for each in train["inputs"]] == [("file", str(loop.rows / "a.csv"))]
    (output,) = train["outputs"]
    assert {key: output[key] for key in model} == model
    assert output["facets"]["version"]["datasetVersion"] == result["job_id"]
    facts = train["run"]["facets"]["jobapi_training"]
    assert (facts["jobId"], facts["status"], facts["dataVersion"]) == (
        result["job_id"],
        "SUCCESSFUL",
        result["data_version"],
    )
    assert facts["metrics"] == result["metrics"]
    assert train["run"]["facets"]["externalQuery"]["externalQueryId"] == result["job_id"]
    assert train["job"]["facets"]["sourceCode"]["sourceCode"] == TINY.read_text()
    assert loop.lineage(f"{DAG}.train", "START")[0]["inputs"][0]["name"] == str(loop.rows / "a.csv")
    promote = loop.lineage(f"{DAG}.promote", "COMPLETE")[0]
    (source,), (served,) = promote["inputs"], promote["outputs"]
    assert {key: source[key] for key in model} == model
    location = Path(loop.airflow.xcom(DAG, run, "promote").removeprefix("file://"))
    assert (served["namespace"], served["name"]) == ("file", str(location))
    assert served["outputFacets"]["outputStatistics"]["fileCount"] == 3


def test_openlineage_is_told_of_a_training_that_fails(loop: Loop):
    run_id = loop.airflow.run(DAG, {"env": {"SKILL": 0}, "models": (loop.home / "models-failed").as_uri()})
    assert loop.ended(DAG, run_id) == "failed"
    (failed,) = wait_for("the event is written", lambda: loop.lineage(f"{DAG}.train", "FAIL"), 30)
    assert {each["name"] for each in failed["inputs"]} == {str(path) for path in loop.rows.iterdir()}
    assert failed["outputs"] == []
    facts = failed["run"]["facets"]["jobapi_training"]
    assert (facts["status"], facts["exitCode"]) == ("FAILED", 1)
    assert "no skill" in failed["run"]["facets"]["errorMessage"]["message"]
