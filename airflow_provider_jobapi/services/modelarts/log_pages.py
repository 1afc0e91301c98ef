# SPDX-License-Identifier: Apache-2.0
"""Read one log of ModelArts page by page, each line once.

A page names where it begins and ends by decimal numbers that look like nanoseconds since 1970. They are strings or
numbers and have more digits than a float holds. The separator of the lines differs between samples in the API's
documents, so the page's own number of lines decides.

The documents contradict each other on the words for the two directions and on what a request without a number returns,
and do not say whether the line with the requested number is returned again. All three are found out from the pages: a
:class:`LogPager` names its next request and is given the answer. It does no I/O and knows no clock.

A line has no time, but the page has one where it begins. A line must get the same time whenever the log is read again,
however the pages are cut then. So pages never go beyond certain line numbers, and the lines between two of these (a
block, which grows with the log) share the time at which the block begins.

If the line with the requested number is returned again, it is removed. It may consist of several texts, since a line
may contain the separator, and on a service where several lines share a number all of them are returned again.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple
from urllib.parse import quote

from airflow_provider_jobapi.exceptions import BrokenContract
from airflow_provider_jobapi.services.answer import Answer
from airflow_provider_jobapi.services.modelarts.calls import Call, content, maybe_number, number, text

PAGE_LINES = 500
"""The most lines of a page."""

KEPT_CHECKSUMS = 8
"""Last lines whose checksums are in the state, to recognise them if they are returned again."""

_OPPOSITE = {"asc": "desc", "desc": "asc"}


@dataclass(frozen=True, slots=True)
class PageRequest:
    """A request for a page.

    :ivar base: The number from which on, or up to which, lines are requested; None for none.
    :ivar order: ``asc`` or ``desc``.
    :ivar lines: The most lines.
    """

    base: int | None
    order: str
    lines: int


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a log, oldest line first.

    :ivar start: The number of its first line.
    :ivar end: The number of its last line, or one more.
    :ivar ended: Whether its last line has a line end; one without may still grow.
    :ivar count: The service's number of lines; less than ``texts`` if a line contains the separator.
    """

    start: int
    end: int
    texts: tuple[str, ...]
    ended: bool = True
    count: int = -1

    @property
    def lines(self) -> int:
        """The service's number of lines."""
        return len(self.texts) if self.count < 0 else self.count


EMPTY = Page(0, 0, ())


class StampedLine(NamedTuple):
    """A line, and its time in nanoseconds since 1970."""

    stamp: int
    text: str


def v1_page(job: str, version: str, file: str, request: PageRequest) -> Call:
    """Build the request for a page of a node's log."""
    return Call(
        "GET",
        "v1",
        f"/training-jobs/{quote(job, safe='')}/versions/{quote(version, safe='')}/aom-log",
        "the job's log",
        params={"log_file": file} | _params(request),
    )


def v2_page(job: str, task: str, request: PageRequest) -> Call:
    """Build the request for a page of a task's log."""
    path = f"/training-jobs/{quote(job, safe='')}/logs/{quote(task, safe='')}"
    return Call("GET", "v2", path, "the job's log", params=_params(request))


def _params(request: PageRequest) -> dict[str, str]:
    base: dict[str, Any] = {} if request.base is None else {"base_line": str(request.base)}
    return base | {"lines": str(request.lines), "order": request.order}


def read_page(answer: Answer) -> Page:
    """Parse a page; its lines come oldest first or newest first.

    :raises BrokenContract: if it does not name where it begins and ends.
    """
    body = content(answer)
    written, count = text(body.get("content")), maybe_number(body.get("lines"))
    if count == 0 or (not written and count != 1):
        return EMPTY
    texts, ended = split_lines(written, count)
    start, end = number(body.get("start_line"), "start_line"), number(body.get("end_line"), "end_line")
    if start > end:
        start, end, texts = end, start, texts[::-1]
    return Page(start, end, texts, ended, len(texts) if count is None else min(count, len(texts)))


def split_lines(written: str, count: int | None) -> tuple[tuple[str, ...], bool]:
    """Split a page's content by the separator that gives the page's number of lines.

    :param count: The page's number of lines; None if unknown.
    :returns: The lines, and whether the last one has a line end.
    """
    body = written.removesuffix("\n")
    for lines in (body, written):  # the last line may be empty and without a line end
        for separator in ("\n\n", "\n"):
            if count == lines.count(separator) + 1:
                return tuple(lines.split(separator)), lines != written
    return tuple(body.split("\n\n" if "\n\n" in body else "\n")), body != written


