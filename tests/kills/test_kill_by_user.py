# SPDX-License-Identifier: Apache-2.0
"""Rows 6 and 7 of the kill matrix: a user ends a task, or its time is over."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.harness.airflow import wait_for
from tests.harness.cluster_training import Stage, Training
from tests.harness.proxy_faults import Point

pytestmark = pytest.mark.slow

TOLD_WITHIN = 15.0
GRACE = 2.0


@dataclass
class Wish:
    """A job that a user no longer wants."""

    training: Training
    job: str
    at: float

    def check_stopped(self) -> None:
        """It is told so within 15 seconds, and gone within the service's grace."""
        stage = self.training.stage
        stops = wait_for(
            f"{self.training.name} is told to stop", lambda: stage.network.sent(f"/{self.job}/stop"), 20, 0.1
        )
        assert stops[0].at - self.at < TOLD_WITHIN
        left = stops[0].at + GRACE + 3.0 - time.monotonic()
        wait_for(
            f"nothing of {self.training.name} runs", lambda: not self.training.alive(self.job), max(left, 0.1), 0.1
        )
        assert self.training.server.wait_for(self.job)["status"] == "STOPPED"
        stage.tally.kills += 1


def deferred(stage: Stage, *trainings: Training) -> list[str]:
    """Wait until trainings run and their tasks are deferred; answers their jobs."""
    jobs = [training.wait_for_job() for training in trainings]
    for training in trainings:
        training.wait("deferred")
    return jobs


def act(training: Training, job: str, action: Callable[[], None]) -> Wish:
    """Do what a user does, and note when."""
    at = time.monotonic()
    action()
    return Wish(training, job, at)


def test_row_6_a_user_ends_a_deferred_task(stage: Stage) -> None:
    trainings = [stage.train(env={"stubborn": number % 2}) for number in range(3)]
    jobs = deferred(stage, *trainings)
    for training, job in zip(trainings, jobs, strict=True):
        # Airflow forgets a trigger that no triggerer has taken up, and with it the wish: see the compatibility table.
        training.wait_for_lines(job, 1)
    failed, done, run_failed = trainings
    wishes = [
        act(failed, jobs[0], lambda: failed.mark("failed")),
        act(done, jobs[1], lambda: done.mark("success")),
        act(run_failed, jobs[2], lambda: run_failed.mark_run("failed")),
    ]
    for wish in wishes:
        wish.check_stopped()
    failed.check("STOPPED", state="failed")
    done.check("STOPPED", state="success")
    run_failed.check("STOPPED", state="failed")

    failed.delete_run()
    again = stage.train(run_id=failed.run_id, name=failed.name)
    assert again.run_id == failed.run_id
    job = again.wait_for_job(count=2)
    again.end()
    again.check_lines(job, 1)
    again.check("STOPPED", "SUCCESSFUL")


def test_row_6_a_user_clears_a_deferred_task(stage: Stage) -> None:
    once, twice = (stage.train() for _ in range(2))
    jobs = deferred(stage, once, twice)
    wishes = [act(once, jobs[0], once.clear), act(twice, jobs[1], twice.clear)]
    twice.clear()
    for wish in wishes:
        wish.check_stopped()
    for training in (once, twice):
        job = training.wait_for_job(count=len(training.wait_for_fresh_job(jobs)))
        training.wait("deferred")
        training.end()
        attempt = training.task()["try_number"]
        assert attempt >= 2
        training.check_lines(job, attempt)
        assert not stage.network.sent(f"/{job}/stop")
    once.check("STOPPED", "SUCCESSFUL")
    *stopped, last = [each["status"] for each in twice.jobs()]
    assert set(stopped) == {"STOPPED"}
    assert last == "SUCCESSFUL"


def test_row_6_a_user_clears_a_deferred_task_while_no_triggerer_lives(stage: Stage) -> None:
    stage.cluster.triggerers[0].kill()
    training = stage.train()
    (job,) = deferred(stage, training)
    wish = act(training, job, training.clear)
    wish.check_stopped()
    fresh = training.wait_for_job(count=2)
    stage.cluster.start_triggerer(0)
    training.wait("deferred")
    training.end()
    training.check_lines(fresh, 2)
    training.check("STOPPED", "SUCCESSFUL")
    assert not stage.network.sent(f"/{fresh}/stop")


def test_row_6_a_user_clears_a_task_that_is_submitting(stage: Stage) -> None:
    with stage.network.hold(r"^POST /api/v2/jobs/[0-9a-f-]+$", Point.ANSWER) as held:
        training = stage.train()
        held.wait()
        job = training.wait_for_job()
        wish = act(training, job, training.clear)
        wish.check_stopped()
    fresh = training.wait_for_job(count=2)
    training.end()
    training.check_lines(fresh, training.task()["try_number"])
    training.check("STOPPED", "SUCCESSFUL")
    assert not stage.network.sent(f"/{fresh}/stop")


def test_row_6_a_user_clears_a_task_that_waits_for_its_retry(stage: Stage) -> None:
    training = stage.train("kills_slow_retry")
    training.finish(training.wait_for_job(), 1)
    training.wait("up_for_retry")
    training.clear()
    fresh = training.wait_for_job(count=2)
    training.end()
    training.check_lines(fresh, training.task()["try_number"])
    training.check("FAILED", "SUCCESSFUL")


def test_row_7_the_time_is_over_while_the_job_runs_and_while_it_waits(stage: Stage) -> None:
    blocker = stage.server.submit("import time; time.sleep(600)", resources={"gpus": 1})
    stage.server.wait_for(blocker, "RUNNING")
    limits = {"kills_timeout": "timeout of 0:00:08", "kills_execution_timeout": "execution_timeout of 0:00:12"}
    running = [(stage.train(dag_id), limit) for dag_id, limit in limits.items()]
    for training, _ in running:
        # The queue is first come, first served: a job behind one that waits for the GPU would wait, too.
        training.server.wait_for(training.wait_for_job(), "RUNNING")
    waiting = [(stage.train(dag_id, resources={"gpus": 1}), limit) for dag_id, limit in limits.items()]
    trainings = [*running, *waiting]
    for training, limit in trainings:
        training.wait("failed")
        assert any(limit in text for text in training.log()), training.log()
    for training, _ in trainings:
        (job,) = training.check("STOPPED", state="failed")
        assert len(stage.network.sent(f"/{job}/stop")) >= 1
        started = training.server.status(job)["startTime"]
        assert bool(started) == bool(training.lines(job))
    assert [bool(training.server.status(training.jobs()[0]["job_id"])["startTime"]) for training, _ in trainings] == [
        True,
        True,
        False,
        False,
    ]
    assert stage.server.status(blocker)["status"] == "RUNNING"
    stage.server.request("POST", f"/api/v2/jobs/{blocker}/stop")
    stage.server.wait_for(blocker, "STOPPED")
