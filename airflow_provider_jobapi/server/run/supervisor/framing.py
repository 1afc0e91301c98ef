# SPDX-License-Identifier: Apache-2.0
r"""Split the bytes that a job prints into the lines of its log.

A part of the supervisor: standard library only, Python 3.8 and newer, and no I/O. The lines do not depend on the pieces
in which the bytes arrive. Each is valid UTF-8 without newline, carriage return, NUL and other control characters,
except the tab and the escape sequences that set colours, and is cut where it is too long.

A progress bar overwrites its line again and again. Each version is a *state*; at most one state a second becomes a
line, and the last one always does.
"""

from __future__ import annotations

import codecs
import re
import time

RECORD_LIMIT = 16 * 1024
"""The most bytes of one record with its time and newline; ``training/logs`` reads with the same limit."""

TEXT_LIMIT = RECORD_LIMIT - len("2026-01-01T00:00:00.000000Z \n")
CUT = "…"

_RAW_LIMIT = 4 * RECORD_LIMIT
"""The most characters of one line that are kept before escape sequences are taken out of it."""

_MARKS = re.compile(r"[\n\r]|\x1b\[\d{0,4}A")
_BEGINNING_OF_A_MARK = re.compile(r"\x1b(?:\[\d{0,4})?\Z")
_SPECIAL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_UNWANTED = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]*[0-~])|[\x00-\x08\x0a-\x1f\x7f-\x9f]"
)
_COLOUR = re.compile(r"\x1b\[[0-9;:]*m")
_CUT_COLOUR = re.compile(r"\x1b[^m]*\Z")


def stamp(now: float) -> bytes:
    """A time in seconds since 1970 as RFC 3339 in UTC with microseconds."""
    seconds, microseconds = divmod(int(now * 1_000_000), 1_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{microseconds:06d}Z".encode()


def clean(text: str, limit: int = TEXT_LIMIT, *, longer: bool = False) -> bytes:
    """Remove control characters from a line and cut it to a limit.

    :param text: The decoded line.
    :param limit: The most bytes of the result.
    :param longer: Whether the line continues after the text, so that it is marked as cut even where the text fits.
    """
    harmless = _UNWANTED.sub(lambda found: found[0] if _COLOUR.fullmatch(found[0]) else "", text)
    line = harmless.encode("utf-8", "replace")
    if len(line) <= limit and not longer:
        return line
    kept = line[: limit - len(CUT.encode())].decode("utf-8", "ignore")
    return (_CUT_COLOUR.sub("", kept) + CUT).encode()


class Framer:
    r"""Split bytes into lines as they arrive.

    A bar that prints ``text\r`` has finished a state with each ``\r``; one that prints ``\rtext`` (tqdm, Keras) has its
    last state in front of the newline. A nested tqdm bar prints ``\ntext``, goes up with ``ESC [ A``, and comes down
    again with the next ``\n``, which therefore ends no line.

    :param pace: Seconds that pass at least between two states of a progress bar that become lines.
    """

    def __init__(self, pace: float = 1.0) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""
        self._pace = pace
        self._last = float("-inf")
        self._parts: list[str] = []
        self._size = 0
        self._pending: bytes | None = None
        self._shown: bytes | None = None
        self._new_line()

    def feed(self, data: bytes, now: float) -> list[bytes]:
        """Take bytes and return the lines that they complete.

        :param data: What the job printed, split anywhere.
        :param now: The time in seconds of a clock that never goes back; it paces progress bars.
        """
        lines: list[bytes] = []
        text = self._held + self._decoder.decode(data)
        if not self._progress and not _SPECIAL.search(text):
            return self._feed_plain(text)
        beginning = _BEGINNING_OF_A_MARK.search(text)
        self._held = beginning[0] if beginning else ""
        end = beginning.start() if beginning else len(text)
        position = 0
        for mark in _MARKS.finditer(text, 0, end):
            self._append(text, position, mark.start())
            position = mark.end()
            if mark[0] == "\n":
                self._end_line(lines)
            else:
                self._go_back(lines, now, 0 if mark[0] == "\r" else int(mark[0][2:-1] or 1))
        self._append(text, position, end)
        return lines

    def _feed_plain(self, text: str) -> list[bytes]:
        """Split a text without progress bars and escape sequences, which is the common case."""
        first, *others = text.split("\n")
        self._append(first, 0, len(first))
        if not others:
            return []
        rest = others.pop()
        lines = [self._take(strip=False)]
        lines += [line.encode() if 4 * len(line) <= TEXT_LIMIT else clean(line) for line in others]
        self._append(rest, 0, len(rest))
        return lines

    def tick(self, now: float) -> list[bytes]:
        """Return the state of a progress bar that was held back, once it is due."""
        if now - self._last < self._pace or not self._progress:
            return []
        lines: list[bytes] = []
        if self._size:
            self._pending = self._read(strip=True) or self._pending
        self._show(lines, now)
        return lines

    def end(self) -> list[bytes]:
        """Return the last line, where it has no newline."""
        rest = self._held + self._decoder.decode(b"", final=True)
        self._append(rest, 0, len(rest))
        self._held, self._ups = "", 0
        lines: list[bytes] = []
        if self._size or self._pending is not None:
            self._end_line(lines)
        return lines

    def _new_line(self) -> None:
        self._progress = False
        self._leading = False
        self._pending = None
        self._shown = None
        self._had_state = False
        self._ups = 0

    def _append(self, text: str, start: int, end: int) -> None:
        if start == end:
            return
        room = _RAW_LIMIT - self._size
        if room > 0:
            self._parts.append(text[start : min(end, start + room)])
        self._size += end - start
        self._ups = 0

    def _read(self, *, strip: bool) -> bytes:
        """The current line. Blanks are stripped from a progress bar's states, which pad the state before."""
        text = "".join(self._parts)
        return clean(text.rstrip() if strip else text, longer=self._size > _RAW_LIMIT)

    def _take(self, *, strip: bool) -> bytes:
        line = self._read(strip=strip)
        self._parts.clear()
        self._size = 0
        return line

    def _go_back(self, lines: list[bytes], now: float, ups: int) -> None:
        if self._size:
            self._pending = self._take(strip=True) or None
            self._had_state = True
        elif not self._progress:
            self._leading = True
        self._progress = True
        self._ups = ups
        if now - self._last >= self._pace:
            self._show(lines, now)

    def _show(self, lines: list[bytes], now: float) -> None:
        if self._pending is not None and self._pending != self._shown:
            lines.append(self._pending)
            self._shown = self._pending
            self._last = now
        self._pending = None

    def _end_line(self, lines: list[bytes]) -> None:
        if self._ups and not self._size:
            self._ups -= 1
            return
        if self._size:
            line = self._take(strip=self._progress)
            if self._pending is not None and not self._leading:
                lines.append(self._pending)
            if line != self._shown or not self._progress:
                lines.append(line)
        elif self._pending is not None:
            lines.append(self._pending)
        elif not self._had_state:
            lines.append(b"")
        self._new_line()
