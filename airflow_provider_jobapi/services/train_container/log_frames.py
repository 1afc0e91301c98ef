# SPDX-License-Identifier: Apache-2.0
"""Lines of Docker's multiplexed log stream, each once, from the place where the last read ended. Pure.

The stream is a sequence of frames: a byte for stdout or stderr, three zeros, four bytes of length, and the content
(Docker's API, ``ContainerAttach``). Each frame is one entry of the log: a time, and a line or a part of a long one. An
entry that does not end with a line feed is continued by the stream's next one, which has a time, too.

Podman writes the times of entries in whole seconds, Docker in nanoseconds, and entries of the two streams may be
written some microseconds apart from their times. So a read goes on a second before the last line that it has seen, and
leaves out as many lines of each stream as it has seen since then. The order is that of the engine's log, in which both
streams are together.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from airflow_provider_jobapi.exceptions import BrokenContract
from airflow_provider_jobapi.training.logs import RECORD_LIMIT

STREAMS = {1: "stdout", 2: "stderr"}

LARGEST_FRAME = 16 * 1024 * 1024
"""Bytes of a frame, at the most; engines send some 16 KiB."""

OVERLAP = 1
"""Whole seconds before the last line from which a read goes on."""

_ENTRY = re.compile(
    rb"(?P<second>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(?P<fraction>\d{1,9}))?(?P<zone>Z|[+-]\d\d:\d\d) ?", re.DOTALL
)


def frames(chunks: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Split a multiplexed stream into frames: the number of the stream, and the content. A cut last one is left out.

    :raises BrokenContract: when it is not such a stream, as that of a container with a terminal.
    """
    kept = bytearray()
    for chunk in chunks:
        kept += chunk
        place = 0
        while len(kept) - place >= 8:
            stream, size = kept[place], int.from_bytes(kept[place + 4 : place + 8], "big")
            if stream > 2 or any(kept[place + 1 : place + 4]) or size > LARGEST_FRAME:
                raise BrokenContract("The engine sent a log that does not keep stdout and stderr apart.")
            if len(kept) - place < 8 + size:
                break
            yield stream, bytes(kept[place + 8 : place + 8 + size])
            place += 8 + size
        del kept[:place]


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a container's log.

    :ivar time: When the engine got its first part.
    :ivar stream: 1 for stdout, 2 for stderr.
    :ivar second: The whole second of its last part, by which it is counted: where a read goes on inside of a line, the
        line's rest is counted as the line was.
    """

    time: datetime
    stream: int
    text: str
    second: int


class Lines:
    """Joins the entries of a log to lines; what a line has beyond a record of the log is left out.

    :param parts: Frames.
    :param ended: Whether nothing follows, so that what stands behind the last line feed is a line as well.
    """

    def __init__(self, parts: Iterable[tuple[int, bytes]], *, ended: bool) -> None:
        self._parts = parts
        self._ended = ended
        self._begun: dict[int, tuple[datetime, bytearray, datetime]] = {}

    def __iter__(self) -> Iterator[Line]:
        for stream, content in self._parts:
            time, text = _entry(content)
            first, joined, _ = self._begun.pop(stream, (time, bytearray(), time))
            _join(joined, text.removesuffix(b"\n"))
            if text.endswith(b"\n"):
                yield _line(stream, first, joined, time)
            else:
                self._begun[stream] = first, joined, time
        if self._ended:
            for stream, (first, joined, last) in sorted(self._begun.items(), key=lambda item: item[1][2]):
                del self._begun[stream]
                yield _line(stream, first, joined, last)

    @property
    def begun_at(self) -> int | None:
        """The whole second in which the first of the lines has begun that have not ended; None where all have."""
        return min((int(first.timestamp()) for first, _, _ in self._begun.values()), default=None)


def _join(line: bytearray, part: bytes) -> None:
    """Add a part to a line. What a carriage return goes back over, as a progress bar does, is written over."""
    if part.strip(b"\r") and line.endswith(b"\r"):
        line.clear()
    ended = part.rstrip(b"\r")
    if (place := ended.rfind(b"\r")) >= 0:
        line.clear()
        part = part[place + 1 :]
    line += part[: max(0, 2 * RECORD_LIMIT - len(line))]


def _line(stream: int, first: datetime, text: bytearray, last: datetime) -> Line:
    return Line(first, stream, text.decode(errors="replace"), int(last.timestamp()))


def _entry(content: bytes) -> tuple[datetime, bytes]:
    found = _ENTRY.match(content)
    if found is None:
        raise BrokenContract(f"The engine sent a line of a log without a time: {content[:60]!r}.")
    micro = (found["fraction"] or b"")[:6].ljust(6, b"0").decode()
    zone = found["zone"].decode().replace("Z", "+00:00")
    try:
        time = datetime.fromisoformat(f"{found['second'].decode()}.{micro}{zone}").astimezone(UTC)
    except (ValueError, OverflowError):
        raise BrokenContract(f"The engine sent a line of a log with the time {found[0]!r}.") from None
    return time, content[found.end() :]


class Position:
    """What was read of a log.

    :param cursor: What :meth:`cursor` returned; None for the beginning.
    """

    def __init__(self, cursor: Any = None) -> None:
        known = dict(cursor or {})
        self._seen = {
            int(stream): {int(second): int(count) for second, count in counts.items()}
            for stream, counts in dict(known.get("seen") or {}).items()
        }
        self._begun: int | None = known.get("begun")

    @property
    def since(self) -> int:
        """The Unix time from which on the log is to be read; 0 for all of it."""
        seconds = [second for counts in self._seen.values() for second in counts]
        if not seconds:
            return 0
        last = max(seconds) - OVERLAP
        return max(0, last if self._begun is None else min(last, self._begun))

    def new(self, found: Lines) -> Iterator[Line]:
        """Return the lines that were not read before, and note them.

        :param found: The lines from :attr:`since` on.
        """
        skips = {stream: sum(counts.values()) for stream, counts in self._seen.items()}
        for line in found:
            if skips.get(line.stream, 0) > 0:
                skips[line.stream] -= 1
                continue
            self._note(line, found.begun_at)
            yield line

    def _note(self, line: Line, begun: int | None) -> None:
        counts = self._seen.setdefault(line.stream, {})
        counts[line.second] = counts.get(line.second, 0) + 1
        self._begun = begun
        since = self.since
        for known in self._seen.values():
            for second in [each for each in known if each < since]:
                del known[second]

    def cursor(self) -> Mapping[str, Any]:
        """Return it as JSON."""
        seen = {
            str(stream): {str(second): count for second, count in counts.items()}
            for stream, counts in self._seen.items()
        }
        return {"seen": seen, "begun": self._begun}
