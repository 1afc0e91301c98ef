# SPDX-License-Identifier: Apache-2.0
"""How much work something is, for tests of what must not become much: a busy machine does not count."""

from __future__ import annotations

import time
from collections.abc import Callable


def seconds_of(work: Callable[[], object], tries: int = 3) -> float:
    """The least processor time of some runs, in this thread; a garbage collection meets one of them at the most."""
    taken = []
    for _ in range(tries):
        begin = time.thread_time()
        work()
        taken.append(time.thread_time() - begin)
    return min(taken)
