# SPDX-License-Identifier: Apache-2.0
"""What followers share that poll the logs of a job: limits of a read, the form of a line, the end, and complaints."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from airflow_provider_jobapi.exceptions import ServiceUnavailable, describe
from airflow_provider_jobapi.services import retry
from airflow_provider_jobapi.training.logs import RECORD_LIMIT, LogLine

JITTER = 0.1
"""How much earlier or later than the interval a poll may be, as a fraction of the interval."""

QUIET_SECONDS = 8.0
"""Seconds without a new line after which the log of a job that has ended is complete, since lines arrive late."""

COMPLETE_AFTER, COMPLETE_ANYWAY_AFTER = 2, 6
"""Reads in a row without a new line after which the log of an ended job is complete: reads without an error, and reads
of any kind."""

REPORTED_AFTER = 3
"""Reads in a row that fail before a temporary error is reported."""

_REPLACED_CHARACTERS = {0: " ", 13: " "}


@dataclass(frozen=True, slots=True)
class ReadLimits:
    """Limits of one read of a job's logs. The next read continues where it ended, without waiting.

    :ivar pages: Pages beyond the first one of each log.
    :ivar seconds: Time after which no further request is sent, so that lines are shown even if the service is slow.
    :ivar lines: Lines after which the read ends. One answer may have many more, all in memory at once.
    :ivar link_bytes: Bytes that are read from the link to a log, where a service gives one.
    """

    pages: int = 24
    seconds: float = 20.0
    lines: int = 12_000
    link_bytes: int = 4 * 1024**2


DEFAULT_LIMITS = ReadLimits()


def lines_of(text: str, time: datetime, stream: int | str, streams: int, prefix: str) -> Iterator[LogLine]:
    """Return the lines of a text, each within the limits of a record.

    :param prefix: What each line begins with, so that lines of several streams can be told apart.
    """
    return (LogLine(time, prefix + _bounded(each), stream, streams) for each in text.split("\n"))


def _bounded(text: str) -> str:
    """Return a line within the limits of a record of the jobAPI."""
    clean = text.removesuffix("\r").translate(_REPLACED_CHARACTERS)
    cut = clean[:RECORD_LIMIT].encode(errors="replace")
    if len(clean) <= RECORD_LIMIT and len(cut) <= RECORD_LIMIT:
        return clean
    return cut[: RECORD_LIMIT - 3].decode(errors="ignore") + "…"


def jittered(interval: float) -> float:
    """Return the seconds to the next poll, so that a thousand followers do not poll at the same moment."""
    return interval * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 -- no secret


class QuietEnd:
    """Decides when the log of a job that has ended is complete: reads in a row, for some seconds, without a line.

    :param quiet: The seconds.
    """

    def __init__(self, quiet: float = QUIET_SECONDS) -> None:
        self.quiet = quiet
        self._reads = self._whole_reads = 0
        self._since = 0.0

    @property
    def begun(self) -> bool:
        """Whether the job has ended, and the last read brought no line."""
        return self._reads > 0

    def interval(self, interval: float, *, ended: bool) -> float:
        """Return the seconds to the next poll, which are fewer while the log of an ended job is not complete."""
        return min(interval, self.quiet / 2) if ended else interval

    def reached(self, *, ended: bool, news: bool, whole: bool) -> bool:
        """Note a read; returns whether the log is complete.

        :param ended: Whether the job has ended.
        :param news: Whether the read brought a line, or may have left one.
        :param whole: Whether every log was read to its end.
        """
        now = time.monotonic()
        if news or not ended:
            self._reads = self._whole_reads = 0
            return False
        self._since = self._since if self._reads else now
        self._reads += 1
        self._whole_reads = self._whole_reads + 1 if whole else 0
        if self._whole_reads < COMPLETE_AFTER and self._reads < COMPLETE_ANYWAY_AFTER:
            return False
        return retry.is_testing() or now - self._since >= self.quiet


class Complaints:
    """Logs why a job's logs cannot be read, once for each kind of error; a temporary one only if it lasts.

    :param job_id: The job.
    """

    def __init__(self, job_id: str, log: logging.Logger) -> None:
        self._job_id = job_id
        self._log = log
        self._said = set[type[Exception]]()
        self._failures = 0

    def note(self, trouble: Exception | None) -> None:
        """Note the error of a read; None where there was none."""
        self._failures = 0 if trouble is None else self._failures + 1
        if trouble is None or type(trouble) in self._said:
            return
        if isinstance(trouble, ServiceUnavailable) and self._failures < REPORTED_AFTER:
            return
        self._said.add(type(trouble))
        self._log.warning(
            f"The log of job {self._job_id} cannot be read, so lines may be missing here. The job itself is not "
            f"affected. {describe(trouble)}"
        )


class RequestPace:
    """Spreads the requests that all followers of a process send to one service.

    :param rate: Requests a second.
    """

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._due = float("-inf")

    async def step(self) -> None:
        """Wait until the next request may be sent. One that is cancelled while it waits leaves its turn unused."""
        now = time.monotonic()
        turn = max(self._due, now)
        self._due = turn + 1 / self._rate
        if turn > now:
            await asyncio.sleep(turn - now)
