# SPDX-License-Identifier: Apache-2.0
"""Rows 1, 3, 6 and 7 of the kill matrix with trains in containers of a real Podman, and kills of Podman itself."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.harness.cluster_training import Stage
from tests.harness.containers.engine import BASE, Podman
from tests.harness.containers.fixtures import image_tree
from tests.harness.containers.programs import missing
from tests.harness.containers.remote import OnPodman, make_numbered
from tests.harness.proxy_faults import Point, ScriptedProxy
from tests.harness.waiting import wait_for
from tests.kills.rows import (
    LIMITS,
    at_once,
    begin,
    check_limits,
    clear_deferred_tasks,
    clear_while_submitting,
    finish,
    kill_the_triggerer_twice,
    kill_workers_around_the_submit,
    mark_tasks_and_runs,
)

__all__ = ["image_tree"]

pytestmark = pytest.mark.slow

ENGINE_KILLS = 6
"""Kills of Podman while trains are submitted and followed."""

LONGEST = 4.0
"""Seconds from one of them to the next, at most."""


@pytest.fixture(scope="module")
def engine(image_tree: Path) -> Iterator[Podman]:
    """A Podman of the rows' own, which they kill."""
    if why := missing(*Podman.programs):
        pytest.skip(why)
    with Podman() as started:
        started.load(image_tree, BASE)
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


def test_row_1_the_worker_is_killed_around_the_create(stage: Stage, ways: list[ScriptedProxy]) -> None:
    kill_workers_around_the_submit(stage, ways)


def test_row_1_the_worker_is_killed_around_the_start(
    stage: Stage, ways: list[ScriptedProxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage.remote, "creates", OnPodman.starts)
    kill_workers_around_the_submit(stage, ways)


def test_row_3_the_triggerer_is_killed_in_mid_log(stage: Stage) -> None:
    trainings = [stage.train(), stage.train(env={"burst": 60, "pause": 0.5})]
    kill_the_triggerer_twice(stage, [begin(training, 20) for training in trainings])


def test_row_6_a_user_ends_or_clears_a_task(
    stage: Stage, ways: list[ScriptedProxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage.remote, "creates", OnPodman.starts)
    at_once(
        lambda: mark_tasks_and_runs(stage),
        lambda: clear_deferred_tasks(stage),
        lambda: clear_while_submitting(stage, "kills_way_1", ways[0]),
    )


def test_row_7_the_time_is_over_while_the_train_runs_and_while_it_is_paused(stage: Stage, remote: OnPodman) -> None:
    running = [(stage.train(dag_id), limit) for dag_id, limit in [*LIMITS.items()] * 2]
    for number, (training, _) in enumerate(running):
        job = training.wait_for_job()
        if number >= len(LIMITS):
            training.wait("deferred")
            remote.pause(job)
    check_limits(running, [])


def test_podman_is_killed_while_trains_run_and_one_of_them_ends_meanwhile(stage: Stage, remote: OnPodman) -> None:
    begun = [begin(stage.train()) for _ in range(2)]
    (ended, job), (_, other) = begun
    place = remote.work(job)
    for number in range(2):
        remote.kill()
        stage.tally.kills += 1
        if number:
            (place / "finish.new").write_text("0")
            (place / "finish.new").rename(place / "finish")
        time.sleep(2)
        remote.restart()
    assert ended.wait("success")["try_number"] == 1
    ended.check_lines(job, 1)
    assert ended.check("SUCCESSFUL") == [job]
    finish(begun[1])
    assert [remote.starts_of(each) for each in (job, other)] == [1, 1]


@pytest.mark.parametrize("request_line", ["creates", "starts"])
def test_podman_is_killed_when_it_has_done_what_the_worker_asked_for(
    stage: Stage, remote: OnPodman, ways: list[ScriptedProxy], request_line: str
) -> None:
    with ways[0].hold(getattr(remote, request_line), Point.ANSWER) as held:
        training = stage.train("kills_way_1")
        held.wait()
        remote.kill()
        stage.tally.kills += 1
        held.drop()
    remote.restart()
    job = training.wait_for_job()
    training.wait("deferred")
    training.end()
    training.check_lines(job, 1)
    assert training.check("SUCCESSFUL") == [job]
    assert remote.starts_of(job) == 1


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
