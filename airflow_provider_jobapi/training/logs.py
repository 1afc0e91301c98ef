# SPDX-License-Identifier: Apache-2.0
r"""Log lines of a job: how they travel, and how each is shown once and in order.

On the wire a log is a sequence of records, ``<RFC 3339 time in UTC, microseconds> <text>\\n``. A record is never cut,
moved or rewritten, so a byte offset means the same for ever.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow_provider_jobapi.exceptions import BrokenContract
from airflow_provider_jobapi.training.status import JobState

RECORD_LIMIT = 16 * 1024
"""The most bytes of one record, its time and its newline included."""

_TIME_LENGTH = len("2026-01-01T00:00:00.000000Z")
_FOLD = re.compile("::(?=(?:end)?group::)")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of a job's log and the time at which the job wrote it, by the service's clock.

    A service may keep several logs of one job, such as one for each machine. Who reads them all, reads each in its
    order, but not one against the other: that depends on when it asked.

    :ivar stream: Which of the logs it is of, from 0.
    :ivar streams: How many there are.
    """

    time: datetime
    text: str
    stream: int = 0
    streams: int = 1


@dataclass(frozen=True, slots=True)
class LogChunk:
    """What one read of a follower brings.

    :ivar lines: The lines after the cursor, oldest first.
    :ivar cursor: The small JSON-able value to read on from.
    :ivar state: The job's state as the service told it with the lines, or None where it did not.
    :ivar complete: Whether the job is over and no line will follow.
    """

    lines: tuple[LogLine, ...]
    cursor: Any
    state: JobState | None = None
    complete: bool = False


def format_record(time: datetime, text: str) -> bytes:
    """Write a line as a record; the text must be free of newline, carriage return and NUL."""
    return f"{stamp(time)} {text}\n".encode()


def stamp(time: datetime) -> str:
    """The time of a record: RFC 3339 in UTC, with microseconds."""
    return time.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def parse_records(body: bytes) -> tuple[LogLine, ...]:
    """Read whole records.

    :raises BrokenContract: when the bytes are not whole records.
    """
    if not body:
        return ()
    if not body.endswith(b"\n"):
        raise BrokenContract("The service cut a log record; whole records are the contract.")
    return tuple(_parse(record) for record in body[:-1].split(b"\n"))


def _parse(record: bytes) -> LogLine:
    begin, separator, text = (
        record[:_TIME_LENGTH],
        record[_TIME_LENGTH : _TIME_LENGTH + 1],
        record[_TIME_LENGTH + 1 :],
    )
    try:
        time = datetime.fromisoformat(begin.decode("ascii"))
    except ValueError:
        time = None
    if time is None or time.tzinfo is None or separator != b" ":
        raise BrokenContract(f"The service sent a log record without a time: {record[:60]!r}.")
    return LogLine(time, text.decode("utf-8", errors="replace"))


def plain(text: str) -> str:
    """A line of a job as it may stand in an Airflow log.

    Airflow's UI folds away what follows a line that holds ``::group::``, whoever wrote it. A zero-width space breaks
    the word and nothing that a person sees.
    """
    return _FOLD.sub("::\u200b", text)


class Timeline:
    """The times under which lines are shown in Airflow.

    Airflow's reader merges a task's log files by the millisecond and drops equal neighbours, so two equal lines of one
    instant become one, and a line that a restarted triggerer writes again is merged only where it carries the very
    same time. Hence ``shown = max(source + skew, not_before, previous + 1 ms)`` in whole milliseconds: a function of
    the log alone, distinct for every line, and never before the lines that the worker wrote.

    Where a job has several logs, each has milliseconds of its own, the ones whose number leaves the stream's as the
    remainder, so that the times of one do not depend on what came of another meanwhile.

    :param skew: Our clock minus the service's.
    :param not_before: The time of the deferral; no line is shown before it.
    """

    def __init__(self, skew: timedelta, not_before: datetime) -> None:
        self._skew = skew
        self._not_before = _whole_milliseconds(not_before)
        self._next: dict[int, datetime] = {}

    def place(self, source: datetime, stream: int = 0, streams: int = 1) -> datetime:
        """The time under which the next line of a log is shown, given the time at which it was written."""
        least = self._next.get(stream, self._not_before)
        try:
            shown = max(_whole_milliseconds(source + self._skew), least)
            shown += (stream - (shown - _EPOCH) // _MILLISECOND) % streams * _MILLISECOND
            self._next[stream] = shown + _MILLISECOND
        except OverflowError:  # a service may tell any year
            shown = least
        return shown


def _whole_milliseconds(moment: datetime) -> datetime:
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


class Thinning:
    """Bounds what a runaway logger may put into the Airflow UI, and says what it left out.

    A bucket of ``burst`` lines is refilled at ``rate`` lines a second *of the lines' own time*, so that a replay of the
    same log leaves out the same lines.

    :param rate: Lines a second that are always shown.
    :param burst: Lines that may come at once.
    """

    def __init__(self, rate: int = 1_000, burst: int = 10_000) -> None:
        self._rate = rate
        self._burst = burst
        self._buckets: dict[int, _Bucket] = {}

    def feed(self, lines: Iterable[LogLine]) -> Iterator[LogLine]:
        """The lines to show, with a marker line where some are left out."""
        for line in lines:
            bucket = self._buckets.get(line.stream)
            if bucket is None:
                bucket = self._buckets[line.stream] = _Bucket(self._rate / line.streams, self._burst / line.streams)
            yield from bucket.pass_line(line)

    def end(self) -> Iterator[LogLine]:
        """The marker for what was left out last, if anything was."""
        for bucket in self._buckets.values():
            yield from bucket.marker()


class _Bucket:
    """What one log may still show."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._level = self._burst = burst
        self._last: LogLine | None = None
        self._left_out = 0

    def pass_line(self, line: LogLine) -> Iterator[LogLine]:
        elapsed = 0.0 if self._last is None else (line.time - self._last.time).total_seconds()
        self._last = line
        self._level = min(self._burst, self._level + max(0.0, elapsed) * self._rate)
        if self._level < 1:
            self._left_out += 1
            return
        yield from self.marker()
        self._level -= 1
        yield line

    def marker(self) -> Iterator[LogLine]:
        if self._left_out and self._last is not None:
            count, self._left_out = self._left_out, 0
            bound = f"more than {int(self._rate):,} a second"
            text = f"… {count:,} lines are not shown here: {bound}; the service has them all."
            yield replace(self._last, text=text)
