# SPDX-License-Identifier: Apache-2.0
"""Write the scalars that a job's event files hold: a file of records that are only appended, up to a bound.

A part of the supervisor: standard library only, Python 3.8 and newer. A record has the form of the log's, and its text
is a line of the helper ``jobapi_metrics``: ``<time> {"jobapi_metrics": 1, "step": 3, "metrics": {"loss": 0.25}}``.

Of a long curve not every point is written. Its first thousand are, and of the next thousand, of the next two thousand,
of the next four thousand, and so on, five hundred each: the lowest and the highest of each group of neighbours.
"""

from __future__ import annotations

import json
import math
import os
import time
from pathlib import Path
from typing import Callable, NamedTuple  # noqa: UP035 -- Python 3.8 has the others only as annotations

if __package__:
    from airflow_provider_jobapi.server.run.supervisor import event_folder
    from airflow_provider_jobapi.server.run.supervisor.event_folder import EventFiles
    from airflow_provider_jobapi.server.run.supervisor.event_reader import EventFile, Place
    from airflow_provider_jobapi.server.run.supervisor.framing import stamp
    from airflow_provider_jobapi.server.run.supervisor.tfrecord import Event
else:  # run by its path, isolated from every package
    import event_folder  # type: ignore[import-not-found, no-redef]
    from event_folder import EventFiles  # type: ignore[no-redef]
    from event_reader import EventFile, Place  # type: ignore[import-not-found, no-redef]
    from framing import stamp  # type: ignore[import-not-found, no-redef]
    from tfrecord import Event  # type: ignore[import-not-found, no-redef]

MOST_CURVES = 128
DENSE_POINTS = 1_000
"""Points of a curve that are written, each one, before the others are grouped."""

NAME_LIMIT = 100
"""Characters of a name; ``training/metrics`` has the same limit."""

HOLD_SECONDS = 30.0
"""The longest time for which a point waits for the others of its group."""

_LAST_BYTES = 128 * 1024
"""Room for the last points, one of each curve."""

_SPLITS = frozenset({"train", "training", "validation", "valid", "val", "dev", "eval", "evaluation", "test", "testing"})
"""Directories that are named after a part of the data, and therefore belong to the names of the curves."""

_LEAST_BOUND_BYTES = 2**20
_MOST_RUNS = 1_000

_LAST_YEAR = 253402300799.0
"""The end of the year 9999."""


class Point(NamedTuple):
    """A point of a curve."""

    number: int
    step: int
    value: float
    time: float


