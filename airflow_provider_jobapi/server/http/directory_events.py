# SPDX-License-Identifier: Apache-2.0
"""Changes of files in directories, as Linux reports them (inotify)."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

_MODIFY, _MOVED_TO, _CREATE, _OVERFLOW, _IGNORED = 0x2, 0x80, 0x100, 0x4000, 0x8000
_ONLY_DIRECTORIES, _NO_LINKS = 0x1000000, 0x2000000
_MASK = _MODIFY | _MOVED_TO | _CREATE | _ONLY_DIRECTORIES | _NO_LINKS

_HEAD = struct.Struct("iIII")
_READ_BYTES = 256 * 1024
_ERRNO_OF_LIMIT = errno.ENOSPC

_SHARED_FILE_SYSTEMS = {
    0x6969: "NFS",
    0x517B: "SMB",
    0xFF534D42: "CIFS",
    0xFE534D42: "SMB 2",
    0x65735546: "FUSE",
    0x01021997: "9P",
    0x00C36400: "Ceph",
    0x0BD00BD0: "Lustre",
    0x47504653: "GPFS",
    0x7461636F: "OCFS2",
    0x01161970: "GFS2",
    0x19830326: "BeeGFS",
    0x5346414F: "AFS",
    0x786F4256: "VirtualBox",
}
"""The file systems that other hosts may write to, by the numbers of statfs(2). Linux reports no change by another."""


class DirectoryEvents:
    """Reports in which directories files of some names were made or written to.

    :param names: The names of the files.
    :raises OSError: when this system has no inotify, or no room for one more.
    """

    def __init__(self, names: Collection[str]) -> None:
        self._names = frozenset(name.encode() for name in names)
        self._libc = ctypes.CDLL(None, use_errno=True)
        if not hasattr(self._libc, "inotify_init1"):
            raise OSError(errno.ENOSYS, "this system has no inotify")
        self.handle: int = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self.handle < 0:
            raise _last_error()

    def add(self, directory: Path) -> int:
        """Watch a directory; returns the number of the watch.

        :raises OSError: when there is no such directory, or no room for one more watch.
        """
        number: int = self._libc.inotify_add_watch(self.handle, os.fsencode(directory), _MASK)
        if number < 0:
            raise _last_error()
        return number

    def remove(self, number: int) -> None:
        """End a watch."""
        self._libc.inotify_rm_watch(self.handle, number)

    def read(self) -> tuple[set[int], set[int], bool]:
        """Return the watches with changes, those that ended, and whether changes were lost. Never blocks."""
        changed: set[int] = set()
        ended: set[int] = set()
        lost = False
        with suppress(BlockingIOError):
            while True:
                content, place = os.read(self.handle, _READ_BYTES), 0
                while place < len(content):
                    number, mask, _, length = _HEAD.unpack_from(content, place)
                    place += _HEAD.size + length
                    if mask & _OVERFLOW:
                        lost = True
                    elif mask & _IGNORED:
                        ended.add(number)
                    elif content[place - length : place].rstrip(b"\0") in self._names:
                        changed.add(number)
        return changed, ended, lost

    def close(self) -> None:
        """End all watches."""
        os.close(self.handle)


def is_limit(error: OSError) -> bool:
    """Whether there are as many watches as fs.inotify.max_user_watches allows."""
    return error.errno == _ERRNO_OF_LIMIT


def shared_file_system(path: Path) -> str | None:
    """Return the name of the file system of a path where other hosts may write to it, unseen by this one."""
    libc, found = ctypes.CDLL(None, use_errno=True), (ctypes.c_long * 64)()
    if not hasattr(libc, "inotify_init1") or libc.statfs(os.fsencode(path), found) != 0:
        return None
    return _SHARED_FILE_SYSTEMS.get(found[0] & 0xFFFFFFFF)


def _last_error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))
