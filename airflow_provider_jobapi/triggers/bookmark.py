# SPDX-License-Identifier: Apache-2.0
"""How many of a job's lines the task's log has, for logs in which what is written twice is shown twice.

A triggerer that takes over writes the job's lines anew, from the first one, and Airflow merges them where logs are
files, or lie in S3, GCS or WASB. The handlers for CloudWatch, Elasticsearch and OpenSearch show both copies. There
``[jobapi] log_resume = cursor`` leaves out what is in the log, by a number of lines in an XCom.

The number is one that was true a write ago, since a line that is logged is not in the log's store yet. So a triggerer
that is killed costs no line, and doubles those of the last seconds.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from airflow_provider_jobapi._airflow import conf
from airflow_provider_jobapi.triggers.xcom_writer import Slot, XComWriter, sink_of, writer

if TYPE_CHECKING:
    from collections.abc import Callable

LINES_KEY = "training_log"
"""The XCom that says how many lines of which deferral are in the log."""


class Bookmark:
    """The place in the log of one deferral.

    :param job_id: The job.
    :param floor: What tells this deferral from another one of the same job.
    """

    def __init__(self, job_id: str, floor: str) -> None:
        self._deferral = {"job_id": job_id, "floor": floor}
        self._lines, self._at_last_write, self._known = Counter[int](), Counter[int](), Counter[int]()
        self._writer: XComWriter | None = None
        self._slot: Slot | None = None

    async def open(self, ti: Any, tell: Callable[[str], object]) -> None:
        """Find the place, where ``[jobapi] log_resume`` asks for it and there is a task.

        :param tell: Writes one line into the task's log.
        """
        if ti is None or not _is_wanted(tell):
            return
        self._known = await self._read(ti, tell)
        self._writer = writer()
        self._slot = self._writer.open(sink_of(ti), LINES_KEY)

    def close(self) -> None:
        """Write nothing more."""
        if self._writer is not None and self._slot is not None:
            self._writer.close(self._slot)

    def pass_line(self, lane: int = 0) -> bool:
        """Go on by a line of one of the job's logs; answers whether the task's log lacks it."""
        self._lines[lane] += 1
        return self._lines[lane] > self._known[lane]

    def keep(self) -> None:
        """Have the place written."""
        if self._writer is not None and self._slot is not None and not self._lines <= self._known:
            self._writer.offer(self._slot, self._value)

    def _value(self) -> dict[str, Any]:
        sure, self._at_last_write = self._at_last_write, self._lines.copy()
        lines = sure | self._known
        return {**self._deferral, "lines": lines[0] if set(lines) <= {0} else {str(one): lines[one] for one in lines}}

    async def _read(self, ti: Any, tell: Callable[[str], object]) -> Counter[int]:
        from airflow.sdk.execution_time.xcom import XCom
        from asgiref.sync import sync_to_async

        place = {"dag_id": ti.dag_id, "task_id": ti.task_id, "run_id": ti.run_id, "map_index": ti.map_index}
        try:
            told = await sync_to_async(XCom.get_one)(key=LINES_KEY, **place)
            ours = told is not None and {name: told[name] for name in self._deferral} == self._deferral
            return _counted(told["lines"]) if ours else Counter()
        except Exception as error:  # noqa: BLE001 -- lines that stand twice are better than a job that nobody follows
            tell(f"Whether the log has lines already cannot be found out, so all are shown: {error!r}")
            return Counter()


def _counted(lines: Any) -> Counter[int]:
    """Lines by log of the job; a number where it has one."""
    told = lines if isinstance(lines, dict) else {0: lines}
    return Counter({int(lane): max(0, int(count)) for lane, count in told.items()})


def _is_wanted(tell: Callable[[str], object]) -> bool:
    how = conf.get("jobapi", "log_resume", fallback="replay")
    if how not in {"replay", "cursor"}:
        tell(f"[jobapi] log_resume is {how!r}, and may be replay or cursor; replay is taken.")
    return how == "cursor"
