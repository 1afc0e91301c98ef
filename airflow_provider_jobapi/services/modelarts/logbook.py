# SPDX-License-Identifier: Apache-2.0
"""The logs of all nodes of a job, as far as they go now: one look at them, from one cursor to the next.

The cursor holds all that is known, so a look that failed or was cancelled is repeated without loss: it left no trace.
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

from airflow_provider_jobapi.exceptions import BrokenContract, ServiceUnavailable
from airflow_provider_jobapi.services.answer import Answer
from airflow_provider_jobapi.services.modelarts import pages, previews
from airflow_provider_jobapi.services.modelarts.mapping import Details, Dialect, Key
from airflow_provider_jobapi.services.modelarts.refusals import GONE, NO_LOG_YET, code_of, succeeded
from airflow_provider_jobapi.services.modelarts.tail import Tail
from airflow_provider_jobapi.services.modelarts.wire import Call
from airflow_provider_jobapi.training.logs import RECORD_LIMIT, LogLine

MOST_PAGES = 24
"""Pages of one look beyond the first of each node, at the most; the rest is for the next one, which does not wait."""

LOOK = 20.0
"""Seconds after which a look asks for nothing more, so that what it has read is shown however slow the service is."""

MOST_LINES = 12_000
"""Lines with which a look ends. A preview of 5 MB may hold many more, and all would be in memory at once."""

MOST_BYTES = 4 * 1024**2
"""Bytes of a log behind a link that one look reads."""

CLEARED = "2819"
"""The log was there, and was deleted after its 30 days."""

_DOWN = {"v1": "desc", "v2": "asc"}
"""Which word the documents have for the way from old to new."""

_UNFIT = {0: " ", 13: " "}
_MILLISECOND = timedelta(milliseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST, _LAST = 1_400_000_000 * 10**9, 4_000_000_000 * 10**9


class Send(Protocol):
    """Sends a call."""

    def __call__(self, call: Call, accept: Callable[[Answer], bool] = succeeded) -> Awaitable[Answer]:
        """Send it, and answer what comes if it is acceptable."""


Fetch = Callable[[str, int, int], Awaitable[tuple[int, bytes]]]
"""Reads an object behind a link: from a byte on, at most so many; answers where what was read begins."""


class Logbook:
    """One look at the logs of a job.

    :param cursor: Where the last look ended; None for the beginning.
    :ivar lines: What is new.
    :ivar behind: Whether the logs go on, so that the next look need not wait.
    :ivar whole: Whether every log was looked at up to its end, but for what no further look will bring.
    :ivar trouble: The last thing that went wrong, if any did. What could be read is here none the less.
    """

    def __init__(self, dialect: Dialect, key: Key, cursor: Any) -> None:
        if not isinstance(cursor, dict | None):
            raise BrokenContract(f"The cursor {str(cursor)[:80]} is none of a log of ModelArts.")
        known = cursor or {}
        self.lines: list[LogLine] = []
        self.behind = bool(known.get("behind", False))
        self.whole = True
        self.trouble: Exception | None = None
        self._dialect, self._key = dialect, key
        self._nodes: dict[str, Any] = dict(known.get("nodes", {}))
        self._previews = bool(known.get("previews", False))
        self._begin = str(known.get("begin", ""))
        self._left, self._until = MOST_PAGES, float("inf")

    def cursor(self) -> dict[str, Any]:
        """Where this look ended."""
        return {"nodes": self._nodes, "behind": self.behind, "begin": self._begin, "previews": self._previews}

    async def read(self, details: Details, send: Send, fetch: Fetch, *, final: bool) -> None:
        """Look. Nothing that is wrong with a log is an error: where a job stands does not depend on its log.

        :param final: Whether the logs are over, so that a last line that was not ended will not grow.
        """
        self._until = time.monotonic() + LOOK
        names = tuple(self._nodes)
        try:
            names = await self._names(details, send)
            if self._dialect.logs(self._key) is None:
                details = replace(details, tasks=names)  # in which none is missing that was there once
        except Exception as error:  # noqa: BLE001 -- told by whoever looks
            self._note(error)
        first = names.index(self._begin) if self._begin in names else 0
        self.behind, self._begin = False, ""
        for place, name in enumerate((*names[first:], *names[:first])):
            if place and self._is_enough():
                # The next look begins where this one ends, at its own time if there is nothing to show.
                self.behind, self.whole, self._begin = self.behind or bool(self.lines), False, name
                return
            try:
                await self._read(name, details, send, fetch, final=final)
            except Exception as error:  # noqa: BLE001 -- what is wrong with one log hides no other one
                self._note(error)

    def leave(self, reason: Exception) -> None:
        """Do not look."""
        self.behind = False
        self._note(reason)

    def _note(self, error: Exception) -> None:
        self.trouble = error
        self.whole = self.whole and not isinstance(error, ServiceUnavailable)

    def _is_enough(self) -> bool:
        return len(self.lines) >= MOST_LINES or time.monotonic() > self._until

    async def _names(self, details: Details, send: Send) -> tuple[str, ...]:
        call = self._dialect.logs(self._key)
        names = (*self._nodes, *details.tasks)
        if call is not None and len(names) < details.nodes:
            answer = await send(call, lambda said: succeeded(said) or _is_early(said) or said.status == 404)
            names = (*names, *(self._dialect.read_logs(answer) if succeeded(answer) else ()))
        # A node that is seen for the first time may have no line yet.
        self._nodes = {name: self._nodes.get(name) for name in sorted(set(names), key=_number)}
        return tuple(self._nodes)

    async def _read(self, name: str, details: Details, send: Send, fetch: Fetch, *, final: bool) -> None:
        if not self._previews:
            await self._read_pages(name, details, send, final=final)
        if self._previews:
            await self._read_preview(name, details, send, fetch, final=final)

    async def _read_pages(self, name: str, details: Details, send: Send, *, final: bool) -> None:
        v1 = self._dialect.version == "v1"
        tail = Tail(_DOWN[self._dialect.version], self._nodes[name])
        fallback = _created(details) + int((self._nodes[name] or {}).get("count", 0)) * _MILLISECOND
        place = _place(name, details)
        try:
            while True:
                ask = tail.ask()
                call = (
                    pages.v1_page(self._key.id, self._key.version, name, ask)
                    if v1
                    else pages.v2_page(self._key.id, name, ask)
                )
                answer = await send(call, _is_early if v1 else _is_early_or_unknown)
                if answer.status == 404:
                    self._turn_to_previews()
                    return
                page = pages.read_page(answer) if succeeded(answer) else pages.EMPTY
                for found in tail.feed(page, final=final):
                    self.lines += _lines(found.text, _moment(found.stamp) or fallback, place)
                    fallback += _MILLISECOND
                if tail.idle or not self._may_go_on(name, tail):
                    return
        finally:
            self._nodes[name] = tail.state()

    def _may_go_on(self, name: str, tail: Tail) -> bool:
        """Whether a log that goes on is read further in this look."""
        if tail.state() is not None:  # else the log's first line is looked for, which no later look would find sooner
            self._left -= 1
        if self._left >= 0 and not self._is_enough():
            return True
        self.whole = False
        self.behind = self.behind or bool(self.lines)
        self._begin = self._begin or name
        return False

    def _turn_to_previews(self) -> None:
        """A region has logs by page or has none; where some were read, a 404 is somebody else's."""
        if any("block" in (state or {}) for state in self._nodes.values()):
            raise ServiceUnavailable("ModelArts does not know the job's log now, of which it has shown pages.")
        self._previews = True

    async def _read_preview(self, name: str, details: Details, send: Send, fetch: Fetch, *, final: bool) -> None:
        state = self._nodes[name] or {}
        offset, count = int(state.get("offset", 0)), int(state.get("count", 0))
        answer = await send(previews.preview(self._key.id, name), _is_early)
        mark = f"{zlib.crc32(answer.body)} {len(answer.body)} {final}"
        if mark == state.get("mark"):
            return
        # A preview is up to 5 MB: read in threads, the event loop goes on.
        part = await asyncio.to_thread(lambda: previews.read_preview(answer) if _has_lines(answer) else None)
        if part is None:
            return
        most = MOST_LINES - len(self.lines)
        found = await asyncio.to_thread(part.lines_after, offset, most, final=final)
        if found is None:
            mark = ""
            url = previews.read_link(await send(previews.link(self._key.id, name)))
            start, body = await fetch(url, offset, MOST_BYTES)
            full = len(body) == MOST_BYTES and b"\n" not in body
            over = full or (final and len(body) < MOST_BYTES)
            part = previews.Part(start, body)
            found = await asyncio.to_thread(part.lines_after, offset, most, final=over) or ((), offset)
            self.behind = self.behind or bool(found[0])
        texts, offset = found
        if len(texts) == most:
            mark, self.behind = "", True
        begin = _created(details) + count * _MILLISECOND
        self.lines += await asyncio.to_thread(_numbered, texts, begin, _place(name, details))
        self._nodes[name] = {"offset": offset, "count": count + len(texts), "mark": mark}


