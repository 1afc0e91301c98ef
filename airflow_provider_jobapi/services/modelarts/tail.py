# SPDX-License-Identifier: Apache-2.0
"""Reads one log of ModelArts page by page, each line once, whatever the service means by its cursors.

The documents contradict each other about the words for the directions, about what no cursor means, and say nothing on
whether a cursor's own line is shown again. So each is found out from the pages: a :class:`Tail` says what it asks next
and is fed the answer. It knows no network and no clock.

The lines of a log have no times, but where a page begins is one. A line must be shown under the same time by whoever
reads the log again, however the pages were cut then. So pages never go beyond certain line numbers, which grow with
the log, and the lines of each such block have the time at which the block begins.

Where a cursor's own line is shown again, a page is read on behind it. How many texts it is, its end tells: a line may
hold what separates lines, and a service whose lines share numbers shows again all that have the cursor's.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

from airflow_provider_jobapi.exceptions import BrokenContract
from airflow_provider_jobapi.services.modelarts.pages import EMPTY, LONGEST, Ask, Page

_OTHER = {"asc": "desc", "desc": "asc"}


KEPT = 8
"""Of how many lines the state holds a mark, by which they are known where they are shown again."""


class Found(NamedTuple):
    """A line and the number of nanoseconds under which it is shown."""

    stamp: int
    text: str


_Step = Callable[[Page], list[Found]]


def block_after(begin: int) -> int:
    """Where the block of lines ends that begins at this line: at every line first, at every 498th in the end."""
    return begin + min(LONGEST - 2, max(1, begin // 8))


class Tail:
    """One log; feed it until it is :attr:`idle`, and again when time has passed.

    :param forward: The word for the direction from old to new, by the documents; the pages tell whether it is.
    :param state: What :meth:`state` gave before; None for the log's beginning.
    """

    def __init__(self, forward: str, state: dict[str, Any] | None = None) -> None:
        known = state or {}
        self.idle = False
        self._forward = str(known.get("word", forward))
        self._sure = bool(known.get("sure", False))
        self._again = int(known.get("again", 0))
        self._cursor = int(known.get("cursor", 0))
        self._count = int(known.get("count", 0))
        self._own = bool(known.get("own", False))
        self._block = int(known.get("block", 0))
        self._stamp = int(known.get("stamp", 0))
        self._marks = [int(mark) for mark in known.get("marks", ())]
        self._full = False
        self._final = False
        self._head, self._held = EMPTY, EMPTY
        self._step: _Step = self._probed if state is None else self._went_on
        self._ask = Ask(None, "asc", LONGEST) if state is None else self._onwards()

    def ask(self) -> Ask:
        """What is asked next."""
        return self._ask

    def state(self) -> dict[str, Any] | None:
        """A small JSON value to go on from; None before the first line. Numbers are texts: JavaScript's are short."""
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
            "marks": self._marks,
        }

    def feed(self, page: Page, *, final: bool = False) -> list[Found]:
        """Take the answer to :meth:`ask`; answers the lines that are new.

        :param final: Whether the log is over, so that a last line that was not ended will not grow either.
        :raises BrokenContract: when both words lead into the same direction.
        """
        self.idle = False
        self._final = final
        # A page that is not full was all there is.
        self._full = page.lines >= self._ask.lines
        return self._step(page)

    # The head: the log's first line, which an empty cursor may show or not.

    def _probed(self, page: Page) -> list[Found]:
        if not page.texts or (page.lines == 1 and not page.ended and not self._final):
            return self._rest(Ask(None, "asc", LONGEST), self._probed)
        self._head = page
        if not self._full:
            return self._begin()
        return self._then(Ask(page.start, _OTHER[self._forward], LONGEST), self._looked_before)

    def _looked_before(self, page: Page) -> list[Found]:
        """Climb from page to page until none is before."""
        if page.texts and page.end > self._head.start:
            self._turn()
        elif page.texts and page.start < self._head.start:
            self._head, self._sure = page, True
        else:
            return self._begin()
        return self._then(Ask(self._head.start, _OTHER[self._forward], LONGEST), self._looked_before)

    def _begin(self) -> list[Found]:
        """Take the first line alone. The cursor is its own number, until a page tells the one after it."""
        head = self._head
        self._own = True
        found = self._take(Page(head.start, head.start, head.texts if head.lines == 1 else head.texts[:1], count=1))
        self.idle = False
        return found

    # The way on.

    def _went_on(self, page: Page) -> list[Found]:
        if not page.texts:
            if self._sure:
                return self._rest(self._onwards(), self._went_on)
            return self._then(Ask(self._cursor, _OTHER[self._forward], 2), self._looked_back)
        if page.start < self._cursor:
            self._turn()
            return self._then(self._onwards(), self._went_on)
        if page.start == self._cursor and (self._own or not self._again):
            return self._then(Ask(self._cursor, self._forward, 1), self._gauged)
        self._own = False
        return self._go(self._without_seen(page))

    def _looked_back(self, page: Page) -> list[Found]:
        """Nothing is new, or it was looked for in the wrong direction."""
        if page.texts and page.end > self._cursor:
            self._turn()
            return self._then(self._onwards(), self._went_on)
        self._sure = bool(page.texts) and page.start < self._cursor
        return self._rest(self._onwards(), self._went_on)

    def _gauged(self, page: Page) -> list[Found]:
        """A page began at the cursor: with the line that was seen, or with one that follows it at once."""
        seen = self._own or page.end == self._cursor
        if not page.texts or page.start != self._cursor or not seen:
            return self._go(page)
        self._again, self._own = int(page.end == page.start), False
        self._cursor = page.end
        return self._then(self._onwards(), self._went_on)

    def _without_seen(self, page: Page) -> Page:
        """What of a page is new, where the cursor's own line is shown again."""
        if not self._again or page.start != self._cursor:
            return page
        alone = page.end == self._cursor
        seen = self._seen(page, alone=alone)
        lines = seen if page.lines == len(page.texts) else 1
        if alone:
            self._again = max(self._again, page.lines)
        return replace(page, texts=page.texts[seen:], count=max(page.lines - lines, int(seen < len(page.texts))))

    def _seen(self, page: Page, *, alone: bool) -> int:
        """How many texts at a page's begin were seen: as few as can be, so that none is lost.

        :param alone: Whether all of it has the cursor's number.
        """
        new = [_mark(text) for text in page.texts]
        ends = range(1, len(new) + 1)
        fits = [end for end in ends if new[max(0, end - KEPT) : end] == self._marks[-min(end, KEPT) :]]
        if alone and page.lines < len(new):
            return len(new)  # one line, of several texts
        otherwise = len(new) if alone else 1
        return next((end for end in fits if end >= self._again), fits[-1] if fits else otherwise)

    def _go(self, page: Page) -> list[Found]:
        if not page.texts:
            if self._full and self._ask.lines > 1 and self._onwards().lines > self._ask.lines:
                # More lines have the cursor's number than were asked for.
                return self._then(self._onwards(), self._went_on)
            # The cursor's own line is all that there is, in whichever direction.
            if not self._sure:
                return self._then(Ask(self._cursor, _OTHER[self._forward], 2), self._looked_back)
            return self._rest(self._onwards(), self._went_on)
        self._sure = True
        if page.ended or self._final:
            return self._take(page)
        self._held = page
        return self._then(self._onwards(page.lines + 1), self._followed)

    def _followed(self, page: Page) -> list[Found]:
        """A last line that was not ended is whole if another one follows."""
        new, held = self._without_seen(page), self._held
        if new.lines > held.lines:
            return self._take(replace(held, texts=new.texts[: len(held.texts)]))
        if held.lines > 1:
            return self._then(self._onwards(held.lines - 1), self._went_on_short)
        return self._rest(self._onwards(), self._went_on)

    def _went_on_short(self, page: Page) -> list[Found]:
        new = self._without_seen(page)
        return self._take(new) if new.texts else self._rest(self._ask, self._went_on)

    # What the steps share.

    def _take(self, page: Page) -> list[Found]:
        if self._count == self._block:
            self._stamp = page.start
        self.idle = not self._full
        self._count += page.lines
        if page.end != self._cursor:
            self._again = min(self._again, 1)
        self._cursor = page.end
        self._marks = [*self._marks, *map(_mark, page.texts[-KEPT:])][-KEPT:]
        if self._count >= block_after(self._block):
            self._block = self._count
        self._then(self._onwards(), self._went_on)
        return [Found(self._stamp, text) for text in page.texts]

    def _onwards(self, lines: int | None = None) -> Ask:
        if lines is None:
            lines = block_after(self._block) - self._count
        return Ask(self._cursor, self._forward, min(LONGEST, lines + self._again))

    def _turn(self) -> None:
        if self._sure:
            raise BrokenContract("ModelArts' log has two directions, and both words for them lead into the same one.")
        self._forward, self._sure = _OTHER[self._forward], True

    def _then(self, ask: Ask, step: _Step) -> list[Found]:
        self._ask, self._step = ask, step
        return []

    def _rest(self, ask: Ask, step: _Step) -> list[Found]:
        self.idle = True
        return self._then(ask, step)


def _mark(text: str) -> int:
    return zlib.crc32(text.encode(errors="surrogatepass"))
