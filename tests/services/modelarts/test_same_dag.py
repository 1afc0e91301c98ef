# SPDX-License-Identifier: Apache-2.0
"""The same DAG file on both services; only the connection differs."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from tests.harness.modelarts.caller import Caller
from tests.harness.server import poll
from tests.harness.tries import STUB

LIGHT = {"script": STUB.read_text(), "requirements": "", "env": {"LINES": 5}}


@pytest.fixture(params=["jobapi", "v1", "v2"])
def served(request, monkeypatch):
    """Connections ``jobapi_default`` and ``modelarts_default``."""
    if request.param == "jobapi":
        connection = request.getfixturevalue("jobapi_server").connection
    else:
        connection = request.getfixturevalue("modelarts").connection_for(request.param)
    for name in ("JOBAPI", "MODELARTS"):
        monkeypatch.setenv(f"AIRFLOW_CONN_{name}_DEFAULT", json.dumps(connection))
    return request.param


def test_train_and_fetch(inline, served, tmp_path):
    rows = tmp_path / "rows"
    rows.mkdir()
    (rows / "a.csv").write_text("1,2\n")
    run = inline.run("train_on_modelarts", {**LIGHT, "rows": rows.as_uri(), "models": (tmp_path / "m").as_uri()})
    assert run.states == {"files": "success", "train": "success", "fetch": "success"}
    (version,) = (tmp_path / "m").iterdir()
    assert (version / "saved_model.pb").exists()
    assert Path(run.xcom("fetch").removeprefix("file://")) == version
    assert run.xcom("train", "trainingStatus")["status"] == "SUCCESSFUL"


def test_a_script_that_lacks_a_package_says_which(inline, served, capfd):
    script = "raise ModuleNotFoundError(\"No module named 'sklearn'\")\n"
    run = inline.run("train_from_conf", {"script": script, "requirements": ""})
    assert run.states == {"train": "failed"}
    said = "".join(capfd.readouterr()).partition("JobFailed")[2]
    assert "no module sklearn: add its package, scikit-learn, to requirements.\n" in said.replace("\\n", "\n")


def test_a_failed_script_is_a_failed_task(inline, served, capfd):
    run = inline.run("train_from_conf", {"script": "print('so it is')\nraise SystemExit(3)\n", "requirements": ""})
    assert run.states == {"train": "failed"}
    assert run.xcom("train", "trainingStatus")["status"] == "FAILED"
    said = "".join(capfd.readouterr()).partition("JobFailed")[2]
    reasons = {
        "jobapi": "failed: NonZeroExit, exit code 3.",
        "v1": "failed: FAILED. ModelArts reports FAILED without a reason; see the end of the job's log.",
        "v2": "failed: NonZeroExit, exit code 3. ModelArts reports Failed. worker-0: ",
    }
    assert reasons[served] in said
    assert "so it is" in said.partition("The last lines of its log:")[2]


@pytest.mark.parametrize(
    ("dialect", "ends", "said"),
    [
        (
            "v1",
            "DELETE",
            ("(ModelArts.2775: Training job (ID: ", "it was deleted. A retry of the task starts a new job."),
        ),
        (
            "v2",
            "stop",
            (" was stopped: on ModelArts (", "), which does not report by whom. Clear the task to train again."),
        ),
    ],
)
def test_a_job_is_stopped_or_deleted_while_the_task_waits(inline, modelarts, monkeypatch, capfd, dialect, ends, said):
    monkeypatch.setenv("AIRFLOW_CONN_JOBAPI_DEFAULT", json.dumps(modelarts.connection_for(dialect)))
    before = len(modelarts.requests())

    def end():
        poll(lambda: [each for each in new() if each["path"].endswith("/training-jobs")], 60, "the job")
        poll(lambda: [each for each in new() if "log" in each["path"]], 60, "the job to be followed")
        job = next(each["path"] for each in new() if "log" in each["path"]).split("/log")[0].split("/tasks")[0]
        if ends == "DELETE":
            Caller(modelarts).ok("DELETE", job.split("/versions")[0])
        else:
            Caller(modelarts).ok("POST", f"{job}/actions", {"action_type": "terminate"})

    def new():
        return [each for each in modelarts.requests()[before:] if "training-jobs" in each["path"]]

    ending = threading.Thread(target=end)
    ending.start()
    run = inline.run("train_from_conf", {"script": "import time\ntime.sleep(600)\n", "requirements": ""})
    ending.join()
    assert run.states == {"train": "failed"}
    shown = "".join(capfd.readouterr())
    assert [part for part in said if part not in shown] == []


@pytest.mark.parametrize("dialect", ["v1", "v2"])
def test_a_job_whose_time_is_over_is_asked_to_stop_once(inline, modelarts, monkeypatch, dialect):
    monkeypatch.setenv("AIRFLOW_CONN_JOBAPI_DEFAULT", json.dumps(modelarts.connection_for(dialect)))
    before = len(modelarts.requests())
    run = inline.run("stub_timeout", {"env": {"GATE": "/never"}})
    assert set(run.states.values()) == {"failed"}
    stops = [each["path"] for each in modelarts.requests()[before:] if each["path"].endswith(("/stop", "/actions"))]
    assert len(stops) == len(set(stops)) == 2