def _is_early(answer: Answer) -> bool:
    return succeeded(answer) or code_of(answer) in NO_LOG_YET | {CLEARED}


def _is_early_or_unknown(answer: Answer) -> bool:
    """The log has not begun, or the region has no logs by page at all."""
    return _is_early(answer) or (answer.status == 404 and code_of(answer) not in GONE)


def _has_lines(answer: Answer) -> bool:
    return answer.status != 204 and succeeded(answer)


def _place(name: str, details: Details) -> tuple[int, int, str]:
    """The stream of a log, the number of streams, and the prefix of its lines; a function of the job alone."""
    streams, (stream, _) = max(details.nodes, len(details.tasks)), _number(name)
    prefix = f"[node {stream}] "
    numbers = sorted(_number(task)[0] for task in details.tasks)
    if name in details.tasks and (len(set(numbers)) < len(numbers) or numbers[-1] >= streams):
        stream, prefix = sorted(details.tasks).index(name), f"[{name}] "
    return stream % streams, streams, prefix if streams > 1 else ""


def _lines(text: str, time: datetime, place: tuple[int, int, str]) -> Iterator[LogLine]:
    """What a text of a log is; where there are several logs, it says which one it is of."""
    stream, streams, prefix = place
    return (LogLine(time, prefix + _fit(each), stream, streams) for each in text.split("\n"))


def _numbered(texts: Iterable[str], begin: datetime, place: tuple[int, int, str]) -> list[LogLine]:
    """Lines that have no time: each a millisecond later than the one before."""
    return [line for number, text in enumerate(texts) for line in _lines(text, begin + number * _MILLISECOND, place)]


def _fit(text: str) -> str:
    """A line as it may be shown, by the same bounds as a record of the jobAPI."""
    clean = text.removesuffix("\r").translate(_UNFIT)
    cut = clean[:RECORD_LIMIT].encode(errors="replace")
    if len(clean) <= RECORD_LIMIT and len(cut) <= RECORD_LIMIT:
        return clean
    return cut[: RECORD_LIMIT - 3].decode(errors="ignore") + "…"


def _number(name: str) -> tuple[int, str]:
    """Which node a log is of: the last number of its name."""
    found = re.search(r"[0-9]{1,9}$", name)
    return (int(found[0]) if found else 0, name)


def _moment(stamp: int) -> datetime | None:
    """The time that a number of nanoseconds is, where it can be one."""
    return datetime.fromtimestamp(stamp // 1000 / 10**6, UTC) if _FIRST < stamp < _LAST else None


def _created(details: Details) -> datetime:
    return details.status.submission_time or _EPOCH
