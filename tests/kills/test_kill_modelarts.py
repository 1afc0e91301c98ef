# SPDX-License-Identifier: Apache-2.0
"""Rows 1, 3, 6, 7, 8, 11 and 12 of the kill matrix with ModelArts: the same DAGs, and other connections."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

import pytest

from tests.harness.cluster_training import Stage
from tests.harness.modelarts import ModelArts
from tests.harness.proxy_faults import ScriptedProxy
from tests.harness.remote import OnModelArts
from tests.harness.waiting import wait_for
from tests.kills.rows import (
    BROKEN,
    GRACE,
    LIMITS,
    at_once,
    begin,
    broken,
    check_limits,
    clear_deferred_tasks,
    clear_while_submitting,
    fail_twice,
    finish,
    kill_the_triggerer,
    kill_workers_around_the_submit,
    mark_tasks_and_runs,
    outlast,
    refuse_once,
)

pytestmark = pytest.mark.slow

OUTAGE = 60.0
"""Seconds without the service."""

GPU = "modelarts.vm.gpu.v100"


@pytest.fixture(scope="module")
def double(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelArts]:
    """ModelArts, which speaks both dialects."""
    with ModelArts(tmp_path_factory.mktemp("kills"), grace=GRACE) as double:
        yield double


@pytest.fixture(scope="module")
def stage(stage: Stage, double: ModelArts) -> Iterator[Stage]:
    """The stage of all rows, with ModelArts at the end of ``kills_plain``."""
    remote = OnModelArts(double)
    with remote.way() as network:
        stage.cluster.connect("kills_plain", remote.connection(network))
        yield replace(stage, remote=remote, network=network)
    stage.cluster.connect("kills_plain", stage.remote.connection(stage.network))


@pytest.fixture
def other_dialect(stage: Stage, double: ModelArts) -> Iterator[OnModelArts]:
    """The same service by its older API, on the connection ``kills_other_dialect``."""
    remote = OnModelArts(double, "v1")
    with remote.way() as way:
        stage.cluster.connect("kills_other_dialect", remote.connection(way))
        yield remote


@pytest.fixture(autouse=True)
def no_faults(double: ModelArts) -> Iterator[None]:
    yield
    double.clear_faults()


def test_row_1_the_worker_is_killed_around_the_create(stage: Stage, ways: list[ScriptedProxy]) -> None:
    kill_workers_around_the_submit(stage, ways)


def test_row_3_the_triggerer_is_killed_in_mid_log(stage: Stage, other_dialect: OnModelArts) -> None:
    trainings = [
        stage.train(),
        stage.train(env={"burst": 60, "pause": 0.5}),
        stage.train("kills_other_dialect", remote=other_dialect),
    ]
    kill_the_triggerer(stage, [begin(training, 20) for training in trainings])


def test_row_6_a_user_ends_or_clears_a_task(stage: Stage, ways: list[ScriptedProxy]) -> None:
    at_once(
        lambda: mark_tasks_and_runs(stage),
        lambda: clear_deferred_tasks(stage),
        lambda: clear_while_submitting(stage, "kills_way_1", ways[0]),
    )


def test_row_7_the_time_is_over_while_the_job_runs_and_while_it_waits(stage: Stage, double: ModelArts) -> None:
    double.inject_fault("sold_out", flavor=GPU)
    running = [(stage.train(dag_id), limit) for dag_id, limit in LIMITS.items()]
    for training, _ in running:
        # A machine with much to do may take longer than the limit until a job runs.
        stage.remote.wait_for(training.wait_for_job(), "RUNNING")
    waiting = [(stage.train(dag_id, resources={"gpus": 1}), limit) for dag_id, limit in LIMITS.items()]
    check_limits(running, waiting)


def test_row_11_tokens_that_end_and_a_password_that_is_changed(stage: Stage, double: ModelArts) -> None:
    remote, password = stage.remote, "the password of tomorrow"
    assert isinstance(remote, OnModelArts)
    with ExitStack() as stack:
        ways = {name: stack.enter_context(remote.way()) for name in ("expiring", "rotated", "wrong")}
        for name, way in ways.items():
            stage.cluster.connect(f"kills_{name}", remote.connection(way))
        trainings = [stage.train(f"kills_{name}") for name in ways]
        (expiring, job), (rotated, rotated_job), (wrong, wrong_job) = [begin(training) for training in trainings]

        way = ways["expiring"]
        for status in (401, 403):
            began = time.monotonic()
            refuse_once(expiring, job, way, partial(double.inject_fault, "expired_token", status=status))
            assert [each.status for each in way.sent("", began) if each.status >= 400] == [status]
        end_tokens(double, way)
        double.clear_faults()
        assert not any("Contact" in text for text in expiring.log())
        finish((expiring, job))

        double.inject_fault("new_password", password=password)
        for training in (rotated, wrong):
            wait_for(
                f"{training.name} is refused",
                lambda training=training: any("IAM refused user" in text for text in training.log()),
                60,
            )
        stage.cluster.connect("kills_rotated", remote.connection(ways["rotated"]) | {"password": password})
        finish((rotated, rotated_job))
        wrong.wait("failed", seconds=60)
        assert any("could not be followed" in text and "IAM refused user" in text for text in wrong.errors())
        assert not any(password in text or double.account["password"] in text for text in wrong.log())
        assert remote.job(wrong_job).status == "RUNNING"
        wrong.finish(wrong_job)
        remote.wait_for(wrong_job, "SUCCESSFUL")
        wrong.check("SUCCESSFUL", state="failed")
        wrong.check_lines(wrong_job, 1, least=10)


def end_tokens(double: ModelArts, way: ScriptedProxy) -> None:
    """Void every token, and give ones that end within seconds: hardly a refusal comes."""
    began = time.monotonic()
    double.inject_fault("token_life", seconds=33)
    double.inject_fault("expired_token")
    wait_for("some tokens have ended", lambda: len(way.sent(OnModelArts.logins, began)) > 3, 60)
    refused = [each for each in way.sent("", began) if each.status in {401, 403}]
    # A token that was given between the two faults lives as briefly, and is void.
    assert len(refused) <= 2, "a token was used beyond its end"


def test_row_12_networks_that_break_for_a_minute_and_a_service_that_is_killed_and_row_8_on_a_network_that_does_not(
    stage: Stage, other_dialect: OnModelArts
) -> None:
    remote = stage.remote
    with ExitStack() as stack:
        ways = {name: stack.enter_context(remote.way()) for name in BROKEN}
        for name, way in ways.items():
            stage.cluster.connect(f"kills_{name}", remote.connection(way, timeout=3))
        begun = [begin(training) for training in [stage.train(f"kills_{name}", {"pause": 1}) for name in BROKEN]]
        with broken(ways, remote.looks):
            at_once(
                lambda: outlast(OUTAGE, ways, remote.looks, [training for training, _ in begun]),
                lambda: fail_twice([stage.train(), stage.train("kills_other_dialect", remote=other_dialect)]),
            )
            remote.kill()
        stage.tally.kills += 2
        remote.restart()
        finish(*begun)
