# SPDX-License-Identifier: Apache-2.0
"""Find and read the TensorBoard event files that a job writes, a little at a time.

A part of the supervisor: standard library only, Python 3.8 and newer. The files belong to the job, so nothing is
believed of them: they are opened with the rights of the job's user, no link is followed, only its own plain files are
read, a file that is damaged is given up, and all that is done for them takes a tenth of one CPU at most.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import os
import re
import stat
import time
from typing import Any, Callable, Iterator, Tuple  # noqa: UP035 -- Python 3.8 has the others only as annotations

if __package__:
    from airflow_provider_jobapi.server.run.supervisor import event_records
    from airflow_provider_jobapi.server.run.supervisor.event_records import CorruptRecord, Event, EventReader
else:  # run by its path, isolated from every package
    import event_records  # type: ignore[import-not-found, no-redef]
    from event_records import CorruptRecord, Event, EventReader  # type: ignore[no-redef]

MARK = ".tfevents."
"""What stands in the name of every event file."""

MOST_FILES = 256
MOST_ENTRIES, MOST_DIRECTORIES, MOST_ENTRIES_OF_ONE = 200_000, 10_000, 20_000
"""What one search looks at, the upper directories first; no event files lie among the many files of a data set."""

DEEPEST = 12
RECORD_LIMIT = 2**20
"""Bytes of a record with scalars; a longer one is skipped."""

PAUSE_SECONDS = 2.0
"""Time between two looks at the files."""

SLICE_SECONDS = 0.05
"""Time after which the supervisor goes on with the job's output."""

REST = 9
"""How many times as long as it has worked it then rests."""

SEARCH_SECONDS = 1e-4
"""Time to the next search for each entry that the last one looked at: a hundred times as long as it took."""

FINISH_SECONDS = 10.0
"""The most time for what is unread when the job's command has ended."""

_ENDED = object()
_NEVER = float("inf")
_NOBODY = -1
"""No user id: ``setfsuid`` changes nothing by it."""

_MOST_NOTICES = 3
_SEARCHES_OF_A_LOST_FILE = 3
"""Searches after which a file is forgotten that none of them has found; one that is being moved may escape a search."""

_CHUNK_BYTES = 64 * 1024
_ENTRIES_A_STEP = 200
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

Place = Tuple[int, Tuple[str, ...]]  # noqa: UP006 -- evaluated by Python 3.8
"""A directory: the number of its folder, and the names of the directories below it."""


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


class EventFile:
    """One event file.

    :ivar key: Its device and its inode.
    :ivar place: Its directory.
    :ivar search: The last search that has found it.
    :ivar number: Its number in the order in which the files were begun.
    :ivar offset: Where its next record begins.
    """

    def __init__(self, key: tuple[int, int], place: Place, name: str, search: int) -> None:
        self.key = key
        self.place = place
        self.name = name
        self.search = search
        self.number = 0
        self.offset = 0
        self.given_up = False
        self.reader = EventReader()


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
                    f"The event files of TensorBoard were not read to their end within {seconds:g} seconds: the last "
                    "points of their curves are missing."
                )
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

    def _search(self) -> Iterator[None]:
        """Find event files that are new, were moved or are gone."""
        self._searches += 1
        seen = 0
        for number in range(len(self._folders)):
            waiting: collections.deque[tuple[str, ...]] = collections.deque([()])
            while waiting and seen < MOST_ENTRIES:
                for more in self._entries((number, waiting.popleft()), waiting):
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
            handle = self._open_directory(place)
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
        key = _key(about)
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
        """Read what was added to a file."""
        try:
            handle = self._open(file)
        except OSError:  # it is gone; the next search finds it where it was moved to
            return
        if handle is None:
            return
        try:
            size = os.fstat(handle).st_size
            if size < file.offset:
                file.offset, file.reader = 0, EventReader()
            while file.offset < size:
                before = file.offset
                self._read_records(file, handle, size)
                if file.offset == before:
                    return
                yield
        except CorruptRecord as error:
            file.given_up = True
            path = "/".join((*file.place[1], file.name))
            self._notices.append(
                f"The event file {path} is not read any further: {error} at byte {file.offset:,} of {size:,}."
            )
        except OSError:
            pass
        finally:
            os.close(handle)

    def _open(self, file: EventFile) -> int | None:
        """Open a file; None where nothing was added to it.

        :raises OSError: when it is not there any more.
        """
        directory = self._open_directory(file.place)
        try:
            about = os.stat(file.name, dir_fd=directory, follow_symlinks=False)
            if _key(about) != file.key or not stat.S_ISREG(about.st_mode):
                raise FileNotFoundError
            if about.st_size == file.offset:
                return None
            handle = os.open(file.name, _FILE, dir_fd=directory)
        finally:
            os.close(directory)
        if _key(os.fstat(handle)) != file.key:
            os.close(handle)
            raise FileNotFoundError
        return handle

    def _open_directory(self, place: Place) -> int:
        number, names = place
        handle = os.open(self._folders[number], _DIRECTORY)
        for name in names:
            try:
                inner = os.open(name, _DIRECTORY, dir_fd=handle)
            finally:
                os.close(handle)
            handle = inner
        return handle

    def _read_records(self, file: EventFile, handle: int, size: int) -> None:
        """Read the records of the next bytes of a file, the whole ones."""
        data = os.pread(handle, _CHUNK_BYTES, file.offset)
        at, frame = 0, event_records.HEADER_BYTES + event_records.FOOTER_BYTES
        while at + frame <= len(data):
            begin = at + event_records.HEADER_BYTES
            length = event_records.message_size(data[at:begin])
            end = begin + length
            if length > RECORD_LIMIT:
                if file.offset + frame + length <= size:
                    file.offset += frame + length
                return
            if end + event_records.FOOTER_BYTES > len(data):
                if at or file.offset + frame + length > size:
                    return
                data = os.pread(handle, frame + length, file.offset)
                if len(data) < frame + length:
                    return
            event = file.reader.read(data[begin:end], data[end : end + event_records.FOOTER_BYTES])
            if event is not None:
                self._take(file, event)
            file.offset += frame + length
            at += frame + length


def _key(about: os.stat_result) -> tuple[int, int]:
    return about.st_dev, about.st_ino


def _is_below(path: str, other: str) -> bool:
    return path.startswith(other.rstrip("/") + "/")


def _begun(name: str) -> int:
    """When a file was begun, as its name says."""
    found = re.search(re.escape(MARK) + r"(\d{1,18})", name)
    return int(found[1]) if found else 0
