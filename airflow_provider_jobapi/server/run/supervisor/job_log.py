# SPDX-License-Identifier: Apache-2.0
"""Write the log file of a job: records that are only appended, up to a bound, beyond which the last lines are kept.

A part of the supervisor: standard library only, Python 3.8 and newer. An error of the file never ends the job: when the
disk is full, lines are lost, and the log says how many as soon as there is room: at the latest when it is closed, in
the room of a reserve that was written when it was opened.
"""

from __future__ import annotations

import collections
import os
import time
from pathlib import Path

if __package__:
    from airflow_provider_jobapi.server.run.supervisor.framing import Framer, clean, stamp
else:  # beside the supervisor, away from the package
    from framing import Framer, clean, stamp  # type: ignore[import-not-found, no-redef]

PREFIX = "jobapi: "
"""How the supervisor's own lines begin, by which they differ from the job's."""

TAIL_BYTES = 256 * 1024
"""The most bytes of last lines that are kept beyond the bound, since they hold the traceback."""

_LEAST_BOUND_BYTES = 64 * 1024

_MARKER_BYTES = 1024
"""Room for the lines that say what was left out."""

_RESERVE_BYTES = 8 * 1024
"""The room for the last line about lost lines: two blocks of a disk, since a line may reach into the next one."""

_LAST_LINE_TRIES, _LAST_LINE_PAUSE_SECONDS = 20, 0.1
"""How often the last line is tried, since another job may take the room of the reserve before it is written."""


class JobLog:
    """The log of a job.

    :param path: The file; it is made where it is missing.
    :param bound: The most bytes of the file, at least 64 KiB.
    :ivar size: The bytes of the file.
    :ivar lost: How many lines could not be written and are in no file.
    :raises OSError: when the file cannot be opened. No other method raises.
    """

    def __init__(self, path: str, bound: int) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._reserve = path + ".reserve"
        _take_room(self._reserve)
        self._framer = Framer()
        bound = max(bound, _LEAST_BOUND_BYTES)
        self._tail_bound = min(TAIL_BYTES, bound // 4)
        self._head_bound = bound - self._tail_bound - _MARKER_BYTES
        self._bound = bound
        self.size = os.fstat(self._file).st_size
        self._time = 0.0
        self._full = False
        self._tail: collections.deque[bytes] = collections.deque()
        self._tail_size = 0
        self._left_out = 0
        self._unsaid = 0
        self.lost = 0

    def feed(self, data: bytes) -> None:
        """Append what the job printed."""
        now = self._now()
        self._append(self._framer.feed(data, now), now)

    def tick(self) -> None:
        """Append the state of a progress bar that was held back, once it is due."""
        now = self._now()
        self._append(self._framer.tick(now), now)

    def end_of_output(self) -> None:
        """Append the last line of a step, also where it has no newline."""
        self._append(self._framer.end(), self._now())
        self._framer = Framer()

    def say(self, text: str) -> None:
        """Append a line of the supervisor's own."""
        self._append([clean(PREFIX + " ".join(text.split()))], self._now())

    def close(self) -> int:
        """Append the last lines that were kept, sync the file and return its size."""
        self.end_of_output()
        if self._left_out:
            marker = self._own(f"{self._left_out:,} lines are left out here; the last ones follow.")
            self._write([marker], lines=self._left_out)
        self._write(list(self._tail))
        self._say_what_is_lost()
        try:
            os.fsync(self._file)
        except OSError:
            pass
        os.close(self._file)
        return self.size

    def _now(self) -> float:
        self._time = max(self._time, time.time())
        return self._time

    def _own(self, text: str) -> bytes:
        return stamp(self._time) + b" " + clean(PREFIX + text) + b"\n"

    def _append(self, lines: list[bytes], now: float) -> None:
        if not lines:
            return
        start = stamp(now) + b" "
        records = [start + line + b"\n" for line in lines]
        if not self._full:
            records = self._fill(records)
        self._keep(records)

    def _fill(self, records: list[bytes]) -> list[bytes]:
        """Append records up to the bound and return those beyond it."""
        room = self._head_bound - self.size
        count = 0
        for record in records:
            room -= len(record)
            if room < 0:
                break
            count += 1
        self._write(records[:count])
        if count == len(records):
            return []
        self._full = True
        self._write(
            [
                self._own(
                    f"The log has reached its bound of {self._bound:,} bytes; of the lines from here on the last ones "
                    "are kept and follow when the job has ended."
                )
            ]
        )
        return records[count:]

    def _keep(self, records: list[bytes]) -> None:
        self._tail.extend(records)
        self._tail_size += sum(map(len, records))
        while self._tail_size > self._tail_bound:
            self._tail_size -= len(self._tail.popleft())
            self._left_out += 1

    def _say_what_is_lost(self) -> None:
        """Append the line about lost lines, in the room of the reserve where the disk is still full."""
        try:
            Path(self._reserve).unlink()
        except OSError:
            pass
        for _ in range(_LAST_LINE_TRIES):
            if not self._unsaid:
                return
            self._write([])
            if self._unsaid:
                time.sleep(_LAST_LINE_PAUSE_SECONDS)

    def _write(self, records: list[bytes], lines: int | None = None) -> None:
        """Append the records that fit on the disk, each whole or not at all.

        :param lines: How many lines are lost when not all of the records fit; by default, as many as do not fit.
        """
        data = b"".join(records)
        notice = self._own(f"{self._unsaid:,} lines are lost here: the disk was full.") if self._unsaid else b""
        data = notice + data
        written = 0
        try:
            while written < len(data):
                written += os.write(self._file, data[written:])
            self._unsaid = 0
        except OSError:
            written = data.rfind(b"\n", 0, written) + 1
            self._truncate(self.size + written)
            missing = data.count(b"\n", max(written, len(notice))) if lines is None else lines
            if notice and written:
                self._unsaid = 0
            self._unsaid += missing
            self.lost += missing
        self.size += written

    def _truncate(self, size: int) -> None:
        try:
            os.ftruncate(self._file, size)
        except OSError:
            pass


def _take_room(path: str) -> None:
    """Write a file whose room is given back when it is needed. Its bytes are random, so no disk compresses them.

    :raises OSError: when there is no room.
    """
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        data = os.urandom(_RESERVE_BYTES)
        while data:
            data = data[os.write(handle, data) :]
        os.fsync(handle)
    finally:
        os.close(handle)
