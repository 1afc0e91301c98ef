# SPDX-License-Identifier: Apache-2.0
"""The log of a container: its new lines, its last lines, and the end of its stdout, in which the response is."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

from airflow_provider_jobapi.services.polling import lines_of
from airflow_provider_jobapi.services.train_container.engine import Engine
from airflow_provider_jobapi.services.train_container.log_frames import Lines, Position, frames
from airflow_provider_jobapi.services.train_container.responses import StdoutTail
from airflow_provider_jobapi.training.logs import LogLine

MOST_LINES = 5_000
"""Lines of one read; the next one goes on where it ended, without waiting."""


@dataclass(frozen=True, slots=True)
class NewLines:
    """What one read of a log brought.

    :ivar cursor: Where the next read goes on, as JSON.
    :ivar behind: Whether there are more lines now.
    """

    lines: tuple[LogLine, ...]
    cursor: Any
    behind: bool = False


def read_new(engine: Engine, container: str, cursor: Any, *, ended: bool, most: int = MOST_LINES) -> NewLines:
    """Read the lines of both streams after a cursor, each once, in the order of the engine's log.

    :param ended: Whether the container has ended before, so that its last line needs no line feed.
    """
    position = Position(cursor)
    found: list[LogLine] = []
    with engine.log(container, since=position.since) as chunks:
        for line in position.new(Lines(frames(chunks), ended=ended)):
            found += lines_of(line.text, line.time, 0, 1, "")
            if len(found) >= most:
                return NewLines(tuple(found), position.cursor(), behind=True)
    return NewLines(tuple(found), position.cursor())


def last_lines(engine: Engine, container: str, count: int) -> tuple[str, ...]:
    """Return the last lines of a container's log, at most ``count``."""
    found: deque[str] = deque(maxlen=max(0, count))
    with engine.log(container) as chunks:
        for line in Lines(frames(chunks), ended=True):
            found.extend(each.text for each in lines_of(line.text, line.time, 0, 1, ""))
    return tuple(found)


def stdout_tail(engine: Engine, container: str) -> StdoutTail:
    """Read the end of a container's stdout, without its stderr, as much of it as a response may have."""
    with engine.log(container, stderr=False, times=False) as chunks:
        return StdoutTail(content for stream, content in frames(chunks) if stream == 1)