def block_end(begin: int) -> int:
    """Return the line number at which the block of lines from ``begin`` ends: one line at first, 498 in the end."""
    return begin + min(PAGE_LINES - 2, max(1, begin // 8))


_Step = Callable[[Page], list[StampedLine]]


class LogPager:
    """Reads one log. Feed it pages until it is :attr:`idle`, and again after some time.

    :param forward: The word for the direction from old to new in the API's documents; the pages show whether it is.
    :param state: An earlier :meth:`state`; None for the log's beginning.
    """

    def __init__(self, forward: str, state: dict[str, Any] | None = None) -> None:
        known = state or {}
        self.idle = False
        self._forward = str(known.get("word", forward))
        self._sure = bool(known.get("sure", False))  # whether the direction is known
        self._again = int(known.get("again", 0))  # how many lines a request returns again
        self._cursor = int(known.get("cursor", 0))
        self._count = int(known.get("count", 0))  # lines read so far
        self._own = bool(known.get("own", False))  # whether the cursor is the number of the first line itself
        self._block = int(known.get("block", 0))  # the line number at which the current block begins
        self._stamp = int(known.get("stamp", 0))  # the time of the current block
        self._checksums = [int(checksum) for checksum in known.get("marks", ())]
        self._full = False
        self._final = False
        self._head, self._held = EMPTY, EMPTY
        self._step: _Step = self._find_head if state is None else self._read_on
        self._request = PageRequest(None, "asc", PAGE_LINES) if state is None else self._next_request()

    def request(self) -> PageRequest:
        """Return the next request."""
        return self._request

    def state(self) -> dict[str, Any] | None:
        """Return a small JSON value to continue from; None before the first line.

        Large numbers are strings, since JavaScript's numbers have fewer digits.
        """
        if not self._count:
            return None
        return {
            "word": self._forward,
            "sure": self._sure,
            "again": self._again,
            "own": self._own,
            "count": self._count,
            "block": self._block,
            "cursor": str(self._cursor),
            "stamp": str(self._stamp),
            "marks": self._checksums,
        }

    def feed(self, page: Page, *, final: bool = False) -> list[StampedLine]:
        """Take the answer to :meth:`request` and return the new lines.

        :param final: Whether the log is complete, so that a last line without a line end will not grow.
        :raises BrokenContract: if both words lead in the same direction.
        """
        self.idle = False
        self._final = final
        # A page that is not full has everything that there is.
        self._full = page.lines >= self._request.lines
        return self._step(page)

    # Finding the first line, which a request without a number may return or not.

    def _find_head(self, page: Page) -> list[StampedLine]:
        if not page.texts or (page.lines == 1 and not page.ended and not self._final):
            return self._wait(PageRequest(None, "asc", PAGE_LINES), self._find_head)
        self._head = page
        if not self._full:
            return self._begin()
        return self._then(PageRequest(page.start, _OPPOSITE[self._forward], PAGE_LINES), self._look_before)

    def _look_before(self, page: Page) -> list[StampedLine]:
        """Go from page to page towards the beginning, until there is none before."""
        if page.texts and page.end > self._head.start:
            self._reverse()
        elif page.texts and page.start < self._head.start:
            self._head, self._sure = page, True
        else:
            return self._begin()
        return self._then(PageRequest(self._head.start, _OPPOSITE[self._forward], PAGE_LINES), self._look_before)

    def _begin(self) -> list[StampedLine]:
        """Take the first line alone. The cursor is its own number, until a page shows the one after it."""
        head = self._head
        self._own = True
        found = self._take(Page(head.start, head.start, head.texts if head.lines == 1 else head.texts[:1], count=1))
        self.idle = False
        return found

    # Reading on from the cursor.

    def _read_on(self, page: Page) -> list[StampedLine]:
        if not page.texts:
            if self._sure:
                return self._wait(self._next_request(), self._read_on)
            return self._then(PageRequest(self._cursor, _OPPOSITE[self._forward], 2), self._look_back)
        if page.start < self._cursor:
            self._reverse()
            return self._then(self._next_request(), self._read_on)
        if page.start == self._cursor and (self._own or not self._again):
            return self._then(PageRequest(self._cursor, self._forward, 1), self._check_repetition)
        self._own = False
        return self._use(self._without_repeated(page))

    def _look_back(self, page: Page) -> list[StampedLine]:
        """Decide whether there is no new line or the direction was wrong."""
        if page.texts and page.end > self._cursor:
            self._reverse()
            return self._then(self._next_request(), self._read_on)
        self._sure = bool(page.texts) and page.start < self._cursor
        return self._wait(self._next_request(), self._read_on)

    def _check_repetition(self, page: Page) -> list[StampedLine]:
        """Decide whether a page that begins at the cursor repeats a line or continues after it."""
        repeated = self._own or page.end == self._cursor
        if not page.texts or page.start != self._cursor or not repeated:
            return self._use(page)
        self._again, self._own = int(page.end == page.start), False
        self._cursor = page.end
        return self._then(self._next_request(), self._read_on)

    def _without_repeated(self, page: Page) -> Page:
        """Return the new part of a page that repeats the line at the cursor."""
        if not self._again or page.start != self._cursor:
            return page
        alone = page.end == self._cursor
        repeated = self._repeated(page, alone=alone)
        lines = repeated if page.lines == len(page.texts) else 1
        if alone:
            self._again = max(self._again, page.lines)
        count = max(page.lines - lines, int(repeated < len(page.texts)))
        return replace(page, texts=page.texts[repeated:], count=count)

    def _repeated(self, page: Page, *, alone: bool) -> int:
        """Return how many texts at the beginning of a page are repeated: as few as possible, so that none is lost.

        :param alone: Whether every line of the page has the cursor's number.
        """
        new = [_checksum(text) for text in page.texts]
        ends = range(1, len(new) + 1)
        fits = [
            end
            for end in ends
            if new[max(0, end - KEPT_CHECKSUMS) : end] == self._checksums[-min(end, KEPT_CHECKSUMS) :]
        ]
        if alone and page.lines < len(new):
            return len(new)  # one line, of several texts
        otherwise = len(new) if alone else 1
        return next((end for end in fits if end >= self._again), fits[-1] if fits else otherwise)

    def _use(self, page: Page) -> list[StampedLine]:
        if not page.texts:
            if self._full and self._request.lines > 1 and self._next_request().lines > self._request.lines:
                # More lines have the cursor's number than were requested.
                return self._then(self._next_request(), self._read_on)
            # The line at the cursor is all that there is, in either direction.
            if not self._sure:
                return self._then(PageRequest(self._cursor, _OPPOSITE[self._forward], 2), self._look_back)
            return self._wait(self._next_request(), self._read_on)
        self._sure = True
        if page.ended or self._final:
            return self._take(page)
        self._held = page
        return self._then(self._next_request(page.lines + 1), self._check_held)

    def _check_held(self, page: Page) -> list[StampedLine]:
        """Take a last line without a line end if another line follows it."""
        new, held = self._without_repeated(page), self._held
        if new.lines > held.lines:
            return self._take(replace(held, texts=new.texts[: len(held.texts)]))
        if held.lines > 1:
            return self._then(self._next_request(held.lines - 1), self._read_shorter)
        return self._wait(self._next_request(), self._read_on)

    def _read_shorter(self, page: Page) -> list[StampedLine]:
        """Take the lines before a last line that may still grow."""
        new = self._without_repeated(page)
        return self._take(new) if new.texts else self._wait(self._request, self._read_on)

    # Shared by the steps.

    def _take(self, page: Page) -> list[StampedLine]:
        if self._count == self._block:
            self._stamp = page.start
        self.idle = not self._full
        self._count += page.lines
        if page.end != self._cursor:
            self._again = min(self._again, 1)
        self._cursor = page.end
        checksums = map(_checksum, page.texts[-KEPT_CHECKSUMS:])
        self._checksums = [*self._checksums, *checksums][-KEPT_CHECKSUMS:]
        if self._count >= block_end(self._block):
            self._block = self._count
        self._then(self._next_request(), self._read_on)
        return [StampedLine(self._stamp, text) for text in page.texts]

    def _next_request(self, lines: int | None = None) -> PageRequest:
        if lines is None:
            lines = block_end(self._block) - self._count
        return PageRequest(self._cursor, self._forward, min(PAGE_LINES, lines + self._again))

    def _reverse(self) -> None:
        if self._sure:
            raise BrokenContract("ModelArts returned the same part of the job's log for both directions.")
        self._forward, self._sure = _OPPOSITE[self._forward], True

    def _then(self, request: PageRequest, step: _Step) -> list[StampedLine]:
        self._request, self._step = request, step
        return []

    def _wait(self, request: PageRequest, step: _Step) -> list[StampedLine]:
        self.idle = True
        return self._then(request, step)


def _checksum(text: str) -> int:
    return zlib.crc32(text.encode(errors="surrogatepass"))
