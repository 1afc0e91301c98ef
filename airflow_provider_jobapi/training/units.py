# SPDX-License-Identifier: Apache-2.0
"""Durations and sizes as people write them: ``20h``, ``1h30m``, ``PT4H``, ``10000``; ``1.5 GB``."""

from __future__ import annotations

import re
from datetime import timedelta

_UNITS = {
    "d": 86_400, "day": 86_400, "days": 86_400,
    "h": 3_600, "hour": 3_600, "hours": 3_600,
    "m": 60, "min": 60, "mins": 60, "minute": 60, "minutes": 60,
    "s": 1, "sec": 1, "secs": 1, "second": 1, "seconds": 1,
}  # fmt: skip
_PART = re.compile(r"\s*(\d{1,12}(?:\.\d{1,6})?)\s*([a-z]+)\s*")
_NUMBER = re.compile(r"\d{1,12}(?:\.\d{1,6})?")
_ISO = re.compile(r"p(?:(?P<d>\d{1,6})d)?(?:t(?=\d)(?:(?P<h>\d{1,6})h)?(?:(?P<m>\d{1,6})m)?(?:(?P<s>\d{1,9})s)?)?")
LONGEST_SPAN = timedelta(days=3_650)
"""A longer duration is a mistake."""


def read_span(text: str | float | None) -> timedelta | None:
    """Parse a duration; None where the text is not one.

    A bare number means seconds. SAP's documents call ``completionTime`` a free-form string, so a text that cannot be
    parsed is not an error here; the service that enforces the duration reports it.

    :param text: Such as ``"20h"``, ``"1h30m"``, ``"90 minutes"``, ``"PT4H"``, ``"10000"`` or ``10000``.
    """
    lowered = str("" if text is None else text).strip().lower()
    seconds = _seconds(lowered)
    if not seconds or seconds > LONGEST_SPAN.total_seconds():
        return None
    return timedelta(seconds=seconds)


def is_no_time(text: str) -> bool:
    """Whether a text is a duration of nothing, or of less: ``0``, ``0h``, ``-1``, ``-2h``. A blank text is none."""
    lowered = text.strip().lower()
    seconds = _seconds(lowered.removeprefix("-").lstrip())
    return bool(lowered) and seconds is not None and (not seconds or lowered.startswith("-"))


def _seconds(text: str) -> float | None:
    if _NUMBER.fullmatch(text):
        return float(text)
    if iso := _ISO.fullmatch(text):
        return sum(float(value) * _UNITS[unit] for unit, value in iso.groupdict().items() if value)
    total, position = 0.0, 0
    while part := _PART.match(text, position):
        if part[2] not in _UNITS:
            return None
        total += float(part[1]) * _UNITS[part[2]]
        position = part.end()
    return total if position == len(text) else None


_SIZE = re.compile(r"(\d{1,12})\s*(?:([bkmgt])(?:i?b)?)?", re.IGNORECASE)
_POWERS = {"b": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def read_size(value: object) -> int | None:
    """Parse a size in bytes, as container engines write it: ``512m``, ``2g``, or a number of mebibytes; None if none.

    :param value: A text or a number.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        size = value * 1024**2
    elif isinstance(value, str) and (found := _SIZE.fullmatch(value.strip())):
        size = int(found[1]) * 1024 ** _POWERS[(found[2] or "m").lower()]
    else:
        return None
    return size if 0 < size < 2**60 else None


def span_text(span: timedelta) -> str:
    """Format a duration for people, in its largest whole unit: ``7 days``, ``90 minutes``."""
    seconds = max(1, round(span.total_seconds()))
    for name in ("day", "hour", "minute", "second"):
        count, rest = divmod(seconds, _UNITS[name])
        if not rest:
            break
    return count_text(count, name)


def count_text(count: int, word: str, words: str = "") -> str:
    """Format a number of things for people: ``1 file``, ``1,200 files``.

    :param words: The plural, where it is not the word with an ``s``.
    """
    return f"{count:,} {word if count == 1 else words or f'{word}s'}"


def size_text(size: float) -> str:
    """Format a size in bytes for people: ``1.5 GB``."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return count_text(round(size), "byte") if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
