# SPDX-License-Identifier: Apache-2.0
"""Write the lines of a job into the log of its task, each once and in order, also when a triggerer is restarted.

A trigger that is restarted has to know where the log of its task stands:

* Where the service can replay a job's log from the start, nothing is kept. The lines are written again under the same
  times, and Airflow's reader merges them. The handlers for CloudWatch, Elasticsearch and OpenSearch do not merge: with
  ``[jobapi] log_resume = cursor`` the number of lines so far is kept, and as many are left out.
* Where it cannot (``LogFollower.replayable`` is False), the cursor is kept, and with it everything that the times of
  the next lines depend on. Reading goes on at the cursor.
* Where the job has secrets, the number of lines is always kept, but used only by a trigger that can no longer recognise
  the secrets: it hides its lines, so they would not merge with those in the log.

They are kept in the XCom ``training_log``, whose writes are at least two seconds apart. What is kept was true one write
before, since a line that was just logged may not be in the log's storage yet. So a triggerer that is killed loses no
line. Those of the last seconds are written again under the same times; logs that do not merge show them twice.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_jobapi._airflow import conf
from airflow_provider_jobapi.training.logs import LogChunk, LogLine, Thinning, Timeline, plain
from airflow_provider_jobapi.training.metrics.helper import readable
from airflow_provider_jobapi.triggers import xcoms
from airflow_provider_jobapi.triggers.xcom_writer import Slot, XComWriter, sink_of, writer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from airflow_provider_jobapi.services.base import Cursor, LogFollower
    from airflow_provider_jobapi.triggers.pace import Pace

LINES_KEY = "training_log"
"""The XCom that says up to where the job's log is in the log of the task."""


class TaskLog:
    """The log of one task while its trigger follows a job.

    :param job_id: The job.
    :param not_before: The ``not_before`` of the deferral, ISO 8601; distinguishes the deferrals of one job.
    :param skew: Airflow's clock minus the service's.
    :param write: Writes one line, with its ``timestamp``.
    :param warn: Writes one warning.
    :param pace: Limits the lines of all triggers of the process.
    """

    def __init__(
        self,
        job_id: str,
        not_before: str,
        skew: timedelta,
        *,
        write: Callable[..., object],
        warn: Callable[[str], object],
        pace: Pace,
    ) -> None:
        self._deferral = {"job_id": job_id, "floor": not_before}  # the XCom's word for it since the first version
        self._write, self._warn, self._pace = write, warn, pace
        self._times = skew, datetime.fromisoformat(not_before)
        self._timeline = Timeline(*self._times)
        self._thinning = Thinning()
        self._lines, self._in_log = Counter[int | str](), Counter[int | str]()
        self._keeps_cursor = False
        self._now: dict[str, Any] = {}
        self._at_last_write: dict[str, Any] = {}
        self._writer: XComWriter | None = None
        self._slot: Slot | None = None

    async def open(self, ti: Any, follower: LogFollower, *, counted: bool = False, skip: bool = False) -> Cursor:
        """Find out where the log stands; returns the cursor to read from.

        :param ti: The task instance; None where there is none, as on a worker, whose log is not continued.
        :param counted: Whether the number of lines is kept in any case, for a later trigger that has to skip them.
        :param skip: Whether the lines that the log has are left out, since this trigger would write them differently.
        """
        self._keeps_cursor = not follower.replayable
        resumes = self._is_wanted() or self._keeps_cursor or skip
        if ti is None or not (resumes or counted):
            return None
        cursor = await self._read(ti) if resumes else None
        self._writer = writer()
        self._slot = self._writer.open(sink_of(ti), LINES_KEY)
        self._now = self._at_last_write = self._position(cursor)
        return cursor

    def close(self) -> None:
        """Write the position no more."""
        if self._writer is not None and self._slot is not None:
            self._writer.close(self._slot)

    async def show(self, chunk: LogChunk) -> None:
        """Write the lines that are not in the log yet."""
        await self._show(self._thinning.feed(chunk.lines))
        if self._writer is not None and self._slot is not None:
            self._now = self._position(chunk.cursor)
            self._keep()

    async def finish(self) -> None:
        """Write how many lines were left out last, if any were."""
        await self._show(self._thinning.end())

    async def _show(self, lines: Iterable[LogLine]) -> None:
        for line in lines:
            shown = self._timeline.place(line.time, line.stream, line.streams).isoformat(timespec="milliseconds")
            self._lines[line.stream] += 1
            if self._lines[line.stream] <= self._in_log[line.stream]:
                continue
            await self._pace.step()
            # No arguments, hence no formatting: a % or {} in the job's line stays what it is.
            self._write(plain(readable(line.text)), timestamp=shown)

    def _position(self, cursor: Cursor) -> dict[str, Any]:
        lines = self._lines | self._in_log
        kept: dict[str, Any] = {
            "lines": lines[0] if set(lines) <= {0} else {str(stream): count for stream, count in lines.items()}
        }
        if self._keeps_cursor:
            kept |= {"cursor": cursor, "timeline": self._timeline.state(), "thinning": self._thinning.state()}
        return kept

    def _keep(self) -> None:
        if self._writer is not None and self._slot is not None and self._now != self._at_last_write:
            self._writer.offer(self._slot, self._value)

    def _value(self) -> dict[str, Any]:
        """Return the position of one write ago; called by the writer when its turn has come."""
        sure, self._at_last_write = self._at_last_write, self._now
        if sure != self._now and self._writer is not None and self._slot is not None:
            self._writer.offer(self._slot, self._value)  # by the next write, what is new now is in the log's storage
        return self._deferral | sure

    async def _read(self, ti: Any) -> Cursor:
        """Read the position that this deferral has kept, if any; returns the cursor in it."""
        from asgiref.sync import sync_to_async

        try:
            kept = await sync_to_async(xcoms.read)(ti, LINES_KEY)
            if kept is None or {name: kept[name] for name in self._deferral} != self._deferral:
                return None
            return self._restore(kept)
        except Exception as error:  # noqa: BLE001 -- lines that are shown twice are better than a job without a follower
            self._warn(f"The position in the log could not be read, so all lines are shown: {error!r}")
            return None

    def _restore(self, kept: dict[str, Any]) -> Cursor:
        lines = _counted(kept["lines"])
        if not self._keeps_cursor:
            self._in_log = lines
            return None
        if kept.get("cursor") is None:
            return None
        timeline, thinning = Timeline(*self._times), Thinning()
        timeline.restore(kept["timeline"])
        thinning.restore(kept["thinning"])
        self._timeline, self._thinning, self._lines = timeline, thinning, lines
        self._warn(
            "The triggerer was restarted, and the service cannot show the job's log from its start again: lines until "
            "here are in the log of the triggerer before."
        )
        return kept["cursor"]

    def _is_wanted(self) -> bool:
        how = conf.get("jobapi", "log_resume", fallback="replay")
        if how not in {"replay", "cursor"}:
            self._warn(f"[jobapi] log_resume is {how!r}; it must be replay or cursor. replay is used.")
        return how == "cursor"


def _counted(lines: Any) -> Counter[int | str]:
    """Read the lines of each stream; a number where the job has one stream."""
    kept = lines if isinstance(lines, dict) else {0: lines}
    return Counter({_stream(name): max(0, int(count)) for name, count in kept.items()})


def _stream(name: int | str) -> int | str:
    """Read a stream's number or name; JSON has made texts of the numbers."""
    return int(name) if str(name).isdecimal() else str(name)