class Curve:
    """The points of one tag of one run.

    :ivar name: What it is called.
    :ivar last: Its last point.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.last: Point | None = None
        self.written = -1
        """The number of the last point that was written."""
        self._file = self._shift = 0
        self._raw = 0
        self._group: dict[str, Point] = {}
        self._grouped = 0
        self._since = 0.0

    def add(self, file: int, step: int | None, value: float, time: float, now: float) -> list[Point]:
        """Add a point; returns those that are to be written.

        Steps never go back. A file that begins where the curve was already goes on after its end, as in a script that
        fits several times; points of an earlier file that come after are left out. Points without steps are counted.

        :param file: The number of the file.
        :param time: When it was measured.
        :param now: The time of a clock that never goes back.
        """
        last = self.last
        if last is None:
            self._file, number, place = file, 0, step or 0
        elif file < self._file:
            return []
        else:
            number, place = last.number + 1, self._place(last, file, step)
        self._raw = step or 0
        self.last = Point(number, place, value, time)
        if number < DENSE_POINTS:
            return [self.last]
        return self._into_group(self.last, now)

    def _place(self, last: Point, file: int, step: int | None) -> int:
        raw, begins = step or 0, file > self._file
        if begins:
            self._file, self._shift = file, 0
        elif step is None and self._raw == 0:
            return last.step + 1
        if raw + self._shift < last.step or (begins and step is None):
            self._shift = last.step + 1 - raw
        return raw + self._shift

    def _into_group(self, point: Point, now: float) -> list[Point]:
        if not self._group:
            self._since = now
        if math.isfinite(point.value):
            lowest = self._group.setdefault("lowest", point)
            highest = self._group.setdefault("highest", point)
            if point.value < lowest.value:
                self._group["lowest"] = point
            if point.value >= highest.value:
                self._group["highest"] = point
        else:
            self._group.setdefault(repr(point.value), point)
        self._grouped += 1
        width = 4 << (point.number // DENSE_POINTS).bit_length() - 1
        return self.release() if self._grouped >= width else []

    def release(self, before: float = math.inf) -> list[Point]:
        """End the group; returns its points that are to be written.

        :param before: Only where its first point was added before this time.
        """
        if not self._group or self._since >= before:
            return []
        points = sorted(set(self._group.values()))
        self._group.clear()
        self._grouped = 0
        return points


class Scalars:
    """The scalars of one job.

    :param path: The file; it is made with the first point.
    :param bound: The most bytes of the file.
    :param say: Writes a line into the job's log.
    """

    def __init__(self, path: str, bound: int, say: Callable[[str], None]) -> None:
        self._path = path
        self._bound = max(bound, _LEAST_BOUND_BYTES)
        self._say = say
        self._handle: int | None = None
        self._size = 0
        self._full = self._has_more = False
        self._lost = 0
        self._curves: dict[tuple[str, str], Curve | None] = {}
        self._names: set[str] = set()
        self._runs: dict[Place, str] = {}
        self._root: tuple[str, ...] | None = None
        self._records: list[bytes] = []
        self._notices: list[str] = []

    def take(self, file: EventFile, event: Event) -> None:
        """Take the scalars of a record; they are written by the next :meth:`write`."""
        run, now = self._run(file), time.monotonic()
        if run is None:
            return
        when = event.time if 0 < event.time < _LAST_YEAR else time.time()
        for tag, value in event.values:
            curve = self._curve(run, tag)
            if curve is not None:
                self._keep(curve, curve.add(file.number, event.step, value, when, now))

    def write(self) -> None:
        """Append what was taken, and what has waited for long. No error of the file ends the job."""
        long_ago = time.monotonic() - HOLD_SECONDS
        for curve in self._known():
            self._keep(curve, curve.release(long_ago))
        self._append(self._bound - _LAST_BYTES)

    def close(self) -> None:
        """Append the last point of each curve, and sync the file."""
        self.write()
        for curve in self._known():
            self._keep(curve, curve.release())
            missing = self._full or self._lost > 0
            if curve.last is not None and (missing or curve.last.number > curve.written):
                self._records.append(_record(curve, curve.last))
        self._append(self._bound)
        if self._lost:
            self._say(f"{self._lost:,} points of the event files of TensorBoard are lost: the disk was full.")
        if self._handle is not None:
            try:
                os.fsync(self._handle)
            except OSError:
                pass
            os.close(self._handle)
            self._handle = None

    def _known(self) -> list[Curve]:
        return [curve for curve in self._curves.values() if curve is not None]

    def _run(self, file: EventFile) -> str | None:
        """The name of a run; None where there are too many.

        It is the run's directory, from where the directories of the runs differ. The directory of the first run is the
        place from where the others are named, or the one above, where the first is named after a part of the data. So a
        job with one run has curves without a prefix.
        """
        if file.place in self._runs:
            return self._runs[file.place]
        if len(self._runs) >= _MOST_RUNS:
            return None
        folder, names = file.place
        here = (folder, *names)
        if self._root is None:
            self._root = here[:-1] if names and names[-1].lower() in _SPLITS else here
        shared = 1
        while self._root[shared : shared + 1] == here[shared : shared + 1] != ():
            shared += 1
        run = "/".join(here[shared:])
        if run in self._runs.values():
            run = "/".join(names) or folder.rpartition("/")[2]
        self._runs[file.place] = run
        return run

    def _curve(self, run: str, tag: str) -> Curve | None:
        key = run, tag
        if key in self._curves:
            return self._curves[key]
        if len(self._curves) >= MOST_CURVES:
            if not self._has_more:
                self._has_more = True
                self._notices.append(
                    f"The event files of TensorBoard have more than {MOST_CURVES} curves; the others are left out."
                )
            return None
        name = _name(f"{run}/{tag}" if run else tag)
        self._curves[key] = curve = None if name in self._names else Curve(name)
        self._names.add(name)
        return curve

    def _keep(self, curve: Curve, points: list[Point]) -> None:
        if points and not self._full:
            curve.written = max(curve.written, points[-1].number)
            self._records += [_record(curve, point) for point in points]

    def _append(self, bound: int) -> None:
        """Append the records up to a bound, each whole or not at all."""
        records, self._records = self._records, []
        room, count = bound - self._size, 0
        for record in records:
            room -= len(record)
            if room < 0:
                break
            count += 1
        if count < len(records) and not self._full:
            self._full = True
            self._notices.append(
                f"The curves of the event files of TensorBoard have reached their bound of {self._bound:,} bytes; only "
                "their last points follow, when the job has ended."
            )
        if count:
            self._write(b"".join(records[:count]))
        for notice in self._notices:
            self._say(notice)
        self._notices.clear()

    def _write(self, data: bytes) -> None:
        written = 0
        try:
            if self._handle is None:
                flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
                self._handle = os.open(self._path, flags, 0o600)
                self._size = os.fstat(self._handle).st_size
            while written < len(data):
                written += os.write(self._handle, data[written:])
        except OSError:
            written = data.rfind(b"\n", 0, written) + 1
            self._lost += data.count(b"\n", written)
            self._truncate(self._size + written)
        self._size += written

    def _truncate(self, size: int) -> None:
        try:
            if self._handle is not None:
                os.ftruncate(self._handle, size)
        except OSError:
            pass


def _name(text: str) -> str:
    """A name as other metrics have: without blanks and controls, and its end where it is too long."""
    name = "".join("_" if each.isspace() else each if each.isprintable() else "\ufffd" for each in text)
    return name if len(name) <= NAME_LIMIT else "…" + name[1 - NAME_LIMIT :]


def _record(curve: Curve, point: Point) -> bytes:
    value: float | str = point.value
    if not math.isfinite(point.value):
        value = "NaN" if math.isnan(point.value) else "Infinity" if point.value > 0 else "-Infinity"
    text = json.dumps({"jobapi_metrics": 1, "step": point.step, "metrics": {curve.name: value}})
    return stamp(point.time) + b" " + text.encode() + b"\n"


class Curves:
    """Reads a job's event files beside its output.

    :param directory: The job's directory.
    :param folders: Where the files may be.
    :param bound: The most bytes of the file of the scalars.
    :param say: Writes a line into the job's log.
    :param user: The user and the group id of the job, where it has its own.
    """

    def __init__(
        self,
        directory: Path,
        folders: list[str],
        bound: int,
        say: Callable[[str], None],
        user: tuple[int, int] | None = None,
    ) -> None:
        self._scalars = Scalars(str(directory / "scalars"), bound, say)
        self._files = EventFiles(folders, self._scalars.take, say, _beginning(directory), user)

    def look(self) -> None:
        """Do a little of what is due; called often."""
        if self._files.look():
            self._scalars.write()

    def finish(self, *, stopped: bool = False) -> None:
        """Read what is left, when the job's command has ended.

        :param stopped: Whether it was stopped, and its end is waited for.
        """
        seconds = event_folder.FINISH_OF_A_STOPPED_JOB_SECONDS if stopped else event_folder.FINISH_SECONDS
        self._files.finish(self._scalars.write, seconds)
        self._scalars.close()


def _beginning(directory: Path) -> int:
    """When the job's command began, by the clock of the file system, which also says when a file was changed."""
    try:
        return (directory / "running").stat().st_ctime_ns
    except OSError:  # the disk is full
        return 0
