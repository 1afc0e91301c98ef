# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from airflow_provider_jobapi.server.config import Settings, SettingsError
from airflow_provider_jobapi.server.run.engines import make_engine
from airflow_provider_jobapi.server.run.engines.base import Engine, EngineState, PlacementRequest
from airflow_provider_jobapi.server.run.engines.local import LocalEngine
from airflow_provider_jobapi.server.store.job_record import JobKey
from airflow_provider_jobapi.training.job_file import Resources
from tests.harness.bench import processes_of, supervisor_of
from tests.harness.server import poll
from tests.harness.supervised import Supervised, supervised

__all__ = ["supervised"]


def make() -> Engine:
    return LocalEngine(Resources(cpus=4))


def request(job: Supervised) -> PlacementRequest:
    return PlacementRequest(key=JobKey("client", job.directory.name), directory=job.directory, resources=Resources())


def state(engine: Engine, job: Supervised) -> EngineState:
    placed = request(job)
    return engine.poll([placed])[placed.key].state


def test_the_settings_name_the_engine():
    settings = Settings(root=Path("/nowhere"), engine="local", cpus=3, gpus=1, memory=500, jobs_as_root=True)
    engine = make_engine(settings)
    assert isinstance(engine, LocalEngine)
    assert engine.capacity == Resources(cpus=3, gpus=1, memory=500)


def test_an_unknown_engine_is_refused_with_the_known_names():
    with pytest.raises(SettingsError) as refused:
        make_engine(Settings(root=Path("/nowhere"), engine="abacus"))
    assert str(refused.value) == "--engine cannot be 'abacus': the known engines are local."


def test_a_job_is_active_from_its_placement_until_its_end(supervised):
    engine = make()
    job = supervised("echo up; sleep 60", start=False)
    assert state(engine, job) == EngineState.GONE
    engine.place(request(job))
    assert state(engine, job) == EngineState.ACTIVE
    job.wait_for_line("up")
    assert state(engine, job) == EngineState.ACTIVE
    engine.cancel(request(job), "alice", 0)
    assert job.record()["message"] == "Stopped by alice."
    poll(lambda: state(engine, job) == EngineState.GONE, 10, "the end")
    engine.forget(request(job))


def test_the_engine_of_a_restarted_server_finds_the_job(supervised):
    job = supervised("echo up; sleep 60", start=False)
    make().place(request(job))
    job.wait_for_line("up")
    other = make()
    assert state(other, job) == EngineState.ACTIVE
    other.cancel(request(job), "alice", 0)
    job.record()
    poll(lambda: state(other, job) == EngineState.GONE, 10, "the end")


def test_placing_a_job_again_never_runs_it_again(supervised):
    job = supervised("echo run; sleep 0.3", start=False)
    engines = [make() for _ in range(3)]
    for engine in engines * 3:
        engine.place(request(job))
    assert job.record()["exit_code"] == 0
    for engine in engines:
        poll(lambda engine=engine: state(engine, job) == EngineState.GONE, 20, "the end")
        engine.place(request(job))
        poll(lambda engine=engine: state(engine, job) == EngineState.GONE, 20, "the end")
    assert job.lines() == ["run"]


def test_the_first_stop_request_counts(supervised):
    job = supervised("sleep 60", start=False)
    engine = make()
    engine.cancel(request(job), "alice", 3)
    engine.cancel(request(job), "bob", 5)
    assert json.loads((job.directory / "stop").read_text()) == {"by": "alice", "grace": 3}


def test_forgetting_a_lost_job_ends_the_processes_that_it_left(supervised):
    job = supervised("echo up; (sleep 60; true) & (sleep 60; true) & wait", start=False)
    engine = make()
    engine.place(request(job))
    job.wait_for_line("up")
    os.kill(supervisor_of(job.directory), signal.SIGKILL)
    engine.forget(request(job))
    assert processes_of(job.directory) == []


def test_a_supervisor_gets_none_of_the_servers_variables(supervised, monkeypatch):
    monkeypatch.setenv("JOBAPI_SECRET", "hidden")
    job = supervised("echo up; sleep 60", start=False)
    make().place(request(job))
    job.wait_for_line("up")
    with open(f"/proc/{supervisor_of(job.directory)}/environ", "rb") as file:  # noqa: PTH123
        names = {entry.split(b"=")[0] for entry in file.read().split(b"\0") if entry}
    assert names == {b"PATH", b"LC_ALL"}
