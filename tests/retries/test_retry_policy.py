# SPDX-License-Identifier: Apache-2.0
"""Which error is tried again and when: the table, the policy, and a real Airflow that follows both."""

from __future__ import annotations

import copy
import json
import re
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import airflow.sdk
import pytest

from airflow_provider_jobapi import exceptions, retries
from airflow_provider_jobapi.exceptions import JobFailed, QuotaReached, ServiceUnavailable, TrainingError
from airflow_provider_jobapi.retries import training_retry_policy, wait_after
from airflow_provider_jobapi.training.status import Reason
from tests.harness.promised import OTHER_VERSION
from tests.harness.server import running
from tests.harness.tries import Task

MINUTES = {
    exceptions.InvalidJob: None,
    exceptions.JobEnded: None,
    exceptions.JobFailed: None,
    exceptions.JobStopped: None,
    exceptions.NoSavedModel: None,
    exceptions.JobNotFound: None,
    exceptions.JobGone: None,
    exceptions.JobConflict: None,
    exceptions.ConnectionProblem: 10,
    exceptions.QuotaReached: 60,
    exceptions.ServiceUnavailable: 1,
    exceptions.BrokenContract: 10,
}
"""What the next try waits for; None where the task's own retry_delay holds."""

DOCS = Path(__file__).parents[2] / "docs" / "errors-and-retries.md"

policies = pytest.mark.skipif(
    not hasattr(airflow.sdk, "RetryPolicy"), reason=f"{OTHER_VERSION}retry policies came with 3.3"
)


def of_the_tree() -> set[type[TrainingError]]:
    """Every error class of the provider."""
    found = {each for each in vars(exceptions).values() if isinstance(each, type) and issubclass(each, TrainingError)}
    return found - {TrainingError}


def minutes(error: BaseException) -> float | None:
    wait = wait_after(error)
    return None if wait is None else wait.delay.total_seconds() / 60


def test_every_error_has_its_wait():
    assert of_the_tree() == set(MINUTES)
    assert {kind: minutes(kind("Told.")) for kind in MINUTES} == MINUTES
    assert minutes(ValueError("a bug")) is None


@pytest.mark.parametrize(
    ("error", "waited"),
    [
        (ServiceUnavailable("Busy.", retry_after=5), 1),
        (ServiceUnavailable("Busy.", retry_after=1800), 30),
        *((JobFailed("Failed.", reason=reason), None) for reason in (None, "NonZeroExit", "OutOfMemory", "New")),
        (JobFailed("Failed.", reason=Reason.ENVIRONMENT_FAILED.value), None),
        (JobFailed("Failed.", reason=Reason.LOST.value), 1),
        (JobFailed("Failed.", reason=Reason.STORAGE_FULL.value), 60),
    ],
)
def test_what_an_error_holds_is_looked_at(error, waited):
    assert minutes(error) == waited


def test_the_docs_name_every_error_once():
    rows = re.findall(r"^\| `(\w+)`", DOCS.read_text(), re.MULTILINE)
    assert sorted(set(rows)) == sorted(kind.__name__ for kind in of_the_tree() - {exceptions.JobEnded})


def test_a_client_without_room_is_told_so(tmp_path, monkeypatch):
    with running(tmp_path / "small", "--storage-bound", "1000") as server:
        monkeypatch.setenv("AIRFLOW_CONN_JOBAPI_DEFAULT", json.dumps(server.connection))
        with pytest.raises(QuotaReached, match="no room"):
            Task(deferrable=True, data_input={"big.csv": "x" * 5_000}).submit()


def test_an_airflow_without_policies_is_told_in_one_sentence(monkeypatch):
    monkeypatch.delattr(retries, "TrainingRetryPolicy", raising=False)
    with pytest.raises(RuntimeError, match=r"^Retry policies came with Airflow 3\.3, and this is \d.*: leave"):
        training_retry_policy()


@policies
def test_the_policy_says_when_and_leaves_how_often_to_the_task():
    from airflow.sdk import RetryAction

    policy = copy.deepcopy(training_retry_policy())
    decision = policy.evaluate(ServiceUnavailable("Busy.", retry_after=120), 1, 3)
    assert (decision.action, decision.retry_delay) == (RetryAction.RETRY, timedelta(minutes=2))
    assert decision.reason.endswith("the next try goes on with the job, if one was submitted.")
    for error in (JobFailed("Failed.", reason="NonZeroExit"), ValueError("a bug"), MemoryError()):
        assert policy.evaluate(error, 1, 3).action is RetryAction.DEFAULT


@policies
def test_the_rules_of_the_dags_author_win():
    from airflow.sdk import RetryAction, RetryRule

    policy = training_retry_policy(
        RetryRule(QuotaReached, RetryAction.FAIL), RetryRule(JobFailed, retry_delay=timedelta(hours=5))
    )
    assert policy.evaluate(QuotaReached("Full."), 1, 3).action is RetryAction.FAIL
    assert policy.evaluate(JobFailed("Failed.", reason="Lost"), 1, 3).retry_delay == timedelta(hours=5)
    assert policy.evaluate(ServiceUnavailable("Busy."), 1, 3).retry_delay == timedelta(minutes=1)


@policies
def test_a_real_airflow_follows_the_table(airflow, jobapi_server):
    airflow.connect("jobapi_refused", jobapi_server.connection | {"password": "wrong"})
    run_id = airflow.run("retries")
    airflow.wait_for_state("retries", run_id, "train", "up_for_retry")
    airflow.wait_for_state("retries", run_id, "train_once", "failed")
    airflow.wait_for_state("retries", run_id, "invalid", "failed")
    airflow.wait_for_state("retries", run_id, "code", "failed")
    tasks = {name: airflow.task("retries", run_id, name) for name in ("train", "train_once", "invalid", "code")}
    assert {name: (task["state"], task["try_number"]) for name, task in tasks.items()} == {
        "train": ("up_for_retry", 1),
        "train_once": ("failed", 1),
        "invalid": ("failed", 1),
        "code": ("failed", 2),
    }
    assert "refuses the client" in str(airflow.log("retries", run_id, "train"))
    query = "select retry_delay_override, retry_reason from task_instance where task_id = 'train' and run_id = ?"
    with closing(sqlite3.connect(airflow.home / "airflow.db")) as database:
        ((delay, reason),) = database.execute(query, (run_id,)).fetchall()
    assert (delay, reason) == (600, "The job service refuses the connection; the next try reads it again.")
    airflow.api("PATCH", f"dags/retries/dagRuns/{run_id}", {"state": "failed"})
