# SPDX-License-Identifier: Apache-2.0
"""Decide after a worker's SIGTERM whether its job is to be stopped."""

from __future__ import annotations

import _thread
import time
from collections.abc import Callable
from typing import Any, ClassVar

from airflow_provider_jobapi.exceptions import describe
from airflow_provider_jobapi.triggers.task_state import is_ended, state_of


class Termination:
    """Ask Airflow, after the worker's SIGTERM, whether the task is still wanted.

    Airflow's supervisor of the task sends SIGTERM when a user has ended the task, and also when Airflow's API server
    could not be reached for three heartbeats. Only the task's state distinguishes the two. Where nobody can be asked,
    the job goes on: the next try adopts it, or stops it after a clear.

    A thread asks, since the signal handler may run inside an event loop, or in the middle of another request to the
    supervisor, whose answer only the interrupted code can read.

    :param ti: The task instance.
    :param log: The task's logger.
    :param stop: Stops the job; called in the thread.
    :ivar unwanted: Whether the job is to be stopped.
    """

    interval: ClassVar[float] = 0.5
    """Seconds between two questions."""
    spared: ClassVar[float] = 10.0
    """Seconds after which a worker that is still wanted was not terminated by its supervisor, which sends SIGKILL 5
    seconds after its SIGTERM. A worker that somebody else terminates leaves no job behind."""
    slow: ClassVar[float] = 2.0
    """Seconds of a question that Airflow's API was away for, and its supervisor busy: ``spared`` begins again."""

    def __init__(self, ti: Any, log: Any, stop: Callable[[], None]) -> None:
        self.unwanted = False
        self._ti = ti
        self._log = log
        self._stop = stop
        self._begun = False
        self._over = False

    def begin(self) -> None:
        """Begin to ask; returns at once. Safe in a signal handler, unlike ``threading.Thread``, which takes locks."""
        if not self._begun:
            self._begun = True
            _thread.start_new_thread(self._run, ())

    def leave(self) -> None:
        """End it: the job has ended, or a trigger follows it."""
        self._over = True

    def _run(self) -> None:
        reason = self._decide()
        if reason is not None and not self._over:
            self.unwanted = True
            self._log.info(f"The worker was terminated and {reason}, so its job is to be stopped.")
            self._stop()

    def _decide(self) -> str | None:
        """Ask until the job is unwanted; the reason. None when the worker leaves the job to its trigger."""
        answered: float | None = None
        told = False
        while not self._over:
            began = time.monotonic()
            try:
                state = state_of(self._ti)
            except Exception as error:  # noqa: BLE001 -- not knowing is no reason to stop a training
                answered = None
                if not told:
                    told = True
                    self._log.warning(
                        "The worker was terminated and Airflow does not say whether its job is still wanted, so the "
                        f"job goes on: {describe(error)}"
                    )
            else:
                if is_ended(state):
                    return f"the task is {state}"
                now = time.monotonic()
                if answered is None or now - began > self.slow:
                    answered = now
                elif now - answered > self.spared:
                    return f"not by Airflow: the task is {state or 'in no state'}"
            time.sleep(self.interval)
        return None
