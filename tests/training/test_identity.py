# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_jobapi.exceptions import BrokenContract, JobGone, JobNotFound
from airflow_provider_jobapi.training.identity import Cycle, walk
from airflow_provider_jobapi.training.status import JobState

START = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
CYCLE = Cycle("dag", "scheduled__2026-01-02", START, "train", -1, 2)


def service(states: dict[str, JobState | type[Exception]]):
    def look_up(job_id: str) -> JobState:
        state = states.get(job_id, JobNotFound)
        if isinstance(state, JobState):
            return state
        raise state(job_id)

    return look_up


def test_the_id_of_a_job_never_changes():
    # Jobs of running Airflows are found again by this very value.
    assert CYCLE.job_id(0) == "1e831c83-f3d8-578d-b0cf-9cf3a3dc7101"


def test_the_time_zone_of_the_start_does_not_matter():
    moved = dataclasses.replace(CYCLE, run_start=START.astimezone(timezone(timedelta(hours=5))))
    assert moved.job_id(0) == CYCLE.job_id(0)


@pytest.mark.parametrize(
    "change",
    [
        {"dag_id": "dag2"},
        {"run_id": "manual__1"},
        {"run_start": START + timedelta(microseconds=1)},
        {"run_start": None},
        {"task_id": "train2"},
        {"map_index": 0},
        {"max_tries": 3},
    ],
)
def test_whatever_makes_another_cycle_makes_another_id(change):
    assert dataclasses.replace(CYCLE, **change).job_id(0) != CYCLE.job_id(0)


def test_names_that_run_together_stay_apart():
    left = dataclasses.replace(CYCLE, dag_id="a", run_id="b,c")
    right = dataclasses.replace(CYCLE, dag_id="a,b", run_id="c")
    assert left.job_id(0) != right.job_id(0)


def test_the_first_try_submits_generation_0():
    place = walk(CYCLE, service({}))
    assert (place.generation, place.job_id, place.state) == (0, CYCLE.job_id(0), None)


@pytest.mark.parametrize("state", [JobState.PENDING, JobState.RUNNING, JobState.SUCCESSFUL, JobState.UNKNOWN])
def test_an_active_or_successful_job_is_adopted(state):
    place = walk(CYCLE, service({CYCLE.job_id(0): state}))
    assert (place.job_id, place.state) == (CYCLE.job_id(0), state)


@pytest.mark.parametrize("end", [JobState.FAILED, JobState.STOPPED, JobGone])
def test_a_failed_stopped_or_gone_job_is_never_adopted(end):
    place = walk(CYCLE, service({CYCLE.job_id(0): end}))
    assert (place.generation, place.job_id, place.state) == (1, CYCLE.job_id(1), None)


@given(st.lists(st.sampled_from([JobState.FAILED, JobState.STOPPED, JobGone]), max_size=20))
def test_the_walk_ends_behind_the_last_failed_generation(ends):
    states = {CYCLE.job_id(generation): end for generation, end in enumerate(ends)}
    assert walk(CYCLE, service(states)).generation == len(ends)
    states[CYCLE.job_id(len(ends))] = JobState.RUNNING
    assert walk(CYCLE, service(states)).state is JobState.RUNNING


def test_a_service_that_calls_everything_failed_is_broken():
    with pytest.raises(BrokenContract):
        walk(CYCLE, lambda _: JobState.FAILED)


def test_an_error_of_the_service_is_not_an_answer():
    def unreachable(job_id: str) -> JobState:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        walk(CYCLE, unreachable)
