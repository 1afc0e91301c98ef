# SPDX-License-Identifier: Apache-2.0
"""Engines that are killed while a train is started, runs, and gets its successor: one run, nothing left running."""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from airflow_provider_jobapi.exceptions import JobConflict, JobGone, ServiceUnavailable, TrainingError
from airflow_provider_jobapi.services.base import Handle
from airflow_provider_jobapi.services.retry import Retry
from airflow_provider_jobapi.services.train_container import names
from airflow_provider_jobapi.services.train_container.plan import Plan
from airflow_provider_jobapi.services.train_container.service import TrainContainerService
from airflow_provider_jobapi.services.train_container.successor import Wanted
from airflow_provider_jobapi.training.status import JobState, JobStatus
from tests.harness.containers import left_behind
from tests.harness.containers.engine import BASE, Dockerd, Engine, Podman
from tests.harness.containers.programs import missing
from tests.harness.containers.registry import Registry
from tests.harness.containers.trains import make_trains
from tests.harness.waiting import wait_for
from tests.services.train_container.station import Station, end_of, followed, scripted

TERMINATED = "import signal; signal.signal(signal.SIGTERM, lambda *_: os._exit(143))\n"
LASTING = TERMINATED + "for number in range(20): print(f'line {number}', flush=True); time.sleep(0.1)\nanswer()"
EXPORTING = """
path = '/opt/pht_train/model/weights'
open(path, 'wb').write(os.urandom({size}))
answer(next_train_tag='n', export_files=[path], rebase=dict(type='docker', **{{'from': 'localhost/base:1'}}))
"""

KILLS = 24
"""Kills of the campaign, on each engine."""


@pytest.fixture(scope="module", params=["podman", "dockerd", "live_restore"])
def own(request: pytest.FixtureRequest, image_tree: Path, registry: Registry) -> Iterator[Engine]:
    kinds: dict[str, Callable[..., Engine]] = {
        "podman": Podman, "dockerd": Dockerd, "live_restore": partial(Dockerd, live_restore=True)
    }  # fmt: skip
    if why := missing(*Podman.programs, *Dockerd.programs):
        pytest.skip(why)
    with kinds[request.param](registries=[registry.address], counted=True) as engine:
        engine.load(image_tree, BASE)
        make_trains(engine)
        yield engine


@pytest.fixture
def station(own: Engine) -> Iterator[Station]:
    station = Station(own)
    yield station
    station.clean()


def goes_on(own: Engine) -> bool:
    """Whether containers go on when their engine is killed and comes back."""
    return not isinstance(own, Dockerd) or own.live_restore


def starts(station: Station, job_id: str) -> int:
    """How often the containers of a job that are there were started."""
    found = station.engine.client.containers(all=True, filters={"label": [f"{names.JOB_ID}={job_id}"]})
    return sum(station.engine.starts()[str(each["Id"])] for each in found)


def running(own: Engine) -> list[psutil.Process]:
    """The processes of containers."""
    found = []
    for process in left_behind.processes(own.home):
        with suppress(psutil.Error):
            if "/train.py" in process.cmdline():
                found.append(process)
    return found


def crash(own: Engine, away: float = 0.0) -> None:
    own.stop()
    time.sleep(away)
    own.start()


@pytest.mark.slow
def test_it_is_killed_while_a_train_runs(station: Station, own: Engine) -> None:
    service, handle = station.run(scripted(LASTING))
    followed(service, handle, until=lambda seen: len(seen) > 2)
    crash(own)
    status = end_of(service, handle)
    lines, _ = followed(service, handle)
    if goes_on(own):
        assert status.status is JobState.SUCCESSFUL, status.describe()
        assert len(lines) == 21
    else:
        assert (status.status, status.exit_code) == (JobState.FAILED, 143), status.describe()
        assert "It was ended by SIGTERM (143): by somebody, or by its engine, as Docker does " in status.message
    assert starts(station, handle["job_id"]) == 1
    assert not running(own)


@pytest.mark.slow
def test_a_train_ends_while_its_engine_is_away(station: Station, own: Engine) -> None:
    service, handle = station.run(scripted("print('began', flush=True); time.sleep(0.5); answer()"))
    followed(service, handle, until=bool)
    own.stop()
    wait_for("the train has ended", lambda: not running(own), 20)
    own.start()
    status = end_of(service, handle)
    if own.name == "podman":
        assert status.status is JobState.SUCCESSFUL, status.describe()
    else:
        assert (status.status, status.reason) == (JobState.FAILED, "NoResponse")
        assert status.message.endswith("was down when the train ended, what it printed meanwhile is lost.")
    assert starts(station, handle["job_id"]) == 1


def knows_the_start(engine: Engine, job_id: str) -> bool:
    """Whether an engine has noted when it started a container."""
    started: str = engine.client.inspect_container(names.container_name(job_id))["State"]["StartedAt"]
    return started > "0002"


