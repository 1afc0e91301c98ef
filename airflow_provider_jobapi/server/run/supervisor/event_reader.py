# SPDX-License-Identifier: Apache-2.0
"""Open one TensorBoard event file of a job, and read its records as they are added.

A part of the supervisor: standard library only, Python 3.8 and newer. No link is followed, neither in the path nor at
its end, and only a plain file is opened, the one that was found there.
"""

from __future__ import annotations

import os
import stat
from typing import Callable, Iterator, Tuple  # noqa: UP035 -- Python 3.8 has the others only as annotations

if __package__:
    from airflow_provider_jobapi.server.run.supervisor import tfrecord
    from airflow_provider_jobapi.server.run.supervisor.tfrecord import Event, RecordReader
else:  # run by its path, isolated from every package
    import tfrecord  # type: ignore[import-not-found, no-redef]
    from tfrecord import Event, RecordReader  # type: ignore[no-redef]

RECORD_LIMIT = 2**20
"""Bytes of a record with scalars; a longer one is skipped."""

_CHUNK_BYTES = 64 * 1024
_FRAME_BYTES = tfrecord.HEADER_BYTES + tfrecord.FOOTER_BYTES
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

Place = Tuple[str, Tuple[str, ...]]  # noqa: UP006 -- evaluated by Python 3.8
"""A directory: the folder that the server named, and the names of the directories below it."""


def open_directory(place: Place) -> int:
    """Open a directory below a folder, name by name.

    :raises OSError: when it is not there, or a link is in between.
    """
    folder, names = place
    handle = os.open(folder, _DIRECTORY)
    for name in names:
        try:
            inner = os.open(name, _DIRECTORY, dir_fd=handle)
        finally:
            os.close(handle)
        handle = inner
    return handle


def key_of(about: os.stat_result) -> tuple[int, int]:
    """What a file is recognised by wherever it is moved: its device and its inode."""
    return about.st_dev, about.st_ino


class EventFile:
    """One event file.

    :ivar key: What it is recognised by.
    :ivar place: Its directory.
    :ivar search: The last search that has found it.
    :ivar number: Its number in the order in which the files were begun.
    :ivar offset: Where its next record begins.
    :ivar given_up: Whether it is not read any further, since it is damaged.
    """

    def __init__(self, key: tuple[int, int], place: Place, name: str, search: int) -> None:
        self.key = key
        self.place = place
        self.name = name
        self.search = search
        self.number = 0
        self.offset = 0
        self.given_up = False
        self._reader = RecordReader()

    def __str__(self) -> str:
        return "/".join((*self.place[1], self.name))

    def read(self, take: Callable[[EventFile, Event], None]) -> Iterator[None]:
        """Read what was added, and give way after little work.

        :param take: Called with each record that has scalars.
        :raises OSError: when it is not there any more.
        :raises CorruptRecord: when it is damaged.
        """
        handle = self._open()
        if handle is None:
            return
        try:
            size = os.fstat(handle).st_size
            if size < self.offset:
                self.offset, self._reader = 0, RecordReader()
            while self.offset < size:
                before = self.offset
                self._read_records(handle, size, take)
                if self.offset == before:
                    return
                yield
        finally:
            os.close(handle)

    def skip(self, left: int) -> None:
        """Go on near its end, from one record's length to the next.

        :param left: The bytes that are left to read.
        :raises OSError: when it is not there any more.
        """
        handle = self._open()
        if handle is None:
            return
        try:
            size, at = os.fstat(handle).st_size, self.offset
            while size - at > left:
                data, begin = os.pread(handle, _CHUNK_BYTES, at), at
                while begin <= at <= begin + len(data) - tfrecord.HEADER_BYTES and size - at > left:
                    at += tfrecord.record_size(data, at - begin)
            self.offset = min(at, size)
        finally:
            os.close(handle)

    def _open(self) -> int | None:
        """Open it; None where nothing was added.

        :raises OSError: when it is not there any more.
        """
        directory = open_directory(self.place)
        try:
            about = os.stat(self.name, dir_fd=directory, follow_symlinks=False)
            if key_of(about) != self.key or not stat.S_ISREG(about.st_mode):
                raise FileNotFoundError
            if about.st_size == self.offset:
                return None
            handle = os.open(self.name, _FILE, dir_fd=directory)
        finally:
            os.close(directory)
        if key_of(os.fstat(handle)) != self.key:
            os.close(handle)
            raise FileNotFoundError
        return handle

    def _read_records(self, handle: int, size: int, take: Callable[[EventFile, Event], None]) -> None:
        """Read the records of the next bytes, the whole ones."""
        data, at = os.pread(handle, _CHUNK_BYTES, self.offset), 0
        while at + _FRAME_BYTES <= len(data):
            begin = at + tfrecord.HEADER_BYTES
            length = tfrecord.message_size(data[at:begin])
            end = begin + length
            if length > RECORD_LIMIT:
                if self.offset + _FRAME_BYTES + length <= size:
                    self.offset += _FRAME_BYTES + length
                return
            if end + tfrecord.FOOTER_BYTES > len(data):
                if at or self.offset + _FRAME_BYTES + length > size:
                    return
                data = os.pread(handle, _FRAME_BYTES + length, self.offset)
                if len(data) < _FRAME_BYTES + length:
                    return
            event = self._reader.read(data[begin:end], data[end : end + tfrecord.FOOTER_BYTES])
            if event is not None:
                take(self, event)
            self.offset += _FRAME_BYTES + length
            at += _FRAME_BYTES + length
