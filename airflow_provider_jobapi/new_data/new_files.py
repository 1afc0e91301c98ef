# SPDX-License-Identifier: Apache-2.0
"""Decide which files of a folder are new and complete, from one listing to the next.

A file is its path, size and time of change; a file that changes is new again. It is complete when two listings, some
seconds apart, found it unchanged. A batch is one event: while any file still changes, the others wait for it, for a
bounded time.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

MEMORY = 5_000
"""Files that the state names one by one, in 40 KB. Older ones are known by the time at which they arrived."""

NAMES = 5
"""Names in an event, the newest."""

HELD = 10
"""Settle times for which complete files wait at most for others that still change."""

TICK = 2.0
"""Seconds within which a store may give two files the same time: S3 has whole seconds, FAT even ones."""

_KEY_BYTES = 6


@dataclass(frozen=True, slots=True)
class SeenFile:
    """A file as a listing found it.

    :ivar name: Its path below the folder.
    :ivar size: In bytes.
    :ivar changed: When its content changed, Unix time.
    :ivar came: When it arrived in this state, by the clock of its store: later than ``changed`` for a file that was
        moved here with its old time.
    """

    name: str
    size: int
    changed: float
    came: float

    def key(self, place: str) -> bytes:
        """The file, as it is now, in the stored state."""
        text = f"{place}\0{self.name}\0{self.size}\0{self.changed!r}"
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()[:_KEY_BYTES]


@dataclass(slots=True)
class NewFiles:
    """The files of one folder that were reported, and those that still change.

    :ivar place: The folder and the pattern; the state of another place is not restored.
    :ivar settle: Seconds for which a file must stay unchanged.
    """

    place: str
    settle: float
    _known: dict[bytes, float] = field(default_factory=dict)
    _before: float = -1.0
    _candidates: dict[bytes, float] = field(default_factory=dict)
    _oldest_candidate: float = float("inf")
    _waiting_since: float | None = None

    def update(self, files: Iterable[SeenFile], now: float) -> list[SeenFile]:
        """The files to report, the newest last; none while nothing is new or a batch is incomplete.

        :param files: Every file of the folder.
        :param now: Seconds of any monotonic clock.
        """
        found = {file.key(self.place): file for file in files}
        self._known |= {key: file.came for key, file in found.items() if key in self._known}
        fresh = {key: file for key, file in found.items() if key not in self._known and file.came > self._before}
        # A file that changes between two listings has another key then, and starts again.
        self._candidates = {key: self._candidates.get(key, now) for key in fresh}
        complete = self._complete(now)
        for key in complete:
            self._known[key] = fresh[key].came
            del self._candidates[key]
        self._oldest_candidate = min((fresh[key].came for key in self._candidates), default=float("inf"))
        self._forget(found)
        return sorted((fresh[key] for key in complete), key=lambda file: (file.came, file.name))

    def _complete(self, now: float) -> list[bytes]:
        complete = [key for key, since in self._candidates.items() if now - since >= self.settle]
        self._waiting_since = (self._waiting_since or now) if complete else None
        if len(complete) < len(self._candidates) and now - (self._waiting_since or now) < HELD * self.settle:
            return []
        self._waiting_since = None
        return complete

    def state(self) -> dict[str, Any]:
        """The state from which another instance continues, as JSON."""
        newest = sorted(self._known.values(), reverse=True)
        before = self._before
        if len(newest) > MEMORY:
            before = max(before, min(newest[MEMORY], self._oldest_candidate) - TICK)
        kept = [key for key, came in self._known.items() if came > before]
        return {"place": self._mark(), "before": before, "known": base64.b64encode(b"".join(kept)).decode()}

    def restore(self, state: Any) -> bool:
        """Continue from a state; False where it is of another place or invalid."""
        if not isinstance(state, Mapping) or state.get("place") != self._mark():
            return False
        try:
            packed = base64.b64decode(state["known"], validate=True)
            self._before = float(state["before"])
        except (KeyError, TypeError, ValueError):
            return False
        # The next listing says when they arrived; those that are gone are the first to be forgotten.
        unknown = math.nextafter(self._before, math.inf)
        self._known = {packed[at : at + _KEY_BYTES]: unknown for at in range(0, len(packed), _KEY_BYTES)}
        return True

    def _mark(self) -> str:
        return hashlib.sha256(self.place.encode("utf-8", "surrogateescape")).hexdigest()

    def _forget(self, found: Mapping[bytes, SeenFile]) -> None:
        """Forget all but some deleted files: those of a folder that was briefly unmounted must not be new again."""
        gone = [key for key in self._known if key not in found]
        for key in gone[: max(0, len(gone) - MEMORY)]:
            del self._known[key]


def describe(new: list[SeenFile], everything: Iterable[SeenFile]) -> dict[str, Any]:
    """The payload of an event, small however many files there are.

    :param new: The new files, the newest last.
    :param everything: All files of the folder.
    """
    listing = sorted(
        f"{file.name}\0{file.size}\0{file.changed!r}\n".encode("utf-8", "surrogateescape") for file in everything
    )
    return {
        "count": len(new),
        "bytes": sum(file.size for file in new),
        "newest": max(file.changed for file in new),
        "names": [file.name[-200:].encode("utf-8", "replace").decode() for file in new[-NAMES:]],
        "files": len(listing),
        "listing_version": hashlib.sha256(b"".join(listing)).hexdigest(),
    }
