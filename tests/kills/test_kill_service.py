# SPDX-License-Identifier: Apache-2.0
"""Rows 10, 11, 12 and 15 of the kill matrix: the job service and the way to it; in the minute of 10 and 12, a row 8."""

from __future__ import annotations

import re
from contextlib import ExitStack
from pathlib import Path

import pytest

from airflow_provider_jobapi.training.logs import Thinning
from tests.harness.cluster_training import Stage, Training
from tests.harness.proxy_faults import Canned, Point
from tests.harness.remote import JobApi, Remote
from tests.harness.server import renew, running
from tests.harness.waiting import wait_for
from tests.kills.rows import BROKEN, at_once, begin, broken, fail_twice, finish, outlast, refuse_once

pytestmark = pytest.mark.slow

OUTAGE = 60.0
"""Seconds without the service."""


def test_rows_10_and_12_a_minute_without_the_service_and_networks_that_break_and_row_8_beside_them(
    stage: Stage, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(running(tmp_path / "lost", "--grace", "2s", "--cpus", "100", "--memory", "100000"))
        lost = JobApi(server)
        remotes: dict[str, Remote] = {"lost": lost, "submitting": lost} | dict.fromkeys(BROKEN, stage.remote)
        ways = {name: stack.enter_context(remote.way()) for name, remote in remotes.items()}
        for name, way in ways.items():
            stage.cluster.connect(f"kills_{name}", remotes[name].connection(way, timeout=3))
        trainings = {
            name: stage.train(f"kills_{name}", {"pause": 1}, remote=remotes[name]) for name in ("lost", *BROKEN)
        }
        begun = {name: begin(training) for name, training in trainings.items()}
        with ways["submitting"].hold(lost.creates, Point.ANSWER) as held:
            late = stage.train("kills_submitting", {"pause": 1}, remote=lost)
            held.wait()
            lost.kill()
            held.drop()
        with broken(ways, stage.remote.looks):
            at_once(
                lambda: outlast(OUTAGE, ways, stage.remote.looks, [training for training, _ in begun.values()]),
                lambda: fail_twice([stage.train()]),
            )
        stage.tally.kills += 1
        lost.restart()
        at_once(lambda: finish(*begun.values()), lambda: finish_late(late))


def finish_late(late: Training) -> None:
    """See a training end whose submit the service took when it was killed."""
    job = late.wait_for_job(seconds=120)
    finish((late, job), tries=late.wait("deferred", seconds=120)["try_number"])


def test_row_11_tokens_that_end_and_a_secret_that_is_renewed(stage: Stage, tmp_path: Path) -> None:
    options = ("--grace", "2s", "--cpus", "100", "--memory", "100000", "--token-lifetime", "8s")
    with ExitStack() as stack:
        server = stack.enter_context(running(tmp_path / "expiring", *options))
        remote = JobApi(server)
        remotes: dict[str, Remote] = {"lasting": stage.remote} | dict.fromkeys(("expiring", "rotated", "wrong"), remote)
        ways = {name: stack.enter_context(remotes[name].way()) for name in remotes}
        for name, way in ways.items():
            stage.cluster.connect(f"kills_{name}", remotes[name].connection(way))
        trainings = [stage.train(f"kills_{name}", remote=remotes[name]) for name in ways]
        lasting, expiring, (rotated, rotated_job), (wrong, wrong_job) = [begin(training) for training in trainings]

        refuse_once(*lasting, ways["lasting"], lambda: ways["lasting"].next(Canned(401), when=stage.remote.looks))
        wait_for("some tokens have ended", lambda: len(ways["expiring"].sent(remote.logins)) >= 5, 60)
        assert not [each for each in ways["expiring"].exchanges if each.status == 401], "a token was used after its end"
        assert not any("Contact" in text for text in expiring[0].log())
        finish(lasting, expiring)

        renew(server)
        for training in (rotated, wrong):
            wait_for(
                f"{training.name} is refused",
                lambda training=training: any("refuses the client" in text for text in training.log()),
                60,
            )
        stage.cluster.connect("kills_rotated", remote.connection(ways["rotated"]))
        finish((rotated, rotated_job))
        wrong.wait("failed", seconds=60)
        assert any("could not be followed" in text and "refuses the client" in text for text in wrong.errors())
        assert server.status(wrong_job)["status"] == "RUNNING"
        wrong.finish(wrong_job)
        server.wait_for(wrong_job, "SUCCESSFUL")
        wrong.check("SUCCESSFUL", state="failed")
        wrong.check_lines(wrong_job, 1, least=10)


def test_row_15_a_training_that_logs_as_none_should(stage: Stage) -> None:
    triggerer = stage.cluster.triggerers[0]
    other, other_job = begin(stage.train())
    printed = len(triggerer.output.read_text())
    noisy = stage.train("kills_noisy")
    job = noisy.wait_for_job()
    noisy.wait("deferred")
    late = other.lateness(triggerer, lambda: any("burst 9000" in text for text in noisy.tail(triggerer)), 150)
    assert late
    assert max(late) < 2.0, f"the other task's lines are late by {max(late):.1f} s"
    finish((other, other_job))
    noisy.finish(job)
    noisy.wait("success", seconds=200)
    expected = [line.text for line in noisy.thinned(job, Thinning())]
    assert len(expected) < 15_000
    assert any("lines are not shown here" in text for text in expected)
    texts = set(expected)
    shown = [text for text in noisy.log(1) if text in texts]
    assert shown == expected
    stage.tally.lines += len(expected)
    noisy.check("SUCCESSFUL")
    blocked = re.findall(r"thread was blocked for ([\d.]+) seconds", triggerer.output.read_text()[printed:])
    assert all(float(seconds) < 1.0 for seconds in blocked), blocked
