# SPDX-License-Identifier: Apache-2.0
"""Read one log of ModelArts page by page, each line once.

A page names where it begins and ends by decimal numbers that look like nanoseconds since 1970. They are strings or
numbers and have more digits than a float holds. The separator of the lines differs between samples in the API's
documents, so the page's own number of lines decides.

The documents contradict each other on the words for the two directions and on what a request without a number returns,
and do not say whether the line with the requested number is returned again. All three are found out from the pages: a
:class:`LogPager` names its next request and is given the answer. It does no I/O and knows no clock.

A page with fewer lines than were requested has everything that there is. The procedure of the documents does not use
numbers in requests at all; a service that ignores or refuses them is asked for its latest lines again and again.

A line has no time, but the page has one where it begins. A line must get the same time whenever the log is read again,
however the pages are cut then. So the lines between certain line numbers (a block, which grows with the log) share one
time: that at which the block begins, or that of the block before if this one begins at most :data:`SPAN` later. A page
that ends at most :data:`SPAN` after its first block's time needs no request for each block in it, so a log that was
written fast is read in full pages.

If the line with the requested number is returned again, it is removed. It may consist of several texts, since a line
may contain the separator, and on a service where several lines share a number all of them are returned again.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

from airflow_provider_jobapi.exceptions import BrokenContract
from airflow_provider_jobapi.services.modelarts.page_format import EMPTY, PAGE_LINES, Page, PageRequest

MOST_NEW_LINES = PAGE_LINES - 2
"""The most new lines of a request: there is room for a repeated line, and for one more after a line that may grow."""

SPAN = 30 * 10**9
"""Nanoseconds within which blocks share one time."""

KEPT_CHECKSUMS = 8
"""Last lines whose checksums are in the state, to recognise them if they are returned again."""

_OPPOSITE = {"asc": "desc", "desc": "asc"}


class StampedLine(NamedTuple):
    """A line, and its time in nanoseconds since 1970."""

    stamp: int
    text: str


def block_end(begin: int) -> int:
    """Return the line number at which the block of lines from ``begin`` ends: one line at first, 498 in the end."""
    return begin + min(MOST_NEW_LINES, max(1, begin // 4))


_Step = Callable[[Page], list[StampedLine]]


class LogPager:
    """Reads one log. Feed it pages until it is :attr:`idle`, and again after some time.

    :param forward: The word for the direction from old to new in the API's documents; the pages show whether it is.
    :param state: An earlier :meth:`state`; None for the log's beginning.
    :ivar gap: Whether lines were lost, since the service shows the latest lines only.
    """

    def __init__(self, forward: str, state: dict[str, Any] | None = None) -> None:
        known = state or {}
        self.idle = self.gap = False
        self._forward = str(known.get("word", forward))
        self._sure = bool(known.get("sure", False))  # whether the direction is known
        self._kept = bool(known.get("kept", False))  # whether the service is known to keep to the requested number
        self._latest = bool(known.get("latest", False))  # whether it ignores or refuses the number
        self._again = int(known.get("again", 0))  # how many lines a request returns again
        self._cursor = int(known.get("cursor", 0))
        self._count = int(known.get("count", 0))  # lines read so far
        self._texts = int(known.get("texts", self._count))  # texts of these; a line may contain the separator
        self._own = bool(known.get("own", False))  # whether the cursor is the number of the first line itself
        self._block = int(known.get("block", 0))  # the line number at which the current block begins
        self._stamp = int(known.get("stamp", 0))  # the time of the current block
        self._checksums = [int(checksum) for checksum in known.get("marks", ())]
        self._pace = 0  # nanoseconds from line to line, where a page of the most lines has spanned too much
        self._full = False
        self._final = False
        self._head, self._held = EMPTY, EMPTY
        self._step: _Step = self._find_head
        self._request = PageRequest(None, "asc", PAGE_LINES)
        if state is not None:
            self._continue()

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
            "kept": self._kept,
            "latest": self._latest,
            "again": self._again,
            "own": self._own,
            "count": self._count,
            "texts": self._texts,
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

    def refuse_position(self) -> bool:
        """Go on without numbers in requests, after the service has refused one; False if that is no way on."""
        if self._kept or self._latest or self._request.base is None:
            return False
        self._read_latest_lines()
        return True

    # Finding the first line, which a request without a number may return or not.

    def _find_head(self, page: Page) -> list[StampedLine]:
        if not page.texts or (page.lines == 1 and not page.ended and not self._final):
            return self._wait(PageRequest(None, "asc", PAGE_LINES), self._find_head)
        self._head = page
        if not self._full:
            return self._begin(more=False)
        return self._then(PageRequest(page.start, _OPPOSITE[self._forward], PAGE_LINES), self._look_before)

    def _look_before(self, page: Page) -> list[StampedLine]:
        """Go from page to page towards the beginning, until there is none before."""
        if page.texts and page.end > self._head.start:
            if self._sure:
                return self._begin_with_latest(page)
            self._reverse()
        elif page.texts and page.start < self._head.start:
            self._head, self._sure = page, True
        else:
            return self._begin(more=True)
        return self._then(PageRequest(self._head.start, _OPPOSITE[self._forward], PAGE_LINES), self._look_before)

    def _begin(self, *, more: bool) -> list[StampedLine]:
        """Take the first page, or its first line alone if the page has lines of several times.

        In the second case the cursor is the line's own number, until a page shows the one after it.
        """
        head, self._full = self._head, more
        if head.end - head.start <= SPAN and (head.ended or self._final):
            return self._take(head)
        self._own = True
        found = self._take(Page(head.start, head.start, head.texts if head.lines == 1 else head.texts[:1], count=1))
        self.idle = False
        return found

    def _begin_with_latest(self, page: Page) -> list[StampedLine]:
        """Take the first page of a service that does not keep to the number, though lines before it may be missing."""
        found = self._take(self._head)
        self._read_latest_lines()
        self.idle, self.gap = False, page.end == self._head.end
        return found

    # Reading on from the cursor.

    def _read_on(self, page: Page) -> list[StampedLine]:
        if not page.texts:
            if self._sure:
                return self._wait(self._next_request(), self._read_on)
            return self._then(PageRequest(self._cursor, _OPPOSITE[self._forward], 2), self._look_back)
        if page.start < self._cursor:
            if page.end > self._cursor or (page.end == self._cursor and self._sure):
                return self._read_latest_lines(page)
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
        if page.texts and (page.start != self._cursor or page.lines > 1):
            return self._read_latest_lines()
        self._kept = True
        repeated = self._own or page.end == self._cursor
        if not page.texts or not repeated:
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
        fits = self._ends_of_known(page)
        if alone and page.lines < len(page.texts):
            return len(page.texts)  # one line, of several texts
        otherwise = len(page.texts) if alone else 1
        return next((end for end in fits if end >= self._again), fits[-1] if fits else otherwise)

    def _ends_of_known(self, page: Page) -> list[int]:
        """Return after how many texts of a page the last lines read so far may end, by their checksums."""
        new = [_checksum(text) for text in page.texts]
        return [
            end
            for end in range(1, len(new) + 1)
            if new[max(0, end - KEPT_CHECKSUMS) : end] == self._checksums[-min(end, KEPT_CHECKSUMS) :]
        ]

    def _use(self, page: Page) -> list[StampedLine]:
        if not page.texts:
            return self._use_nothing()
        self._sure = True
        if self._full and not self._kept and page.lines > 1:
            # The latest lines of a service that ignores the number look the same.
            self._held = page
            return self._then(PageRequest(self._cursor, self._forward, 1), self._check_position)
        self._kept = True
        room = block_end(self._block) - self._count
        if room < page.lines and self._request.lines > room + self._again and page.end - self._time_of(page) > SPAN:
            self._pace = max(1, (page.end - page.start) // page.lines)
            return self._then(self._next_request(room), self._read_on)
        if page.ended or self._final:
            return self._take(page)
        self._held = page
        return self._then(self._next_request(page.lines + 1), self._check_held)

    def _use_nothing(self) -> list[StampedLine]:
        if self._full and self._request.lines > 1 and self._next_request().lines > self._request.lines:
            # More lines have the cursor's number than were requested.
            return self._then(self._next_request(), self._read_on)
        # The line at the cursor is all that there is, in either direction.
        if not self._sure:
            return self._then(PageRequest(self._cursor, _OPPOSITE[self._forward], 2), self._look_back)
        return self._wait(self._next_request(), self._read_on)

    def _check_position(self, page: Page) -> list[StampedLine]:
        """Decide whether a full page begins after the cursor or is the latest one, whatever the cursor."""
        if not page.texts or page.start != self._held.start:
            return self._read_latest_lines()
        self._kept, self._full, self._request = True, True, self._next_request(self._held.lines)
        return self._use(self._held)

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

    # Reading the latest lines again and again, from a service that does not keep to the number.

    def _read_latest_lines(self, page: Page | None = None) -> list[StampedLine]:
        self._latest = True
        self._continue()
        return [] if page is None or self._full else self._read_latest(page)

    def _read_latest(self, page: Page) -> list[StampedLine]:
        """Take what follows the lines read so far, all under the log's first time."""
        known = self._texts
        if self._full and page.texts:
            # The log's first lines are missing, so the last ones known are searched for by their content.
            fits = [len(page.texts)] if page.end == self._cursor else self._ends_of_known(page)
            self.gap = not fits
            known = fits[0] if fits else 0
        texts = page.texts[known : None if page.ended or self._final else -1]
        if texts:
            self._count += len(texts)
            self._note(page.end, texts)
        self._wait(PageRequest(None, "desc", PAGE_LINES), self._read_latest)
        return [StampedLine(self._stamp, text) for text in texts]

    # Shared by the steps.

    def _take(self, page: Page) -> list[StampedLine]:
        self._stamp = self._time_of(page)
        self.idle = not self._full
        self._count += page.lines
        if page.end != self._cursor:
            self._again = min(self._again, 1)
        self._note(page.end, page.texts)
        while block_end(self._block) <= self._count:
            self._block = block_end(self._block)
        self._then(self._next_request(), self._read_on)
        return [StampedLine(self._stamp, text) for text in page.texts]

    def _time_of(self, page: Page) -> int:
        """Return the time of a page's first line."""
        new_block = self._count == self._block and (not self._count or page.start - self._stamp > SPAN)
        return page.start if new_block else self._stamp

    def _note(self, end: int, texts: tuple[str, ...]) -> None:
        self._cursor = end
        self._texts += len(texts)
        checksums = map(_checksum, texts[-KEPT_CHECKSUMS:])
        self._checksums = [*self._checksums, *checksums][-KEPT_CHECKSUMS:]

    def _continue(self) -> None:
        if self._latest:
            self._then(PageRequest(None, "desc", PAGE_LINES), self._read_latest)
        else:
            self._then(self._next_request(), self._read_on)

    def _next_request(self, lines: int | None = None) -> PageRequest:
        return PageRequest(self._cursor, self._forward, min(PAGE_LINES, (lines or self._lines()) + self._again))

    def _lines(self) -> int:
        """Return how many lines to request: as many as probably share one time, at least the rest of the block."""
        if not self._pace:
            return MOST_NEW_LINES
        room, left = block_end(self._block) - self._count, self._stamp + SPAN - self._cursor
        if left < 0 and self._count == self._block:
            left = SPAN  # the next line has a time of its own
        return min(MOST_NEW_LINES, max(room, left * 4 // (5 * self._pace)))

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
