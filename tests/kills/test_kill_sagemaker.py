# SPDX-License-Identifier: Apache-2.0
"""Rows 1, 3, 6, 7, 8, 11 and 12 of the kill matrix with SageMaker through ACK: a real Kubernetes API between."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest

from tests.harness.ack import training
from tests.harness.ack.cloud import serve
from tests.harness.ack.double import Ack
from tests.harness.ack.remote import OnSageMaker, no_gpus
from tests.harness.airflow import wait_for
from tests.harness.cluster_training import Stage, Training
from tests.harness.kubernetes.cluster import PROGRAMS, Kubernetes
from tests.harness.kubernetes.programs import missing
from tests.harness.proxy_faults import Canned, ScriptedProxy
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
)

pytestmark = pytest.mark.slow

OUTAGE = 60.0
"""Seconds without the service."""


@pytest.fixture(scope="module")
def ack() -> Iterator[Ack]:
    """ACK and SageMaker on a Kubernetes API of their own, which a row kills."""
    if why := missing(*PROGRAMS):
        pytest.skip(why)
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setattr(training, "GRACE_SECONDS", GRACE)
        kubernetes, cloud = stack.enter_context(Kubernetes()), stack.enter_context(serve())
        namespace = kubernetes.namespace("kills")
        yield stack.enter_context(Ack(kubernetes, cloud, namespaces={namespace}, driver=no_gpus))


@pytest.fixture(scope="module")
def stage(stage: Stage, ack: Ack) -> Iterator[Stage]:
    """The stage of all rows, with SageMaker at the end of ``kills_plain``."""
    (namespace,) = ack.namespaces or ()
    remote = OnSageMaker(ack, namespace, stage.cluster.connect)
    with remote.way() as network:
        stage.cluster.connect("kills_plain", remote.connection(network))
        yield replace(stage, remote=remote, network=network)
    stage.cluster.connect("kills_plain", stage.remote.connection(stage.network))


def test_row_1_the_worker_is_killed_around_the_create(stage: Stage, ways: list[ScriptedProxy]) -> None:
    kill_workers_around_the_submit(stage, ways)


def test_row_3_the_triggerer_is_killed_in_mid_log(stage: Stage) -> None:
    trainings = [stage.train(), stage.train(env={"burst": 60, "pause": 0.5})]
    kill_the_triggerer(stage, [begin(training, 20) for training in trainings])


def test_row_6_a_user_ends_or_clears_a_task(stage: Stage, ways: list[ScriptedProxy]) -> None:
    at_once(
        lambda: mark_tasks_and_runs(stage),
        lambda: clear_deferred_tasks(stage),
        lambda: clear_while_submitting(stage, "kills_way_1", ways[0]),
    )


def test_row_7_the_time_is_over_while_the_job_runs_and_while_it_waits(stage: Stage) -> None:
    running = [(stage.train(dag_id), limit) for dag_id, limit in LIMITS.items()]
    for each, _ in running:
        # A machine with much to do may take longer than the limit until a job runs.
        stage.remote.wait_for(each.wait_for_job(), "RUNNING")
    waiting = [(stage.train(dag_id, resources={"gpus": 1}), limit) for dag_id, limit in LIMITS.items()]
    check_limits(running, waiting)


def test_row_11_tokens_that_are_refused_and_others_that_replace_them(stage: Stage) -> None:
    remote = stage.remote
    assert isinstance(remote, OnSageMaker)
    with ExitStack() as stack:
        ways = {name: stack.enter_context(remote.way()) for name in ("expiring", "rotated", "wrong")}
        for name, way in ways.items():
            stage.cluster.connect(f"kills_{name}", remote.connection(way, account=name))
        begun = {name: begin(stage.train(f"kills_{name}")) for name in ways}

        expiring, job = begun["expiring"]
        for status in (401, 403):
            ways["expiring"].next(Canned(status), when=remote.looks)
            ways["expiring"].hang_up()
            expiring.wait_for_lines(job, len(expiring.shown(job)) + 30)
        finish((expiring, job))

        for name in ("rotated", "wrong"):
            remote.revoke(name)
        for name in ("rotated", "wrong"):
            refused(begun[name][0], ways[name])
        stage.cluster.connect("kills_rotated", remote.connection(ways["rotated"], account="rotated"))
        finish(begun["rotated"])

        wrong, wrong_job = begun["wrong"]
        wrong.wait("failed", seconds=90)
        assert any("could not be followed" in text and "kubernetes_conn_id" in text for text in wrong.errors())
        assert remote.job(wrong_job).status == "RUNNING"
        wrong.finish(wrong_job)
        remote.wait_for(wrong_job, "SUCCESSFUL")
        wrong.check("SUCCESSFUL", state="failed")
        wrong.check_lines(wrong_job, 1, least=10)


def refused(training: Training, way: ScriptedProxy) -> None:
    """Wait until a training's new watches are refused; the API server believes a token for ten more seconds."""

    def seen() -> bool:
        way.hang_up()
        return any("kubernetes_conn_id" in text for text in training.log())

    wait_for(f"{training.name} is refused", seen, 90, 2.0)


def test_row_12_networks_that_break_for_a_minute_and_a_service_that_is_killed_and_row_8_on_a_network_that_does_not(
    stage: Stage,
) -> None:
    remote = stage.remote
    with ExitStack() as stack:
        ways = {name: stack.enter_context(remote.way()) for name in BROKEN}
        for name, way in ways.items():
            stage.cluster.connect(f"kills_{name}", remote.connection(way))
        begun = [begin(training) for training in [stage.train(f"kills_{name}", {"pause": 1}) for name in BROKEN]]
        with broken(ways, remote.looks):
            for way in ways.values():
                way.hang_up()  # a watch that was open before
            at_once(
                lambda: outlast(OUTAGE, ways, remote.looks, [training for training, _ in begun]),
                lambda: fail_twice([stage.train()]),
            )
            remote.kill()
        stage.tally.kills += 2
        remote.restart()
        finish(*begun)
