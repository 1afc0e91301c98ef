# SPDX-License-Identifier: Apache-2.0
r"""Log lines of a job: their form on the wire, and the times under which Airflow shows them.

On the wire a log is a sequence of records, ``<RFC 3339 time in UTC, microseconds> <text>\\n``. A record is never cut,
moved or rewritten, so a byte offset always means the same place.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zlib import crc32

from airflow_provider_jobapi.exceptions import BrokenContract
from airflow_provider_jobapi.training.status import JobState

RECORD_LIMIT = 16 * 1024
"""Bytes of one record at most, with its time and its newline."""

_TIME_LENGTH = len("2026-01-01T00:00:00.000000Z")
_FOLD = re.compile("::(?=(?:end)?group::)")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of a job's log and the time at which the job wrote it, by the service's clock.

    A service may keep several logs of one job, one for each node or container: its streams. The lines of one stream
    are read in their order; the order between streams depends on when each was read. A stream may begin late and end
    early.

    :ivar stream: The number or the name of the stream. The same line has the same one whenever it is read.
    :ivar streams: How many streams share the milliseconds under which lines are shown: 1 for a job that never has
        another stream, else at least as many as the job is planned to have. It is the same for all lines of a job.
        Streams beyond it are shown as well; where a triggerer is restarted, their lines may be shown twice. Each
        line's text should then say which stream it is from.
    """

    time: datetime
    text: str
    stream: int | str = 0
    streams: int = 1


@dataclass(frozen=True, slots=True)
class LogChunk:
    """The result of one read of a job's log.

    :ivar lines: The lines after the cursor, oldest first.
    :ivar cursor: The small JSON-able value to read on from.
    :ivar state: The job's state as it came with the lines; None where the service did not say.
    :ivar complete: Whether the job is over and no line will follow.
    :ivar came: When the lines came, in seconds since 1970, where their own times do not say when each was written.
    :ivar behind: Whether the service has, or may have, more lines now, which the next read looks for. Of an ended job,
        such a read without a line is no sign that the log is complete.
    """

    lines: tuple[LogLine, ...]
    cursor: Any
    state: JobState | None = None
    complete: bool = False
    came: float | None = None
    behind: bool = False


def stamp(time: datetime) -> str:
    """Return the time of a record: RFC 3339 in UTC, with microseconds."""
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
    """Return a job's line with the words removed by which Airflow's UI folds lines.

    The UI folds what follows a line that contains ``::group::``. A zero-width space breaks the word invisibly.
    """
    return _FOLD.sub("::\u200b", text)


def fair_shares(logs: Sequence[tuple[str, ...]], count: int) -> tuple[str, ...]:
    """Return the last lines of several logs, at most ``count`` together, with an equal share for each log. What one log
    does not use goes to the others, the first ones first.
    """
    shares = [0] * len(logs)
    while sum(shares) < count and (short := [i for i, log in enumerate(logs) if shares[i] < len(log)]):
        shares[min(short, key=lambda i: shares[i])] += 1
    return tuple(line for log, share in zip(logs, shares, strict=True) for line in log[len(log) - share :])


