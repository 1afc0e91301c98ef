# SPDX-License-Identifier: Apache-2.0
"""Rows 1, 3, 6 and 7 of the kill matrix with trains in containers of a real Podman, and kills of Podman itself."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from airflow_provider_jobapi.services.train_container import names
from tests.harness.cluster_training import Stage, Training
from tests.harness.containers.engine import BASE, Podman
from tests.harness.containers.fixtures import image_tree, registry
from tests.harness.containers.programs import missing
from tests.harness.containers.registry import PASSWORD, USER, Registry
from tests.harness.containers.remote import OnPodman, make_numbered, make_whole
from tests.harness.proxy_faults import Hold, Point, ScriptedProxy
from tests.harness.waiting import wait_for
from tests.kills.rows import (
    LIMITS,
    at_once,
    begin,
    check_limits,
    clear_deferred_tasks,
    clear_while_submitting,
    finish,
    kill_the_triggerer,
    kill_workers_around_the_submit,
    mark_tasks_and_runs,
)

__all__ = ["image_tree", "registry"]

ENGINE_KILLS = 24
"""Kills of Podman in the campaign, while trains are submitted and followed."""

LONGEST = 4.0
"""Seconds from one of them to the next, at most."""


@pytest.fixture(scope="module")
def engine(image_tree: Path, registry: Registry) -> Iterator[Podman]:
    """A Podman of the rows' own, which they kill."""
    if why := missing(*Podman.programs):
        pytest.skip(why)
    with Podman(registries=[registry.address]) as started:
        started.load(image_tree, BASE)
        make_whole(started)
        make_numbered(started, Path(__file__).parent / "dags" / "numbered.py")
        yield started


@pytest.fixture(scope="module")
def remote(engine: Podman) -> OnPodman:
    """It, as the rows look at it."""
    return OnPodman(engine)


@pytest.fixture(scope="module")
def stage(stage: Stage, remote: OnPodman) -> Iterator[Stage]:
    """The stage of all rows, with Podman at the end of ``kills_plain``."""

    def parsed() -> bool:
        return "trains_timeout" in str(stage.cluster.api("GET", "dags", limit=100))

    wait_for("the DAGs of trains are parsed", parsed, 60, 0.5)
    with remote.way() as network:
        stage.cluster.connect("kills_plain", remote.connection(network))
        yield replace(stage, remote=remote, network=network, family="trains")
    stage.cluster.connect("kills_plain", stage.remote.connection(stage.network))


@pytest.fixture(autouse=True)
def nothing_is_left(remote: OnPodman) -> Iterator[None]:
    """After each row: no container runs, none was started twice."""
    yield
    remote.check_nothing_is_left()


@pytest.mark.slow
def test_row_1_the_worker_is_killed_around_the_create_and_the_start(stage: Stage, ways: list[ScriptedProxy]) -> None:
    kill_workers_around_the_submit(stage, ways, [OnPodman.creates, OnPodman.starts], ["kills_plain"])


@pytest.mark.slow
def test_row_3_the_triggerer_is_killed_in_mid_log(stage: Stage) -> None:
    trainings = [stage.train(), stage.train(env={"burst": 60, "pause": 0.5})]
    kill_the_triggerer(stage, [begin(training, 20) for training in trainings], times=1)


