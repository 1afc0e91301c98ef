# SPDX-License-Identifier: Apache-2.0
"""Read the logs of all nodes of a job, once, from one cursor to the next.

The cursor holds everything that is known, so a read that failed or was cancelled can be repeated without loss.
"""

from __future__ import annotations

import asyncio
import re
import time
import zlib
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from airflow_provider_jobapi.exceptions import BrokenContract, InvalidJob, ServiceUnavailable
from airflow_provider_jobapi.services.answer import Answer
from airflow_provider_jobapi.services.modelarts import log_pages, log_previews, page_format
from airflow_provider_jobapi.services.modelarts.calls import Call
from airflow_provider_jobapi.services.modelarts.dialect_base import Dialect, JobDetails, ModelArtsKey
from airflow_provider_jobapi.services.modelarts.errors import GONE, NO_LOG_YET, code_of, succeeded
from airflow_provider_jobapi.services.polling import DEFAULT_LIMITS, ReadLimits, lines_of
from airflow_provider_jobapi.training.logs import LogLine

EXPIRED_LOG = "2819"
"""The code for a log that was deleted after its 30 days."""

_FORWARD = {"v1": "desc", "v2": "asc"}
"""The word for the direction from old to new in the API's documents."""

_MILLISECOND = timedelta(milliseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_STAMP, _LAST_STAMP = 1_400_000_000 * 10**9, 4_000_000_000 * 10**9
"""Nanoseconds since 1970 between which the number of a page is a time."""


_LATEST_ONLY = (
    f"ModelArts shows only the latest {page_format.PAGE_LINES} lines of this log, and more were written between two "
    "reads. Set log_url in service_options to keep the whole log in OBS, or a shorter poll_interval in the connection."
)


class Send(Protocol):
    """Sends a call."""

    def __call__(self, call: Call, accept: Callable[[Answer], bool] = succeeded) -> Awaitable[Answer]:
        """Send the call and return its answer if it is acceptable."""


Fetch = Callable[[str, int, int], Awaitable[tuple[int, bytes]]]
"""Reads at most so many bytes of an object from a link, from a byte on; returns where the part begins, and the part."""


class JobLogs:
    """One read of the logs of a job.

    :param cursor: Where the last read ended; None for the beginning.
    :ivar lines: The new lines.
    :ivar behind: Whether the logs continue, so that the next read need not wait.
    :ivar whole: Whether every log was read up to its end, except for parts that no further read will return.
    :ivar trouble: The last error, if there was one. Lines that could be read are available nevertheless.
    """

    def __init__(self, dialect: Dialect, key: ModelArtsKey, cursor: Any, limits: ReadLimits = DEFAULT_LIMITS) -> None:
        if not isinstance(cursor, dict | None):
            raise BrokenContract(f"{str(cursor)[:80]} is not a cursor of a ModelArts log.")
        known = cursor or {}
        self.lines: list[LogLine] = []
        self.behind = bool(known.get("behind", False))
        self.whole = True
        self.trouble: Exception | None = None
        self._dialect, self._key, self._limits = dialect, key, limits
        self._nodes: dict[str, Any] = dict(known.get("nodes", {}))
        self._previews = bool(known.get("previews", False))
        self._begin = str(known.get("begin", ""))
        self._pages_left, self._until = limits.pages, float("inf")

    def cursor(self) -> dict[str, Any]:
        """Return where this read ended."""
        return {"nodes": self._nodes, "behind": self.behind, "begin": self._begin, "previews": self._previews}

    async def read(self, details: JobDetails, send: Send, fetch: Fetch, *, final: bool) -> None:
        """Read. An error is kept in :attr:`trouble` and not raised: the job's state does not depend on its logs.

        :param final: Whether the logs are complete, so that a last line without a line end will not grow.
        """
        self._until = time.monotonic() + self._limits.seconds
        names = tuple(self._nodes)
        try:
            names = await self._names(details, send)
            if self._dialect.logs(self._key) is None:
                details = replace(details, tasks=names)  # includes logs that the service no longer names
        except Exception as error:  # noqa: BLE001 -- reported by the caller
            self._note(error)
        first = names.index(self._begin) if self._begin in names else 0
        self.behind, self._begin = False, ""
        for position, name in enumerate((*names[first:], *names[:first])):
            if position and self._limit_reached():
                # The next read begins with this log, and does not wait if this one has lines to show.
                self.behind, self.whole, self._begin = self.behind or bool(self.lines), False, name
                return
            try:
                await self._read(name, details, send, fetch, final=final)
            except Exception as error:  # noqa: BLE001 -- an error of one log does not hide the other logs
                self._note(error)

    def skip(self, reason: Exception) -> None:
        """Do not read this time."""
        self.behind = False
        self._note(reason)

    def _note(self, error: Exception) -> None:
        self.trouble = error
        self.whole = self.whole and not isinstance(error, ServiceUnavailable)

    def _limit_reached(self) -> bool:
        return len(self.lines) >= self._limits.lines or time.monotonic() > self._until

    async def _names(self, details: JobDetails, send: Send) -> tuple[str, ...]:
        call = self._dialect.logs(self._key)
        names = (*self._nodes, *details.tasks)
        if call is not None and len(names) < details.nodes:
            answer = await send(call, lambda each: succeeded(each) or _is_early(each) or each.status == 404)
            names = (*names, *(self._dialect.read_logs(answer) if succeeded(answer) else ()))
        # A node that is seen for the first time may have no line yet.
        self._nodes = {name: self._nodes.get(name) for name in sorted(set(names), key=_number)}
        return tuple(self._nodes)

    async def _read(self, name: str, details: JobDetails, send: Send, fetch: Fetch, *, final: bool) -> None:
        if not self._previews:
            await self._read_pages(name, details, send, final=final)
        if self._previews:
            await self._read_preview(name, details, send, fetch, final=final)

    async def _read_pages(self, name: str, details: JobDetails, send: Send, *, final: bool) -> None:
        v1 = self._dialect.version == "v1"
        pager = log_pages.LogPager(_FORWARD[self._dialect.version], self._nodes[name])
        fallback = _created(details) + int((self._nodes[name] or {}).get("count", 0)) * _MILLISECOND
        stream, before = _stream(name, details), len(self.lines)
        try:
            while True:
                try:
                    answer = await send(self._page(name, pager.request()), _is_early if v1 else _is_early_or_unknown)
                except (BrokenContract, InvalidJob):
                    if not pager.refuse_position():
                        raise
                    continue
                if answer.status == 404:
                    self._switch_to_previews()
                    return
                page = page_format.read_page(answer) if succeeded(answer) else page_format.EMPTY
                for found in pager.feed(page, final=final):
                    self.lines += _lines(found.text, _stamp_time(found.stamp) or fallback, stream)
                    fallback += _MILLISECOND
                if pager.gap:
                    self._note(BrokenContract(_LATEST_ONLY))
                if pager.idle:
                    return
                # Without a line so far, a later read would begin with the same pages, and end there again.
                if len(self.lines) > before and not self._may_read_on(name):
                    return
        finally:
            self._nodes[name] = pager.state()

    def _page(self, name: str, request: page_format.PageRequest) -> Call:
        if self._dialect.version == "v1":
            return page_format.v1_page(self._key.id, self._key.version, name, request)
        return page_format.v2_page(self._key.id, name, request)

    def _may_read_on(self, name: str) -> bool:
        """Whether this read continues with the same log, of which it has lines."""
        self._pages_left -= 1
        if self._pages_left >= 0 and not self._limit_reached():
            return True
        self.whole, self.behind = False, True
        self._begin = self._begin or name
        return False

    def _switch_to_previews(self) -> None:
        """Read previews from now on. A region either has pages or not: after a page, a 404 means something else."""
        if any("block" in (state or {}) for state in self._nodes.values()):
            raise ServiceUnavailable("ModelArts answered 404 for the job's log, of which it returned pages before.")
        self._previews = True

    async def _read_preview(self, name: str, details: JobDetails, send: Send, fetch: Fetch, *, final: bool) -> None:
        state = self._nodes[name] or {}
        offset, count = int(state.get("offset", 0)), int(state.get("count", 0))
        answer = await send(log_previews.preview(self._key.id, name), _is_early)
        mark = f"{zlib.crc32(answer.body)} {len(answer.body)} {final}"
        if mark == state.get("mark"):
            return
        # A preview has up to 5 MB, so it is parsed in threads and the event loop is not blocked.
        part = await asyncio.to_thread(lambda: log_previews.read_preview(answer) if _has_lines(answer) else None)
        if part is None:
            return
        most = self._limits.lines - len(self.lines)
        found = await asyncio.to_thread(part.lines_after, offset, most, final=final)
        if found is None:
            mark = ""
            url = log_previews.read_link(await send(log_previews.link(self._key.id, name)))
            found = await self._read_link(url, offset, most, fetch, final=final)
        texts, offset = found
        if len(texts) == most:
            mark, self.behind = "", True
        begin = _created(details) + count * _MILLISECOND
        self.lines += await asyncio.to_thread(_numbered, texts, begin, _stream(name, details))
        self._nodes[name] = {"offset": offset, "count": count + len(texts), "mark": mark}

    async def _read_link(
        self, url: str, offset: int, most: int, fetch: Fetch, *, final: bool
    ) -> tuple[tuple[str, ...], int]:
        """Return the lines after an offset, and the offset after them."""
        size = self._limits.link_bytes
        start, body = await fetch(url, offset, size)
        one_long_line = len(body) == size and b"\n" not in body
        complete = one_long_line or (final and len(body) < size)
        part = log_previews.PreviewPart(start, body)
        found = await asyncio.to_thread(part.lines_after, offset, most, final=complete) or ((), offset)
        self.behind = self.behind or bool(found[0])
        return found


def _is_early(answer: Answer) -> bool:
    return succeeded(answer) or code_of(answer) in NO_LOG_YET | {EXPIRED_LOG}


def _is_early_or_unknown(answer: Answer) -> bool:
    """Whether the log has no line yet, or the region has no pages at all."""
    return _is_early(answer) or (answer.status == 404 and code_of(answer) not in GONE)


def _has_lines(answer: Answer) -> bool:
    return answer.status != 204 and succeeded(answer)


def _stream(name: str, details: JobDetails) -> tuple[int, int, str]:
    """Return the number of a log's stream, the number of streams, and the prefix of its lines.

    They depend on the job alone, so that they are the same whenever the log is read again.
    """
    streams, (stream, _) = max(details.nodes, len(details.tasks)), _number(name)
    prefix = f"[node {stream}] "
    numbers = sorted(_number(task)[0] for task in details.tasks)
    if name in details.tasks and (len(set(numbers)) < len(numbers) or numbers[-1] >= streams):
        stream, prefix = sorted(details.tasks).index(name), f"[{name}] "
    return stream % streams, streams, prefix if streams > 1 else ""


def _lines(text: str, time: datetime, stream: tuple[int, int, str]) -> Iterator[LogLine]:
    number, streams, prefix = stream
    return lines_of(text, time, number, streams, prefix)


def _numbered(texts: Iterable[str], begin: datetime, stream: tuple[int, int, str]) -> list[LogLine]:
    """Return lines without a time of their own: each is a millisecond later than the one before."""
    return [line for number, text in enumerate(texts) for line in _lines(text, begin + number * _MILLISECOND, stream)]


def _number(name: str) -> tuple[int, str]:
    """Return the node of a log (the last number of its name), and the name."""
    found = re.search(r"[0-9]{1,9}$", name)
    return (int(found[0]) if found else 0, name)


def _stamp_time(stamp: int) -> datetime | None:
    """Convert nanoseconds to a time if they can be one."""
    return datetime.fromtimestamp(stamp // 1000 / 10**6, UTC) if _FIRST_STAMP < stamp < _LAST_STAMP else None


def _created(details: JobDetails) -> datetime:
    return details.status.submission_time or _EPOCH
