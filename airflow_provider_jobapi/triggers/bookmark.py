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
    :param not_before: The deferral's ``not_before``, which distinguishes deferrals of the same job.
    """

    def __init__(self, job_id: str, not_before: str) -> None:
        self._deferral = {"job_id": job_id, "floor": not_before}  # "floor" is the XCom's word, and stays
        self._lines, self._at_last_write, self._known = Counter[int](), Counter[int](), Counter[int]()
        self._writer: XComWriter | None = None
        self._slot: Slot | None = None

    async def open(self, ti: Any, warn: Callable[[str], object]) -> None:
        """Find the place, where ``[jobapi] log_resume`` asks for it and there is a task.

        :param warn: Writes one line into the task's log.
        """
        if ti is None or not _is_wanted(warn):
            return
        self._known = await self._read(ti, warn)
        self._writer = writer()
        self._slot = self._writer.open(sink_of(ti), LINES_KEY)

    def close(self) -> None:
        """Write nothing more."""
        if self._writer is not None and self._slot is not None:
            self._writer.close(self._slot)

    def pass_line(self, stream: int = 0) -> bool:
        """Go on by a line of one of the job's logs; answers whether the task's log lacks it."""
        self._lines[stream] += 1
        return self._lines[stream] > self._known[stream]

    def keep(self) -> None:
        """Have the place written."""
        if self._writer is not None and self._slot is not None and not self._lines <= self._known:
            self._writer.offer(self._slot, self._value)

    def _value(self) -> dict[str, Any]:
        sure, self._at_last_write = self._at_last_write, self._lines.copy()
        lines = sure | self._known
        return {**self._deferral, "lines": lines[0] if set(lines) <= {0} else {str(one): lines[one] for one in lines}}

    async def _read(self, ti: Any, warn: Callable[[str], object]) -> Counter[int]:
        from airflow.sdk.execution_time.xcom import XCom
        from asgiref.sync import sync_to_async

        place = {"dag_id": ti.dag_id, "task_id": ti.task_id, "run_id": ti.run_id, "map_index": ti.map_index}
        try:
            kept = await sync_to_async(XCom.get_one)(key=LINES_KEY, **place)
            same = kept is not None and {name: kept[name] for name in self._deferral} == self._deferral
            return _counted(kept["lines"]) if same else Counter()
        except Exception as error:  # noqa: BLE001 -- lines that stand twice are better than a job that nobody follows
            warn(f"Whether the log has lines already cannot be found out, so all are shown: {error!r}")
            return Counter()


def _counted(lines: Any) -> Counter[int]:
    """Lines by log of the job; a number where it has one."""
    kept = lines if isinstance(lines, dict) else {0: lines}
    return Counter({int(stream): max(0, int(count)) for stream, count in kept.items()})


def _is_wanted(warn: Callable[[str], object]) -> bool:
    how = conf.get("jobapi", "log_resume", fallback="replay")
    if how not in {"replay", "cursor"}:
        warn(f"[jobapi] log_resume is {how!r}, and may be replay or cursor; replay is taken.")
    return how == "cursor"
