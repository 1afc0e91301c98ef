# SPDX-License-Identifier: Apache-2.0
"""Find and read the TensorBoard event files that a job writes, a little at a time.

A part of the supervisor: standard library only, Python 3.8 and newer. The files belong to the job, so nothing is
believed of them: they are opened with the rights of the job's user, only its own files are read, one that is damaged is
given up, and all that is done for them takes a tenth of one CPU at most.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import os
import re
import stat
import time
from typing import Any, Callable, Iterator  # noqa: UP035 -- Python 3.8 has the others only as annotations

if __package__:
    from airflow_provider_jobapi.server.run.supervisor.event_reader import EventFile, Place, key_of, open_directory
    from airflow_provider_jobapi.server.run.supervisor.tfrecord import CorruptRecord, Event
else:  # run by its path, isolated from every package
    from event_reader import EventFile, Place, key_of, open_directory  # type: ignore[import-not-found, no-redef]
    from tfrecord import CorruptRecord, Event  # type: ignore[import-not-found, no-redef]

MARK = ".tfevents."
"""What stands in the name of every event file."""

MOST_FILES = 256
MOST_ENTRIES, MOST_DIRECTORIES, MOST_ENTRIES_OF_ONE = 200_000, 10_000, 20_000
"""What one search looks at, the upper directories first; no event files lie among the many files of a data set."""

DEEPEST = 12
PAUSE_SECONDS = 2.0
"""Time between two looks at the files."""

SLICE_SECONDS = 0.05
"""Time after which the supervisor goes on with the job's output."""

REST = 9
"""How many times as long as it has worked it then rests."""

SEARCH_SECONDS = 1e-4
"""Time to the next search for each entry that the last one looked at: a hundred times as long as it took."""

FINISH_SECONDS, FINISH_OF_A_STOPPED_JOB_SECONDS = 20.0, 5.0
"""The most time for what is unread when the job's command has ended: 50 MB of scalars take that long."""

LAST_BYTES = 2**18
"""What is then read of the end of each file in any case, within :data:`LAST_SECONDS`, for the last values."""

LAST_SECONDS = 5.0

_ENDED = object()
_NEVER = float("inf")
_NOBODY = -1
"""No user id: ``setfsuid`` changes nothing by it."""

_MOST_NOTICES = 3
_SEARCHES_OF_A_LOST_FILE = 3
"""Searches after which a file is forgotten that none of them has found; one that is being moved may escape a search."""

_ENTRIES_A_STEP = 200


def _find_libc() -> Any:
    """The library whose ``setfsuid`` changes the user of one thread for files; None where there is none."""
    try:
        import ctypes

        found = ctypes.CDLL(None)
        _ = found.setfsuid, found.setfsgid
    except (ImportError, OSError, AttributeError):
        return None
    return found


_libc = _find_libc()


