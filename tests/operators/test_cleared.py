# SPDX-License-Identifier: Apache-2.0
"""A clear ends the job of before it, also where no triggerer ever ran its trigger."""

from __future__ import annotations

from airflow_provider_jobapi.training.identity import Cycle
from tests.harness.tries import Task


def test_the_try_after_a_clear_stops_the_job_of_before_and_trains_again(connected):
    task = Task(deferrable=True, env={"GATE": "/never"})
    task.max_tries = 1
    task.submit()
    before = task.job_id
    connected.wait_for(before, "RUNNING")
    task.max_tries = 3
    operator = task.operator()
    trigger = task.submit(operator, try_number=2)
    assert connected.wait_for(before, "STOPPED")["reason"] == "Stopped"
    assert task.job_id == trigger.job_id != before
    assert connected.wait_for(task.job_id, "RUNNING")
    connected.request("POST", f"/api/v2/jobs/{task.job_id}/stop")


def test_a_retry_leaves_its_own_cycle_alone(connected):
    task = Task(deferrable=True, env={"GATE": "/never"})
    task.max_tries = 2
    task.submit()
    job = task.job_id
    task.submit(try_number=2)
    assert task.job_id == job
    assert connected.wait_for(job, "RUNNING")
    connected.request("POST", f"/api/v2/jobs/{job}/stop")


def test_the_cycles_of_before_are_those_with_fewer_tries():
    cycle = Cycle("d", "r", None, "t", -1, 3)
    assert [each.max_tries for each in cycle.earlier()] == [0, 1, 2]
    assert len({each.job_id(0) for each in (*cycle.earlier(), cycle)}) == 4
