# SPDX-License-Identifier: Apache-2.0
"""A worker gets SIGTERM: its job is stopped where nobody wants it any more, and goes on where nobody can be asked."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from airflow_provider_jobapi._airflow import AirflowTaskTimeout
from airflow_provider_jobapi.exceptions import JobStopped
from airflow_provider_jobapi.operators.termination import Termination
from airflow_provider_jobapi.services.jobapi.service import JobApiService
from tests.harness.server import poll
from tests.harness.tries import Task

AWAY = RuntimeError("API_SERVER_ERROR: connection refused")
"""What the task's supervisor answers while Airflow's API server is away."""


class Airflow:
    """Answers what the state of the task is: these answers, the last one for ever.

    :ivar asked: How often it was asked since the SIGTERM.
    """

    def __init__(self) -> None:
        self.answers: list[Exception | str] = ["running"]
        self.asked = 0
        self.lock = threading.Lock()

    def get_task_states(self, **_: Any) -> dict[str, Any]:
        if threading.current_thread() is threading.main_thread():
            return {"r": {"train": "running"}}  # the question before the deferral, which is not the one tested here
        with self.lock:  # as the connection to the supervisor has one
            self.asked += 1
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return {"r": {"train": answer}}


@pytest.fixture
def says(mocker: Any, monkeypatch: pytest.MonkeyPatch) -> Airflow:
    airflow = Airflow()
    place = "airflow.sdk.execution_time.task_runner.RuntimeTaskInstance.get_task_states"
    mocker.patch(place, side_effect=airflow.get_task_states)
    monkeypatch.setattr(Termination, "interval", 0.05)
    return airflow


@pytest.fixture
def handled() -> Iterator[Callable[[Any], None]]:
    """Installs the operator's ``on_kill`` as the handler of SIGTERM, as Airflow does."""
    before = signal.getsignal(signal.SIGTERM)
    yield lambda operator: signal.signal(signal.SIGTERM, lambda *_: operator.on_kill()) and None
    signal.signal(signal.SIGTERM, before)


def run(task: Task, handled: Callable[[Any], None], then: Callable[[], None]) -> Any:
    """Run a task inline, in this thread as Airflow does; once its job runs, SIGTERM comes and ``then`` is called."""
    operator = task.operator()
    handled(operator)
    failed: list[BaseException] = []

    def terminate() -> None:
        try:
            poll(lambda: "training_job_id" in task.xcoms, 30, "the job's id")
            os.kill(os.getpid(), signal.SIGTERM)
            then()
        except BaseException as error:  # noqa: BLE001
            failed.append(error)

    other = threading.Thread(target=terminate)
    other.start()
    try:
        return operator.execute(task.context(operator))
    finally:
        other.join()
        assert not failed, failed


def test_where_nobody_can_be_asked_the_job_goes_on_and_so_does_the_asking(connected, says, handled, tmp_path, capsys):
    says.answers = [AWAY]
    train = Task(deferrable=False, env={"GATE": str(tmp_path / "gate")})

    def then() -> None:
        poll(lambda: says.asked > 5, 30, "it asks again and again")
        assert connected.status(train.job_id)["status"] in {"PENDING", "RUNNING"}
        (tmp_path / "gate").touch()

    assert run(train, handled, then)["status"] == "SUCCESSFUL"
    assert "does not say whether its job is still wanted, so the job goes on" in capsys.readouterr().out


@pytest.mark.parametrize(
    "answers", [["failed"], ["success"], ["restarting"], [AWAY, AWAY, "failed"], ["running", "failed"]]
)
def test_a_job_that_nobody_wants_is_stopped_also_when_airflow_says_so_late(
    connected, says, handled, answers: Sequence[Any]
):
    says.answers = list(answers)
    train = Task(deferrable=False, env={"GATE": "/never"})
    with pytest.raises(JobStopped, match="since its task was killed"):
        run(train, handled, lambda: None)
    assert connected.status(train.job_id)["status"] == "STOPPED"


@pytest.mark.parametrize("state", ["up_for_retry", "queued", "running"])
def test_the_next_try_adopts_the_job_of_a_worker_that_its_supervisor_ends(connected, says, handled, tmp_path, state):
    """The API server is back within the 5 seconds that the supervisor gives, or the scheduler missed heartbeats."""
    says.answers = [AWAY, state]
    train = Task(deferrable=False, env={"GATE": str(tmp_path / "gate")})

    def then() -> None:
        poll(lambda: says.asked > 5, 30, "it asks again and again")
        assert connected.status(train.job_id)["status"] in {"PENDING", "RUNNING"}
        (tmp_path / "gate").touch()

    assert run(train, handled, then)["status"] == "SUCCESSFUL"


