# SPDX-License-Identifier: Apache-2.0
"""One run of a job: workers that are killed, or slow, or come at the same time, on real engines."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from airflow_provider_jobapi.exceptions import JobConflict, JobGone, JobNotFound, ServiceUnavailable, TrainingError
from airflow_provider_jobapi.services.retry import Retry
from airflow_provider_jobapi.services.train_container import names
from airflow_provider_jobapi.services.train_container.engine import Engine
from airflow_provider_jobapi.services.train_container.service import TrainContainerService
from airflow_provider_jobapi.training.status import JobState
from tests.services.train_container.station import Station, end_of, scripted


class Killed(BaseException):
    """Ends a worker at once, as SIGKILL does: no ``except Exception`` sees it."""


@contextmanager
def killed_at(service: TrainContainerService, method: str, *, after: bool = False) -> Iterator[None]:
    """Kill a worker where it calls a method of the engine, before or after the engine has done it."""
    original = getattr(service.engine, method)

    def call(*given: Any, **named: Any) -> Any:
        if after:
            original(*given, **named)
        raise Killed

    setattr(service.engine, method, call)
    with pytest.raises(Killed):
        yield
    setattr(service.engine, method, original)


def containers(station: Station, job_id: str) -> list[Any]:
    return list(station.engine.client.containers(all=True, filters={"label": [f"{names.JOB_ID}={job_id}"]}))


def runs(service: TrainContainerService, handle: Any) -> int:
    """How often the train of a job was run, by its log."""
    lines = service.last_lines(handle, 100)
    assert lines, "the log is empty"
    return sum(line == "ran" for line in lines)


PLAN = scripted("print('ran', flush=True)\nanswer()")


@pytest.mark.parametrize(
    ("method", "after"),
    [("create", False), ("create", True), ("create_volume", True), ("start", False), ("start", True)],
)
def test_a_worker_that_is_killed_while_it_submits(station: Station, method: str, after: bool) -> None:
    """The next try runs the train, once."""
    job_id, first = station.job_id(), station.service()
    with killed_at(first, method, after=after):
        first.launch(PLAN, job_id)
    second = station.service()
    if (method, after) == ("start", True):
        handle = second.find(job_id).handle
        end_of(second, handle)
        assert second.launch(PLAN, job_id).handle == handle
    else:
        handle = second.launch(PLAN, job_id).handle
    assert end_of(second, handle).status is JobState.SUCCESSFUL
    assert runs(second, handle) == 1
    assert len(containers(station, job_id)) == 1


def test_a_claim_that_nobody_has_started_counts_as_unknown(station: Station) -> None:
    job_id, first = station.job_id(), station.service()
    data = scripted("print('ran')\nanswer()", data={"rows.csv": "1"})
    with killed_at(first, "start"):
        first.launch(data, job_id)
    with pytest.raises(JobNotFound):
        station.service().find(job_id)
    assert not containers(station, job_id)
    assert not station.engine.client.volumes(filters={"label": [f"{names.JOB_ID}={job_id}"]})["Volumes"]
    service = station.service()
    handle = service.launch(data, job_id).handle
    assert end_of(service, handle).status is JobState.SUCCESSFUL
    assert runs(service, handle) == 1


def test_a_worker_that_was_only_slow_runs_nothing_again(station: Station) -> None:
    """It starts its container when another worker has taken the claim over, and the train has ended."""
    job_id, slow = station.job_id(), station.service()
    start = slow.engine.start

    def late(container: str) -> None:
        other = station.service()
        end_of(other, other.launch(PLAN, job_id).handle)
        start(container)

    slow.engine.start = late  # type: ignore[method-assign]
    handle = slow.launch(PLAN, job_id).handle
    assert end_of(slow, handle).status is JobState.SUCCESSFUL
    assert runs(slow, handle) == 1


def test_workers_that_come_at_the_same_time(station: Station) -> None:
    job_id = station.job_id()
    handles: list[Any] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            handles.append(station.service().launch(PLAN, job_id).handle)
        except (ServiceUnavailable, JobGone) as error:  # the next try of its task finds the job
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    service = station.service()
    handle = service.find(job_id).handle
    assert end_of(service, handle).status is JobState.SUCCESSFUL
    assert (runs(service, handle), len(containers(station, job_id))) == (1, 1)
    assert handles, errors


def test_a_start_whose_answer_is_lost_is_not_repeated(station: Station) -> None:
    job_id, service = station.job_id(), station.service()
    start = service.engine.start

    def lost(container: str) -> None:
        start(container)
        station.engine.client.wait(container)
        raise ServiceUnavailable("The answer was lost.")

    service.engine.start = lost  # type: ignore[method-assign]
    handle = service.launch(PLAN, job_id).handle
    assert end_of(service, handle).status is JobState.SUCCESSFUL
    assert runs(service, handle) == 1


def test_a_start_that_never_reached_the_engine_is_made_again(station: Station) -> None:
    job_id, service = station.job_id(), station.service()
    start = service.engine.start
    service.engine.start = lambda _: _raise(service.engine, start)  # type: ignore[method-assign]
    handle = service.launch(PLAN, job_id).handle
    assert end_of(service, handle).status is JobState.SUCCESSFUL
    assert runs(service, handle) == 1


def _raise(engine: Engine, start: Any) -> None:
    engine.start = start  # type: ignore[method-assign]
    raise ServiceUnavailable("The engine was away.")


def test_a_stop_before_the_start_wins(station: Station) -> None:
    """A task is cleared while its worker is about to start the container."""
    job_id, slow = station.job_id(), station.service()
    create = slow.engine.create_volume

    def stopped_meanwhile(name: str, labels: Any) -> Any:
        made = create(name, labels)
        handle = {"job_id": job_id, "container": names.container_name(job_id), "command": "run_algorithm"}
        station.service().stop(handle)
        return made

    slow.engine.create_volume = stopped_meanwhile  # type: ignore[method-assign]
    with pytest.raises(TrainingError):
        slow.launch(PLAN, job_id)
    slow.engine.create_volume = create  # type: ignore[method-assign]
    assert not containers(station, job_id)
    handle = slow.find(job_id).handle
    assert slow.status(handle).status is JobState.STOPPED


def test_another_job_of_the_same_id_is_refused(station: Station) -> None:
    job_id = station.job_id()
    service, handle = station.run(PLAN, job_id)
    with pytest.raises(JobConflict, match="another image, environment or data"):
        service.launch(scripted("answer(message='other')"), job_id)
    end_of(service, handle)


def test_an_engine_that_is_away_for_a_moment(station: Station) -> None:
    job_id = station.job_id()
    service = station.service()
    service._retry = service._containers._retry = Retry(total=20, attempts=10, longest_wait=0.1)
    calls = iter(range(100))
    inspect = service.engine.inspect

    def sometimes(container: str) -> Any:
        if next(calls) % 2 == 0:
            raise ServiceUnavailable("The engine is away.")
        return inspect(container)

    service.engine.inspect = sometimes  # type: ignore[method-assign]
    handle = service.launch(PLAN, job_id).handle
    assert end_of(service, handle).status is JobState.SUCCESSFUL