class Timeline:
    """Computes the times under which lines are shown in Airflow.

    Airflow's reader merges a task's log files by the millisecond and drops equal neighbours, so two equal lines of one
    instant become one, and a line that a restarted triggerer writes again is merged only where it has the very same
    time. Hence ``shown = max(source + skew, not_before, previous + 1 ms)`` in whole milliseconds: a function of the
    log alone, distinct for every line, and never before the lines that the worker wrote.

    Each stream of a job has milliseconds of its own, those that leave its number as the remainder of the division by
    ``streams``, so that the times of one stream do not depend on what was read of another. The number of a named
    stream is the CRC-32 of its name.

    :param skew: Airflow's clock minus the service's.
    :param not_before: The time of the deferral; no line is shown before it.
    """

    def __init__(self, skew: timedelta, not_before: datetime) -> None:
        self._skew = skew
        self._not_before = _whole_milliseconds(not_before)
        self._next: dict[int | str, datetime] = {}

    def place(self, source: datetime, stream: int | str = 0, streams: int = 1) -> datetime:
        """Return the time under which the next line of a stream is shown, given the time at which it was written."""
        least = self._next.get(stream, self._not_before)
        number = stream if isinstance(stream, int) else crc32(stream.encode())
        try:
            shown = max(_whole_milliseconds(source + self._skew), least)
            shown += (number - (shown - _EPOCH) // _MILLISECOND) % streams * _MILLISECOND
            self._next[stream] = shown + _MILLISECOND
        except OverflowError:  # a service may send any year
            shown = least
        return shown

    def state(self) -> list[Any]:
        """Return what the times of the next lines depend on, as JSON."""
        return [[stream, moment.isoformat()] for stream, moment in self._next.items()]

    def restore(self, state: Iterable[Any]) -> None:
        """Continue from a :meth:`state`."""
        self._next = {stream: datetime.fromisoformat(moment) for stream, moment in state}


def _whole_milliseconds(moment: datetime) -> datetime:
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


class Thinning:
    """Limits the lines of a job that Airflow's UI has to show, and says how many it left out.

    A bucket of ``burst`` lines is refilled at ``rate`` lines a second *of the lines' own time*, so that a replay of the
    same log leaves out the same lines.

    :param rate: Lines a second that are always shown, of all streams together.
    :param burst: Lines that may come at once.
    """

    def __init__(self, rate: int = 1_000, burst: int = 10_000) -> None:
        self._rate = rate
        self._burst = burst
        self._buckets: dict[int | str, _Bucket] = {}

    def feed(self, lines: Iterable[LogLine]) -> Iterator[LogLine]:
        """Yield the lines to show, and a marker line where some are left out."""
        for line in lines:
            bucket = self._buckets.get(line.stream)
            if bucket is None:
                burst = self._burst / line.streams
                bucket = self._buckets[line.stream] = _Bucket(self._rate / line.streams, burst, burst)
            yield from bucket.pass_line(line)

    def end(self) -> Iterator[LogLine]:
        """Yield the marker for the lines that were left out last, if any were."""
        for bucket in self._buckets.values():
            yield from bucket.marker()

    def state(self) -> list[Any]:
        """Return what is known of each stream, as JSON."""
        return [[stream, bucket.state()] for stream, bucket in self._buckets.items()]

    def restore(self, state: Iterable[Any]) -> None:
        """Continue from a :meth:`state`."""
        self._buckets = {stream: _Bucket.of(kept) for stream, kept in state}


@dataclass(slots=True)
class _Bucket:
    """How many lines of one stream may still be shown.

    :ivar rate: Lines a second.
    :ivar burst: Lines that may come at once.
    :ivar level: Lines that may come now.
    :ivar last: The last line.
    :ivar left_out: Lines that were left out since the last marker.
    """

    rate: float
    burst: float
    level: float
    last: LogLine | None = None
    left_out: int = 0

    def pass_line(self, line: LogLine) -> Iterator[LogLine]:
        elapsed = 0.0 if self.last is None else (line.time - self.last.time).total_seconds()
        self.last = line
        self.level = min(self.burst, self.level + max(0.0, elapsed) * self.rate)
        if self.level < 1:
            self.left_out += 1
            return
        yield from self.marker()
        self.level -= 1
        yield line

    def marker(self) -> Iterator[LogLine]:
        if self.left_out and self.last is not None:
            count, self.left_out = self.left_out, 0
            bound = f"more than {int(self.rate):,} a second"
            text = f"… {count:,} lines are not shown here: {bound}; the service has them all."
            yield replace(self.last, text=text)

    def state(self) -> list[Any]:
        last = self.last and [self.last.time.isoformat(), self.last.stream, self.last.streams]
        return [self.rate, self.burst, self.level, last, self.left_out]

    @classmethod
    def of(cls, state: Any) -> _Bucket:
        rate, burst, level, last, left_out = state
        line = None if last is None else LogLine(datetime.fromisoformat(last[0]), "", last[1], last[2])
        return cls(rate, burst, level, line, left_out)