def test_a_worker_that_somebody_else_terminates_leaves_no_job_behind(connected, says, handled, monkeypatch):
    """Airflow's supervisor would have killed it by then."""
    monkeypatch.setattr(Termination, "spared", 0.5)
    train = Task(deferrable=False, env={"GATE": "/never"})
    with pytest.raises(JobStopped, match="since its task was killed"):
        run(train, handled, lambda: None)
    assert connected.status(train.job_id)["status"] == "STOPPED"


@pytest.mark.parametrize("answers", [[AWAY, "running"], ["running", AWAY, "running"]])
def test_an_outage_is_no_time_in_which_the_worker_was_spared(says, monkeypatch, answers):
    """The state is asked for ten times after the last outage before the worker counts as spared."""
    now = iter(range(0, 10_000, 2))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(now)))
    monkeypatch.setattr(Termination, "interval", 0.0)
    says.answers = list(answers)
    termination = Termination(Task().context(Task().operator())["ti"], _Silent(), lambda: None)
    thread = threading.Thread(target=termination._run)
    thread.start()
    thread.join()
    assert termination.unwanted
    assert says.asked == len(answers) + 3


def test_a_question_that_took_long_begins_the_time_again(says, monkeypatch):
    """Airflow's API was away meanwhile, and the supervisor waited for it."""
    now = iter([0, 1, 10, 30, 31, 32, 50, 51])
    monkeypatch.setattr(time, "monotonic", lambda: float(next(now)))
    monkeypatch.setattr(Termination, "interval", 0.0)
    termination = Termination(Task().context(Task().operator())["ti"], _Silent(), lambda: None)
    thread = threading.Thread(target=termination._run)
    thread.start()
    thread.join()
    assert says.asked == 4


class _Silent:
    def info(self, _: str) -> None: ...

    warning = info


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("answers", [["failed"], [AWAY, "restarting"]])
def test_a_submit_of_a_job_that_nobody_wants_ends_and_leaves_nothing(
    connected, mocker, says, handled, when, answers: Sequence[Any]
):
    """The worker's one connection to its supervisor is in use when the signal comes: the handler must not wait."""
    says.answers = list(answers)
    train = Task(deferrable=True, env={"GATE": "/never"})
    operator = train.operator()
    handled(operator)
    real, ids = JobApiService.submit, []

    def submit(service, job, job_id):
        ids.append(job_id)
        if when == "after":
            real(service, job, job_id)
        with says.lock:
            os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait(30)
        raise AssertionError("The submit was not interrupted.")

    mocker.patch.object(JobApiService, "submit", submit)
    with pytest.raises(JobStopped, match="killed while it submitted its job"):
        operator.execute(train.context(operator))
    answer = connected.request("GET", f"/api/v2/jobs/{ids[0]}")
    if when == "before":
        assert answer.status_code == 404
    else:
        connected.wait_for(ids[0], "STOPPED")


def test_a_worker_that_was_terminated_in_an_outage_and_defers_leaves_its_job_to_the_trigger(
    connected, mocker, says, handled, tmp_path
):
    says.answers = [AWAY]
    train = Task(deferrable=True, env={"GATE": str(tmp_path / "gate")})
    operator = train.operator()
    handled(operator)
    real = JobApiService.submit

    def submit(service, job, job_id):
        os.kill(os.getpid(), signal.SIGTERM)
        poll(lambda: says.asked > 2, 30, "it asks")
        return real(service, job, job_id)

    mocker.patch.object(JobApiService, "submit", submit)
    train.submit(operator)
    asked = says.asked
    says.answers = ["failed"]  # of the deferred task, which is the trigger's business
    threading.Event().wait(0.5)
    assert says.asked <= asked + 1
    assert connected.status(train.job_id)["status"] in {"PENDING", "RUNNING"}
    (tmp_path / "gate").touch()
    connected.wait_for(train.job_id, "SUCCESSFUL")


def test_a_limit_that_airflow_keeps_itself_asks_nobody(connected, mocker, says):
    says.answers = [AWAY]
    train = Task(deferrable=True, env={"GATE": "/never"})
    operator = train.operator()
    real, ids = JobApiService.submit, []

    def submit(service, job, job_id):
        ids.append(job_id)
        real(service, job, job_id)
        raise AirflowTaskTimeout

    mocker.patch.object(JobApiService, "submit", submit)
    try:
        operator.execute(train.context(operator))
    except AirflowTaskTimeout:
        operator.on_kill()
    connected.wait_for(ids[0], "STOPPED")
    assert says.asked == 0
