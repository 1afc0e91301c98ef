# SPDX-License-Identifier: Apache-2.0
"""Remove the containers of commands that are over; how they ended, and their results, are kept on the engine."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from airflow_provider_jobapi.exceptions import TrainingError

if TYPE_CHECKING:
    from airflow_provider_jobapi.services.base import Handle
    from airflow_provider_jobapi.services.train_container.service import TrainContainerService
    from airflow_provider_jobapi.training.masking import Masker


@contextmanager
def removed_after_failure(service: TrainContainerService, handle: Handle, masker: Masker) -> Iterator[None]:
    """Remove the container of a command that is over when it was not successful, but not that of an algorithm.

    What an algorithm has written before it failed may be wanted; the others write nothing.
    """
    from airflow_provider_jobapi.services.train_container.commands import RULES, Command

    try:
        yield
    except Exception:
        if not RULES[Command.of(handle["command"])].kept:
            with suppress(TrainingError):  # it may go on, where only its end is not known
                service.release(handle, hide=masker.status)
        raise


def release(
    service: TrainContainerService, handle: Handle, result: dict[str, Any], masker: Masker, say: Callable[[str], object]
) -> None:
    """Remove a container whose result is kept on the engine; it stays where that is too large.

    :param masker: Hides what the train says of the station's secrets in its message, which is kept as well.
    :param say: Writes a sentence into the task's log.
    """
    from airflow_provider_jobapi.services.train_container.containers import LARGEST_RESULT

    if len(json.dumps(result)) > LARGEST_RESULT:
        say(f"The container {handle['container']} stays on the engine, since its result is large.")
        service.note_end(handle, masker.status)  # else a clear would take the result from it a second time
        return
    service.release(handle, result, masker.status)
