# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
import signal

from airflow_provider_jobapi.server.run.engines.base import Engine, EngineState
from airflow_provider_jobapi.server.run.engines.local import LocalEngine
from tests.harness.bench import processes_of, supervisor_of
from tests.harness.server import poll
from tests.harness.supervised import supervised

__all__ = ["supervised"]


def test_a_job_is_active_from_its_submit_until_its_end(supervised):
    engine: Engine = LocalEngine()
    job = supervised("echo up; sleep 60", start=False)
    assert engine.poll([job.directory]) == {job.directory: EngineState.GONE}
    engine.submit(job.directory)
    assert engine.poll([job.directory]) == {job.directory: EngineState.ACTIVE}
    job.wait_for_line("up")
    assert engine.poll([job.directory]) == {job.directory: EngineState.ACTIVE}
    engine.cancel(job.directory, "alice", 0)
    assert job.record()["message"] == "Stopped by alice."
    poll(lambda: engine.poll([job.directory]) == {job.directory: EngineState.GONE}, 10, "the end")
    engine.forget(job.directory)


def test_another_engine_sees_the_same(supervised):
    job = supervised("echo up; sleep 60", start=False)
    LocalEngine().submit(job.directory)
    job.wait_for_line("up")
    other = LocalEngine()
    assert other.poll([job.directory]) == {job.directory: EngineState.ACTIVE}
    other.cancel(job.directory, "alice", 0)
    job.record()
    poll(lambda: other.poll([job.directory]) == {job.directory: EngineState.GONE}, 10, "the end")


def test_submitting_again_never_runs_it_again(supervised):
    job = supervised("echo run; sleep 0.3", start=False)
    engines = [LocalEngine() for _ in range(3)]
    for engine in engines * 3:
        engine.submit(job.directory)
    assert job.record()["exit_code"] == 0
    for engine in engines:
        poll(lambda engine=engine: engine.poll([job.directory])[job.directory] == EngineState.GONE, 20, "the end")
        engine.submit(job.directory)
        poll(lambda engine=engine: engine.poll([job.directory])[job.directory] == EngineState.GONE, 20, "the end")
    assert job.lines() == ["run"]


def test_the_first_wish_to_end_counts(supervised):
    job = supervised("sleep 60", start=False)
    engine = LocalEngine()
    engine.cancel(job.directory, "alice", 3)
    engine.cancel(job.directory, "bob", 5)
    assert json.loads((job.directory / "stop").read_text()) == {"by": "alice", "grace": 3}


def test_forgetting_a_lost_job_ends_what_it_left(supervised):
    job = supervised("echo up; (sleep 60; true) & (sleep 60; true) & wait", start=False)
    engine = LocalEngine()
    engine.submit(job.directory)
    job.wait_for_line("up")
    os.kill(supervisor_of(job.directory), signal.SIGKILL)
    engine.forget(job.directory)
    assert processes_of(job.directory) == []


def test_a_supervisor_sees_nothing_of_the_servers_variables(supervised, monkeypatch):
    monkeypatch.setenv("JOBAPI_SECRET", "hidden")
    job = supervised("echo up; sleep 60", start=False)
    LocalEngine().submit(job.directory)
    job.wait_for_line("up")
    with open(f"/proc/{supervisor_of(job.directory)}/environ", "rb") as file:  # noqa: PTH123
        names = {entry.split(b"=")[0] for entry in file.read().split(b"\0") if entry}
    assert names == {b"PATH", b"LC_ALL"}
