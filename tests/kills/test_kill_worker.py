# SPDX-License-Identifier: Apache-2.0
"""Rows 1 and 2 of the kill matrix: the worker dies, or is asked to end, around the submit."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import psutil
import pytest

from tests.harness.cluster_training import Stage, Training
from tests.harness.proxy_faults import Hold, Point, ScriptedProxy

pytestmark = pytest.mark.slow

SUBMIT = r"^POST /api/v2/jobs/[0-9a-f-]+$"
UPLOAD = r"^PUT /api/v2/storage/objects/.*/second\.txt$"
PUSH = r"^POST /execution/xcoms/.*training_job_id"
DEFER = r"^PATCH /execution/task-instances/{ti}/state"


@pytest.fixture
def ways(stage: Stage) -> Iterator[list[ScriptedProxy]]:
    """Four proxies before the server, on the connections ``kills_way_1`` to ``kills_way_4``."""
    with ExitStack() as stack:
        proxies = [stack.enter_context(ScriptedProxy(stage.server.port)) for _ in range(4)]
        for number, proxy in enumerate(proxies, 1):
            stage.cluster.connect(f"kills_way_{number}", stage.connection(proxy.port))
        yield proxies


@dataclass
class Attack:
    """One way to harm a worker, and what must come of it."""

    training: Training
    held: Hold
    tries: int
    ends: tuple[str, ...] = ("SUCCESSFUL",)

    def check(self) -> None:
        """The task goes on in the try that is expected and succeeds, with these jobs."""
        self.training.wait("deferred", attempt=self.tries, seconds=120)
        job = self.training.wait_for_job(count=len(self.ends))
        self.training.end()
        assert self.training.task()["try_number"] == self.tries
        self.training.check_lines(job, self.tries)
        assert self.training.check(*self.ends)[-1] == job


def test_row_1_the_worker_is_killed_around_the_submit(stage: Stage, ways: list[ScriptedProxy]) -> None:
    attacks = []
    for number, point in enumerate(Point):
        held = ways[number].hold(SUBMIT, point)
        attacks.append(Attack(stage.train(f"kills_way_{number + 1}"), held, tries=2))
    for number, (when, point, tries) in enumerate(
        [(PUSH, Point.REQUEST, 2), (DEFER, Point.REQUEST, 2), (DEFER, Point.ANSWER, 1)]
    ):
        training = stage.train(f"kills_way_{number % 2 + 3}")
        held = stage.control.hold(when.format(ti=training.task()["id"]), point)
        attacks.append(Attack(training, held, tries))
        training.kill_worker(held.wait().pid())
        held.wait_for_hangup()
    for attack in attacks[:2]:
        attack.training.kill(attack.held.wait().pid())
        attack.held.wait_for_hangup()
    for attack in attacks:
        with attack.held:
            attack.check()


def test_row_2_the_worker_is_asked_to_end_while_it_uploads_and_submits(stage: Stage, ways: list[ScriptedProxy]) -> None:
    plan = [
        (UPLOAD, Point.REQUEST, ("SUCCESSFUL",), 2),
        (UPLOAD, Point.ANSWER, ("SUCCESSFUL",), 1),
        (SUBMIT, Point.REQUEST, ("SUCCESSFUL",), 1),
        (SUBMIT, Point.ANSWER, ("STOPPED", "SUCCESSFUL"), 2),
    ]
    attacks = []
    for number, (when, point, ends, _) in enumerate(plan):
        held = ways[number].hold(when, point)
        files = {"first.txt": "1" * 1000, "second.txt": "2" * 1000}
        attacks.append(Attack(stage.train(f"kills_way_{number + 1}", data=files), held, 2, ends))
    for attack in attacks:
        worker = psutil.Process(attack.held.wait().pid()).parent()
        assert worker is not None
        attack.training.kill(worker.pid, signal.SIGTERM)
        attack.held.wait_for_hangup()
    for attack, way, (_, _, _, uploads) in zip(attacks, ways, plan, strict=True):
        with attack.held:
            attack.check()
        assert len(way.sent(UPLOAD)) == uploads
