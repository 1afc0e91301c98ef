# SPDX-License-Identifier: Apache-2.0
"""Which files of a folder are new and whole, told from one look at it to the next.

A file is its path, size and time of change; a file that changes is new again. It is whole when two looks, some seconds
apart, found it the same. A batch is told at once: as long as any file still changes, the others wait for it, for a
bounded number of looks.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

MEMORY = 5_000
"""Files that the state names one by one: 40 KB of it. Older ones are known by the time at which they came."""

NAMES = 5
"""Names that an event tells, the newest."""

HELD = 10
"""How many settle times whole files wait, at the most, for others that still change."""

TICK = 2.0
"""Seconds within which a store may give two files one time: S3 tells whole seconds, FAT even ones."""

_BYTES = 6


@dataclass(frozen=True, slots=True)
class SeenFile:
    """A file as one look found it.

    :ivar name: Its path beneath the folder.
    :ivar size: In bytes.
    :ivar changed: When its content changed, Unix time.
    :ivar came: When it came to be as it is, by the clock of its store: later than ``changed`` for a file that was moved
        here under its old time.
    """

    name: str
    size: int
    changed: float
    came: float

    def key(self, place: str) -> bytes:
        """What stands for the file, as it is now, in the state."""
        text = f"{place}\0{self.name}\0{self.size}\0{self.changed!r}"
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()[:_BYTES]


@dataclass(slots=True)
class NewFiles:
    """The files of one folder that were told, and those that still change.

    :ivar place: The folder and the pattern; a state of another place is not ours.
    :ivar settle: Seconds for which a file must stay as it is.
    """

    place: str
    settle: float
    _known: dict[bytes, float] = field(default_factory=dict)
    _before: float = -1.0
    _candidates: dict[bytes, float] = field(default_factory=dict)
    _oldest_candidate: float = float("inf")
    _waiting_since: float | None = None

    def look(self, files: Iterable[SeenFile], now: float) -> list[SeenFile]:
        """The files to tell of, the newest last; none while there is nothing new or a batch still comes.

        :param files: Everything that is there.
        :param now: The time of this look, by any clock that goes forward.
        """
        found = {file.key(self.place): file for file in files}
        self._known |= {key: file.came for key, file in found.items() if key in self._known}
        fresh = {key: file for key, file in found.items() if key not in self._known and file.came > self._before}
        # What changes between two looks has another key then, and begins anew.
        self._candidates = {key: self._candidates.get(key, now) for key in fresh}
        whole = self._whole(now)
        for key in whole:
            self._known[key] = fresh[key].came
            del self._candidates[key]
        self._oldest_candidate = min((fresh[key].came for key in self._candidates), default=float("inf"))
        self._forget(found)
        return sorted((fresh[key] for key in whole), key=lambda file: (file.came, file.name))

    def _whole(self, now: float) -> list[bytes]:
        whole = [key for key, since in self._candidates.items() if now - since >= self.settle]
        self._waiting_since = (self._waiting_since or now) if whole else None
        if len(whole) < len(self._candidates) and now - (self._waiting_since or now) < HELD * self.settle:
            return []
        self._waiting_since = None
        return whole

    def state(self) -> dict[str, Any]:
        """What to keep, so that another one goes on where this one is; JSON."""
        newest = sorted(self._known.values(), reverse=True)
        before = self._before
        if len(newest) > MEMORY:
            before = max(before, min(newest[MEMORY], self._oldest_candidate) - TICK)
        kept = [key for key, came in self._known.items() if came > before]
        return {"place": self._mark(), "before": before, "known": base64.b64encode(b"".join(kept)).decode()}

    def restore(self, state: Any) -> bool:
        """Go on from a state; answers whether it was one of this place."""
        if not isinstance(state, Mapping) or state.get("place") != self._mark():
            return False
        try:
            packed = base64.b64decode(state["known"], validate=True)
            self._before = float(state["before"])
        except (KeyError, TypeError, ValueError):
            return False
        # When they came is learnt at the next look; those that are gone are the first to be forgotten.
        unknown = math.nextafter(self._before, math.inf)
        self._known = {packed[at : at + _BYTES]: unknown for at in range(0, len(packed), _BYTES)}
        return True

    def _mark(self) -> str:
        return hashlib.sha256(self.place.encode("utf-8", "surrogateescape")).hexdigest()

    def _forget(self, found: Mapping[bytes, SeenFile]) -> None:
        """Files that went are remembered for a while: a folder that is away for a moment is not new when it is back."""
        gone = [key for key in self._known if key not in found]
        for key in gone[: max(0, len(gone) - MEMORY)]:
            del self._known[key]


def describe(new: list[SeenFile], everything: Iterable[SeenFile]) -> dict[str, Any]:
    """What an event tells of new files; small, however many there are.

    :param new: The new files, the newest last.
    :param everything: All files that are there.
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
