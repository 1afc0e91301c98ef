# SPDX-License-Identifier: Apache-2.0
"""A connection that is refused is read again, since somebody may have put it right."""

from __future__ import annotations

from typing import Any

from airflow_provider_jobapi.exceptions import ConnectionProblem, ServiceUnavailable
from tests.harness.scripted import ScriptedFollower, ScriptedTrigger, chunk, end


class Counted(ScriptedTrigger):
    opened = 0

    async def _open(self) -> Any:
        self.opened += 1
        return await super()._open()


def test_a_refused_connection_is_read_again_and_one_that_is_lost_is_kept():
    follower = ScriptedFollower([chunk("a"), ServiceUnavailable("lost."), ConnectionProblem("refused."), end("b")])
    trigger = Counted(follower)
    (event,) = trigger.events()
    assert event["end"] == "over"
    assert trigger.opened == 2
    assert follower.open == 0
    assert trigger.recorder.lines() == ["a", "b"]