@pytest.mark.slow
def test_it_is_killed_when_it_has_started_a_train_and_does_not_know_it(station: Station, own: Engine) -> None:
    job_id, service = station.job_id(), station.service()
    service._retry = service._containers._retry = Retry(attempts=1)
    plan = scripted("time.sleep(600)")
    own.die_at_a_start()
    with pytest.raises(ServiceUnavailable):
        service.launch(plan, job_id)
    crash(own)
    words = rf"^The engine \S+ was ended while it started the container jobapi-{job_id}, and does not know whether "
    for ask in (service.find, partial(service.launch, plan)):
        said = ""
        try:
            ask(job_id)
        except JobConflict as refused:
            said = str(refused)
        # With live-restore Docker may find it, sooner or later; without, where its last deed was to note the start.
        knows = getattr(own, "live_restore", False) or knows_the_start(own, job_id)
        assert re.match(words, said) or (not said and knows), said
    assert starts(station, job_id) == 1
    if not said and not getattr(own, "live_restore", False):
        assert not running(own), "it has ended what it knows of"
        return
    assert len(running(own)) == 1
    for process in running(own):  # as somebody does who is told so
        process.kill()
    wait_for("the train has ended", lambda: not running(own), 20)
    own.client.remove_container(names.container_name(job_id), force=True)
    with pytest.raises(JobGone):  # the next generation may run
        service.find(job_id)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["commit", "push"])
def test_it_is_killed_while_a_successor_is_made(
    station: Station, own: Engine, registry: Registry, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has done what it was asked for, and did not say so."""
    service, handle, _ = station.ended(scripted(EXPORTING.format(size=1000)))
    original, calls = getattr(service.engine, method), []

    def killed(*given: Any) -> Any:
        done = original(*given)
        calls.append(done)
        if len(calls) == 1:
            crash(own)
            raise ServiceUnavailable("It went away.")
        return done

    monkeypatch.setattr(service.engine, method, killed)
    repository = f"{station.engine.name}/after-{method}"
    wanted = Wanted(repository=f"{registry.address}/{repository}", push=True)
    made = service.successor(handle, wanted)
    assert made.digest == registry.digest(repository, "n")
    assert calls[0] == (made.digest if method == "push" else made.image_id)
    again = station.service().successor(handle, wanted)
    assert (again.digest, again.image_id) == (made.digest, made.image_id)
    assert starts(station, handle["job_id"]) == 1
    own.client.remove_image(made.image)


@pytest.mark.campaign
def test_it_is_killed_at_random_instants(own: Engine, registry: Registry) -> None:
    """Of the submit, the run, the making and the push of the successor."""
    seed = random.randrange(2**32)  # noqa: S311 -- no secret
    print(f"{seed=}")
    instants, ends = random.Random(seed), dict[str, int]()  # noqa: S311 -- no secret
    for number in range(KILLS):
        station = Station(own)
        code = TERMINATED + "print('ran', flush=True); time.sleep(0.5)" + EXPORTING.format(size=10_000_000)
        wanted = Wanted(repository=f"{registry.address}/{own.name}/random{number}", push=True)
        after, away = instants.uniform(0, 2.5), instants.uniform(0, 1)
        killing = threading.Timer(after, crash, (own, away))
        killing.start()
        job_id, before = station.job_id(), own.starts().total()
        try:
            said = _whole(station, scripted(code), job_id, wanted)
        except TrainingError as error:
            said = f"{type(error).__name__}: {error}"
        killing.join()
        wait_for(f"no train runs, seed {seed}", lambda: not running(own), 20)
        assert own.starts().total() - before <= 1, (seed, number, said)
        end = said.split(":")[0]
        ends[end] = ends.get(end, 0) + 1
        print(f"{number}: after {after:.2f} s, for {away:.2f} s: {said}")
        station.clean()
        left = [each["Names"] for each in own.containers()]
        assert not left, (seed, number, left)
    print(ends)


def _whole(station: Station, plan: Plan, job_id: str, wanted: Wanted) -> str:
    """Do what a worker and a trigger do; returns how it ended."""
    service = station.service()
    service._retry = service._containers._retry = Retry(total=60, attempts=30, longest_wait=1)
    service._images = replace(service._images, retry=service._retry)
    handle = service.launch(plan, job_id).handle
    status = _ended(service, handle)
    if status.status is not JobState.SUCCESSFUL:
        return f"{status.reason}: {status.message}"
    made = service.successor(handle, wanted)
    assert made.digest
    return "SUCCESSFUL: with its successor"


def _ended(service: TrainContainerService, handle: Handle) -> JobStatus:
    found: list[JobStatus] = []

    def ended() -> bool:
        try:
            found.append(service.status(handle))
        except ServiceUnavailable:
            return False
        return found[-1].status.ended

    wait_for("the job has ended", ended, 60, 0.1)
    return found[-1]
