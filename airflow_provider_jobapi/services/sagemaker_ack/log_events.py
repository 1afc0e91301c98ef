# SPDX-License-Identifier: Apache-2.0
"""Streams and events of CloudWatch Logs as lines of a job: what is new in an answer, and its place in the log. Pure.

A position in a stream is the last events' times, each with how many events of that time were read. The next request
begins at the first of these times and skips what was read. It thus also finds events that became visible late, with a
time before that of lines already shown. Tokens of CloudWatch are not kept from one read to the next: they end after a
day, and what arrives late before them is never returned.

The time under which a line is shown must depend on the log alone, not on when it was read. So each log stream has a
number of its own in :class:`~airflow_provider_jobapi.training.logs.Timeline`, which follows from its name, and lines
that were found late are a stream of their own beside it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple
from zlib import crc32

from airflow_provider_jobapi.services.polling import lines_of
from airflow_provider_jobapi.training.logs import LogLine

PAGE_EVENTS, PAGE_BYTES = 10_000, 1024**2
"""What one answer of GetLogEvents has at most (API reference); an event counts 26 bytes more than its text."""

KEPT_EVENTS, KEPT_BYTES = 50, PAGE_BYTES // 4
"""The last events of each stream, among which later ones are looked for: at least so many, or of such a size. All of
one time are kept, or none. They are read again each time, and so must fit well into one answer."""

_EVENT_BYTES = 26
_STREAM = re.compile(r".*/algo-(\d{1,6})-(\d{1,15})")

Position = Sequence[Sequence[int]]
"""Pairs of a time in milliseconds since 1970, and the number of events of that time that were read; oldest first.
``[0, 0]`` is first where all events since the log's beginning are in it."""


@dataclass(frozen=True, slots=True)
class StreamName:
    """A log stream: ``<job>/algo-<instance>-<epoch>``.

    :ivar instance: The number of the instance, from 1; 0 of a name of another form.
    :ivar epoch: When the instance was started; a job that was interrupted or restarted has more streams for it.
    """

    name: str
    instance: int
    epoch: int

    @classmethod
    def of(cls, name: str) -> StreamName:
        """Read a name."""
        found = _STREAM.fullmatch(name)
        return cls(name, int(found[1]), int(found[2])) if found else cls(name, 0, crc32(name.encode()))

    @property
    def order(self) -> tuple[int, int, str]:
        """What streams are sorted by: an instance's earlier ones first."""
        return self.instance, self.epoch, self.name

    @property
    def title(self) -> str:
        """What its lines begin with where a job has several instances, such as ``algo-2``."""
        return f"algo-{self.instance}" if self.instance else self.name.rpartition("/")[2]

    def number(self, streams: int, *, late: bool) -> int:
        """Return the number of the stream of its lines, of which ``streams`` share the milliseconds."""
        return (max(1, self.instance) - 1) % streams + (2 * self.epoch + late) * streams


class Found(NamedTuple):
    """An event that was not read before.

    :ivar late: Whether a later one was.
    """

    event: Mapping[str, Any]
    late: bool


class PositionReader:
    """Reads on from a position, answer by answer; the first answer begins at :attr:`start`.

    :ivar start: The ``startTime`` of the first request; None for the log's beginning.
    :ivar more: Whether the last answer shows, or leaves open, that another one is needed.
    """

    def __init__(self, position: Position) -> None:
        self._read = {int(at): int(count) for at, count in position}
        self._met, self._sizes = Counter[int](), Counter[int]()
        self._last = max(self._read, default=0)
        self._has_all = not self._read or self._read.get(0) == 0
        self.start = min(self._read, default=0) or None
        self.more = True

    def position(self) -> list[list[int]]:
        """Return the position after all answers."""
        kept = list[list[int]]()
        events = size = 0
        for at, count in sorted(self._read.items(), reverse=True):
            if events >= KEPT_EVENTS or size >= KEPT_BYTES:
                return kept
            kept.insert(0, [at, count])
            events, size = events + count, size + self._sizes[at]
        return kept if not self._has_all or 0 in self._read else [[0, 0], *kept]

    def take(self, events: Sequence[Mapping[str, Any]]) -> list[Found]:
        """Take the events of an answer, in its order; returns those that are new."""
        before = self._sizes.total()
        new = [found for each in events if (found := self._take(each)) is not None]
        full = len(events) >= PAGE_EVENTS or self._sizes.total() - before > PAGE_BYTES / 2
        missing = any(self._met[at] < count for at, count in self._read.items())
        self.more = bool(new) or full or missing
        return new

    def _take(self, event: Mapping[str, Any]) -> Found | None:
        at = int(event.get("timestamp") or 0)
        self._met[at] += 1
        self._sizes[at] += len(str(event.get("message", "")).encode(errors="replace")) + _EVENT_BYTES
        if self._met[at] <= self._read.get(at, 0):
            return None
        self._read[at] = self._met[at]
        late, self._last = at < self._last, max(self._last, at)
        return Found(event, late)


def lines(found: Iterable[Found], stream: StreamName, streams: int) -> Iterator[LogLine]:
    """Return the lines of events."""
    prefix = f"[{stream.title}] " if streams > 1 else ""
    for event, late in found:
        text = str(event.get("message", "")).rstrip("\n")
        yield from lines_of(text, event_time(event), stream.number(streams, late=late), streams, prefix)


def event_time(event: Mapping[str, Any]) -> datetime:
    """Return the time of an event."""
    return datetime.fromtimestamp(int(event.get("timestamp") or 0) / 1000, UTC)
