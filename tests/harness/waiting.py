# SPDX-License-Identifier: Apache-2.0
"""Waiting for what a test expects."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Answer = TypeVar("Answer")


class NotInTime(AssertionError):
    """Something that a test waits for did not come."""


PATIENCE = 3
"""How many times as long as on an idle machine a test waits, so that it does not fail on a busy one."""


def wait_for(what: str, probe: Callable[[], Answer], seconds: float = 60.0, pause: float = 0.2) -> Answer:
    """Ask until the answer is true, or fail saying what did not come and what was seen last.

    :param seconds: What it takes at most on an idle machine; the test waits :data:`PATIENCE` times as long.
    """
    seconds *= PATIENCE
    deadline = time.monotonic() + seconds
    while not (answer := probe()):
        if time.monotonic() > deadline:
            raise NotInTime(f"{what}: not within {seconds:g} s; the last answer was {answer!r}")
        time.sleep(pause)
    return answer