class EventFiles:
    """The event files below some folders.

    :param folders: Absolute paths; what is above them belongs to the server.
    :param take: Called with each record that has scalars.
    :param say: Writes a line into the job's log.
    :param since: A file that was last changed before, by the clock of the file system in nanoseconds, is not the job's.
    :param user: The user and the group id of the job, where it has its own.
    """

    def __init__(
        self,
        folders: list[str],
        take: Callable[[EventFile, Event], None],
        say: Callable[[str], None],
        since: int = 0,
        user: tuple[int, int] | None = None,
    ) -> None:
        self._folders = [
            each for each in dict.fromkeys(folders) if not any(_is_below(each, other) for other in folders)
        ]
        self._take = take
        self._notices: list[str] = []
        self._say = say
        self._since = since
        self._user = user
        self._files: dict[tuple[int, int], EventFile] = {}
        self._new: list[EventFile] = []
        self._searches = self._begun = self._said = 0
        self._next = 0.0
        self._next_search = 0.0
        self._pass: Iterator[None] | None = None
        self._too_many = False

    def look(self) -> bool:
        """Do a little of what is due; returns whether anything was due."""
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now
        ended = self._work(now + SLICE_SECONDS)
        self._next += (time.monotonic() - now) * (1 + REST) + (PAUSE_SECONDS if ended else 0.0)
        return True

    def finish(self, after: Callable[[], None], seconds: float = FINISH_SECONDS) -> None:
        """Read what is left, when the job writes no more.

        :param after: Called after every little of it.
        """
        until, passes = time.monotonic() + seconds, 0
        while passes < 2 and self._next != _NEVER:  # a pass that had begun knows nothing of the last files
            if time.monotonic() >= until:
                self._tell(
                    f"The event files of TensorBoard were not read to their end within {seconds:g} seconds: points "
                    "before the last ones are missing."
                )
                self._pass, passes, until = self._last_pass(), 1, time.monotonic() + LAST_SECONDS
                while not self._work(until) and time.monotonic() < until:
                    after()
                return
            if self._work(time.monotonic() + SLICE_SECONDS):
                self._next_search = 0.0
                passes += 1
            after()

    def _work(self, until: float) -> bool:
        """Go on with a pass until a time; returns whether it has ended."""
        ended = False
        try:
            with self._as_user():
                self._pass = self._pass or self._one_pass()
                while not ended and time.monotonic() < until:
                    ended = next(self._pass, _ENDED) is _ENDED
        except Exception as error:  # noqa: BLE001 -- curves must never fail a job
            self._notices.append(f"Event files of TensorBoard are not read any further: {error}.")
            self._next = _NEVER
            ended = True
        if ended:
            self._pass = None
        for notice in self._notices:
            self._tell(notice)
        self._notices.clear()
        return ended

    @contextlib.contextmanager
    def _as_user(self) -> Iterator[None]:
        """Have no more rights than the job's user when a file is opened, in this thread alone.

        The real and the effective user stay, so the job cannot signal the supervisor.
        """
        if self._user is None or _libc is None:
            yield
            return
        group, user = _libc.setfsgid(self._user[1]), _libc.setfsuid(self._user[0])
        try:
            if _libc.setfsuid(_NOBODY) != self._user[0]:  # it returns the one before, and has no errors
                raise PermissionError("the user of the job cannot be taken on")
            yield
        finally:
            _libc.setfsuid(user)
            _libc.setfsgid(group)

    def _tell(self, notice: str) -> None:
        if self._said < _MOST_NOTICES:
            self._say(notice)
        elif self._said == _MOST_NOTICES:
            self._say("More is wrong with event files of TensorBoard, which is not said here.")
        self._said += 1

    def _one_pass(self) -> Iterator[None]:
        """Look for files where that is due, and read what was added to them; gives way after little work."""
        if time.monotonic() >= self._next_search:
            yield from self._search()
        for file in list(self._files.values()):
            if not file.given_up:
                yield from self._read(file)

    def _last_pass(self) -> Iterator[None]:
        """Read the end of each file."""
        for file in list(self._files.values()):
            if not file.given_up:
                with contextlib.suppress(OSError):  # it is gone
                    file.skip(LAST_BYTES)
                yield
                yield from self._read(file)

    def _search(self) -> Iterator[None]:
        """Find event files that are new, were moved or are gone."""
        self._searches += 1
        seen = 0
        for folder in self._folders:
            waiting: collections.deque[tuple[str, ...]] = collections.deque([()])
            while waiting and seen < MOST_ENTRIES:
                for more in self._entries((folder, waiting.popleft()), waiting):
                    seen += more
                    yield
        self._next_search = time.monotonic() + seen * SEARCH_SECONDS
        oldest = 0 if seen >= MOST_ENTRIES else self._searches - _SEARCHES_OF_A_LOST_FILE
        self._files = {key: file for key, file in self._files.items() if file.search > oldest}
        self._new.sort(key=lambda file: (_begun(file.name), file.place, file.name))
        for file in self._new:
            self._begun += 1
            file.number = self._begun
            self._files[file.key] = file
        self._new = []

    def _entries(self, place: Place, waiting: collections.deque[tuple[str, ...]]) -> Iterator[int]:
        """Look at the entries of one directory; yields from time to time how many it has looked at."""
        try:
            handle = open_directory(place)
        except OSError:
            return
        names, seen = place[1], 0
        try:
            with os.scandir(handle) as entries:
                for entry in itertools.islice(entries, MOST_ENTRIES_OF_ONE):
                    seen += 1
                    if MARK in entry.name:
                        self._found(place, entry)
                    elif self._may_enter(entry, len(names), len(waiting)):
                        waiting.append((*names, entry.name))
                    if seen % _ENTRIES_A_STEP == 0:
                        yield _ENTRIES_A_STEP
        except OSError:
            pass
        finally:
            os.close(handle)
        yield 1 + seen % _ENTRIES_A_STEP

    @staticmethod
    def _may_enter(entry: os.DirEntry[str], depth: int, waiting: int) -> bool:
        return depth < DEEPEST and waiting < MOST_DIRECTORIES and entry.is_dir(follow_symlinks=False)

    def _found(self, place: Place, entry: os.DirEntry[str]) -> None:
        try:
            about = entry.stat(follow_symlinks=False)
        except OSError:
            return
        key = key_of(about)
        file = self._files.get(key)
        if file is not None:  # it may have been moved
            file.place, file.name, file.search = place, entry.name, self._searches
        elif self._is_of_the_job(about) and all(key != other.key for other in self._new):
            if len(self._files) + len(self._new) < MOST_FILES:
                self._new.append(EventFile(key, place, entry.name, self._searches))
            elif not self._too_many:
                self._too_many = True
                self._notices.append(
                    f"The job writes more than {MOST_FILES} event files of TensorBoard; the others are not read."
                )

    def _is_of_the_job(self, about: os.stat_result) -> bool:
        own = self._user is None or about.st_uid == self._user[0]
        return own and stat.S_ISREG(about.st_mode) and about.st_ctime_ns >= self._since

    def _read(self, file: EventFile) -> Iterator[None]:
        try:
            yield from file.read(self._take)
        except CorruptRecord as error:
            file.given_up = True
            self._notices.append(f"The event file {file} is not read any further: {error} at byte {file.offset:,}.")
        except OSError:  # it is gone; the next search finds it where it was moved to
            pass


def _is_below(path: str, other: str) -> bool:
    return path.startswith(other.rstrip("/") + "/")


def _begun(name: str) -> int:
    """When a file was begun, as its name says."""
    found = re.search(re.escape(MARK) + r"(\d{1,18})", name)
    return int(found[1]) if found else 0
