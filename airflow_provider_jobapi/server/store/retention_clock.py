# SPDX-License-Identifier: Apache-2.0
"""Measure the retention of ended jobs so that a clock that jumps removes none too early.

The wall clock says when a retention begins. How much time really went by is read from the machine's uptime, which no
change of the clock moves. Where the wall clock went further than that since the last look, ahead or back, the clock
jumped, and the beginning of every retention is moved by the same span. Across a boot no time is certain, since the root
may have come from another machine, which was on long before. So the time from the last look to the boot and on to the
first look after it does not count.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import Connection, func, insert, select, update

from airflow_provider_jobapi.server.store.database import Moment, clock, jobs

TOLERANCE = timedelta(seconds=1)
"""A difference between clock and uptime that is no jump."""

_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class MachineTime:
    """The machine's own time: a boot, and the seconds since it. Without ``/proc`` no boot is known."""

    boot: str
    uptime: float

    @classmethod
    def read(cls) -> MachineTime:
        """Read it. A process cannot change it, and neither can whoever sets the clock."""
        try:
            boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
            return cls(boot, float((_PROC / "uptime").read_text().split()[0]))
        except (OSError, ValueError):
            return cls("", 0.0)

    def since(self, earlier: MachineTime) -> timedelta:
        """Return the time that certainly went by since an earlier reading."""
        same_boot = self.boot == earlier.boot and self.uptime >= earlier.uptime
        return timedelta(seconds=self.uptime - earlier.uptime if same_boot else 0.0)


def _now() -> datetime:
    return datetime.now(UTC)


class RetentionClock:
    """The clock of the retention, whose last reading is in the database.

    :param now: Reads the wall clock.
    :param machine: Reads the machine's time.
    """

    def __init__(
        self, now: Callable[[], datetime] = _now, machine: Callable[[], MachineTime] = MachineTime.read
    ) -> None:
        self._now = now
        self._machine = machine

    def look(self, connection: Connection) -> datetime:
        """Compare the clock with the last look, move all retentions if it jumped, and return its time.

        :param connection: A transaction that can write.
        """
        now, machine = self._now(), self._machine()
        row = connection.execute(select(clock)).one_or_none()
        seen = row.seen if row else _last_time(connection) or now
        elapsed = machine.since(MachineTime(row.boot, row.uptime)) if row else timedelta()
        jump = now - seen - elapsed
        values = {"seen": now, "boot": machine.boot, "uptime": machine.uptime}
        if abs(jump) > TOLERANCE:
            values["jumped"] = now
            span = jump // timedelta(microseconds=1)
            moved = func.coalesce(jobs.c.kept_from, jobs.c.finished, type_=Moment.impl) + span
            connection.execute(update(jobs).where(jobs.c.finished.is_not(None)).values(kept_from=moved))
        if row is None:
            connection.execute(insert(clock).values(values | {"id": 1}))
        else:
            connection.execute(update(clock).values(values))
        return now

    def comparable_from(self, connection: Connection) -> datetime | None:
        """Return the time of the last jump; earlier times are not comparable with the clock. None without one."""
        jumped: datetime | None = connection.execute(select(clock.c.jumped)).scalar_one()
        return jumped

    def kept_from(self, connection: Connection, finished: datetime) -> datetime:
        """Return when the retention of a job begins that ended at a time of the wall clock.

        A time from before the last jump, or from the future, cannot be compared with the clock: it begins now.
        """
        now = self.look(connection)
        jumped = connection.execute(select(clock.c.jumped)).scalar_one()
        comparable = finished <= now and (jumped is None or finished >= jumped)
        return finished if comparable else now


def _last_time(connection: Connection) -> datetime | None:
    """Return the latest time in the database of an earlier version, which kept no time of a look."""
    columns = (jobs.c.submitted, jobs.c.started, jobs.c.finished, jobs.c.deleted)
    times = connection.execute(select(*(func.max(column, type_=Moment()) for column in columns))).one()
    return max((time for time in times if time is not None), default=None)