@pytest.mark.slow
def test_row_6_a_user_ends_or_clears_a_task(
    stage: Stage, ways: list[ScriptedProxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage.remote, "creates", OnPodman.starts)
    at_once(
        lambda: mark_tasks_and_runs(stage),
        lambda: clear_deferred_tasks(stage),
        lambda: clear_while_submitting(stage, "kills_way_1", ways[0]),
    )


@pytest.mark.slow
def test_row_7_the_time_is_over_while_the_train_runs_and_while_it_is_paused(stage: Stage, remote: OnPodman) -> None:
    running = [(stage.train(dag_id), limit) for dag_id, limit in [*LIMITS.items()] * 2]
    for number, (training, _) in enumerate(running):
        job = training.wait_for_job()
        if number >= len(LIMITS):
            training.wait("deferred")
            remote.pause(job)
    check_limits(running, [])


@pytest.mark.slow
def test_podman_is_killed_while_trains_run_and_when_it_has_done_what_the_worker_asked_for(
    stage: Stage, remote: OnPodman, ways: list[ScriptedProxy]
) -> None:
    """One of the trains ends before it is back; two others are created, and started, and no worker knows it."""
    (ended, job), other = [begin(stage.train()) for _ in range(2)]
    place = remote.work(job)
    with ways[0].hold(remote.creates, Point.ANSWER) as created, ways[1].hold(remote.starts, Point.ANSWER) as started:
        unknown = [stage.train(f"kills_way_{number}") for number in (1, 2)]
        for held in (created, started):
            held.wait()
        remote.kill()
        stage.tally.kills += 1
        (place / "finish.new").write_text("0")
        (place / "finish.new").rename(place / "finish")
        for held in (created, started):
            held.drop()
        time.sleep(2)
        remote.restart()
    assert ended.wait("success")["try_number"] == 1
    ended.check_lines(job, 1)
    assert ended.check("SUCCESSFUL") == [job]
    begun = [other, *(begin(training) for training in unknown)]
    finish(*begun)
    assert [remote.starts_of(each) for each in (job, *(each for _, each in begun))] == [1] * 4


def _kill_at(training: Training, held: Hold, look: Callable[[], str] = str) -> str:
    """Kill the worker whose request is held; answers what was there to see before."""
    pid = held.wait().pid()
    seen = look()
    training.kill(pid)
    held.wait_for_hangup()
    return seen


@pytest.mark.slow
def test_the_worker_is_killed_between_the_parts_of_a_whole_train(
    stage: Stage, remote: OnPodman, registry: Registry
) -> None:
    """Before the run, before its successor, at the commit, after the push, and when the container is removed."""
    user = {"conn_type": "docker", "host": registry.address, "login": USER, "password": PASSWORD}
    stage.cluster.connect("kills_registry", user)
    with ExitStack() as stack:
        ways = [stack.enter_context(remote.way()) for _ in range(4)]
        for number, way in enumerate(ways, 1):
            stage.cluster.connect(f"kills_way_{number}", remote.connection(way, docker_conn_id="kills_registry"))
        points = [
            (OnPodman.removes, Point.ANSWER), (OnPodman.builds, Point.REQUEST),
            (OnPodman.commits, Point.ANSWER), (OnPodman.pushes, Point.ANSWER),
        ]  # fmt: skip
        held = [way.hold(*point) for way, point in zip(ways, points, strict=True)]
        whole = [
            stage.train(f"kills_whole_{number}", repository=f"{registry.address}/whole") for number in (1, 2, 3, 4)
        ]
        with ThreadPoolExecutor() as pool:  # at once: a client hangs up by itself after some time
            looks = [str, str, lambda: registry.digest("whole", whole[3].name)]
            others = [pool.submit(_kill_at, *each) for each in zip(whole[1:], held[1:], looks, strict=True)]
            held[0].wait()  # what lists the requirements is removed
            checked = ways[0].hold(*points[0])
            held[0].release()
            _kill_at(whole[0], checked)
            removed = ways[0].hold(*points[0])
            *_, pushed = [each.result() for each in others]
            _kill_at(whole[0], removed)
        for each in (*held, checked, removed):
            each.release()
        for training in whole:
            assert training.wait("success")["try_number"] >= 2
        results = [training.xcom("return_value") for training in whole]
    for training, result in zip(whole, results, strict=True):
        assert remote.started_trains(training.name) == [names.container_name(result["job_id"])]
        assert result["successor"]["digest"] == registry.digest("whole", training.name)
        assert result["response"]["message"] == "ran"
    assert results[3]["successor"]["digest"] == pushed
    assert sorted(registry.tags("whole")) == sorted(training.name for training in whole)


@pytest.mark.campaign
def test_podman_is_killed_at_random_instants(stage: Stage, remote: OnPodman) -> None:
    seed = random.randrange(2**32)  # noqa: S311 -- no secret
    print(f"{seed=}")
    instants = random.Random(seed)  # noqa: S311 -- no secret
    trainings = []
    for _ in range(ENGINE_KILLS):
        trainings.append(stage.train())
        time.sleep(instants.uniform(0, LONGEST))
        remote.kill()
        stage.tally.kills += 1
        time.sleep(instants.uniform(0, 1))
        remote.restart()
    begun = []
    for training in trainings:
        job = training.wait_for_job()
        training.wait("deferred")
        begun.append((training, job))
    finish(*begun)
    assert [remote.starts_of(job) for _, job in begun] == [1] * ENGINE_KILLS
