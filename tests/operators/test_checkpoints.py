# SPDX-License-Identifier: Apache-2.0
"""The tries of a task continue one another's checkpoints, against the real server."""

from __future__ import annotations

import pytest

from airflow_provider_jobapi.exceptions import JobFailed
from airflow_provider_jobapi.services import base
from airflow_provider_jobapi.services.jobapi.service import JobApiService
from airflow_provider_jobapi.training import job_features
from tests.harness.tries import AirflowFailException, Task

SCRIPT = """
import os, pathlib, sys
folder = pathlib.Path(os.environ["CHECKPOINT_DIR"])
print("found", sorted(path.name for path in folder.iterdir()))
step = len(list(folder.iterdir())) + 1
(folder / f"step-{step}.json").write_text("{}")
sys.exit(0 if step == 3 else 1)
"""


def found(server, train: Task) -> str:
    lines = [line for line in server.job_log(train.job_id).splitlines() if " found [" in line]
    return lines[0].partition(" found ")[2]


def fail(train: Task) -> None:
    with pytest.raises(JobFailed):
        train.run()


def test_a_retry_continues_a_clear_begins_and_another_task_names_the_job(connected):
    train = Task(script=SCRIPT, keep_checkpoints=True)
    fail(train)
    assert found(connected, train) == "[]"
    first = train.job_id
    fail(train)
    assert found(connected, train) == "['step-1.json']"
    assert connected.status(train.job_id)["resumedFrom"] == first
    train.max_tries += 1
    fail(train)
    assert found(connected, train) == "[]", "a clear begins from nothing"
    fail(train)
    result = train.run()
    assert found(connected, train) == "['step-1.json', 'step-2.json']"
    other = Task(script=SCRIPT.replace("step == 3", "step == 4"), resume_from=result, task_id="tune")
    other.run()
    assert found(connected, other) == "['step-1.json', 'step-2.json', 'step-3.json']"
    with pytest.raises(AirflowFailException, match="was successful, so that its checkpoints are gone"):
        Task(script=SCRIPT, resume_from=other.job_id, task_id="third").run()


def test_a_server_without_checkpoints_is_named_once_and_refuses_resume_from(connected, monkeypatch, caplog):
    monkeypatch.setattr(job_features, "of_header", lambda _: frozenset())  # as that of an earlier server is read
    with caplog.at_level("INFO"):
        Task(script="print(1)").run()
    assert caplog.text.count(base.NO_CHECKPOINTS) == 1
    train = Task(script=SCRIPT, resume_from="6f2d9b0e-53b5-5c8e-9d0f-6a1f2f6f0c1a")
    with pytest.raises(
        AirflowFailException, match="does not know resume_from: leave it out, or have the server updated"
    ):
        train.run()


def test_a_service_without_checkpoints_says_so_once(connected, monkeypatch, capsys):
    monkeypatch.setattr(JobApiService, "keeps_checkpoints", False)
    Task(script="print(1)").run()
    assert capsys.readouterr().out.count(base.NO_CHECKPOINTS) == 1
    with pytest.raises(AirflowFailException, match="keeps no checkpoints: leave it out, or choose another connection"):
        Task(script=SCRIPT, resume_from="6f2d9b0e-53b5-5c8e-9d0f-6a1f2f6f0c1a").run()
