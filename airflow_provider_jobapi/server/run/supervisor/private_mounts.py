# SPDX-License-Identifier: Apache-2.0
"""Give a job a view of the file system of its own: some directories cannot be written to, and some files are hidden.

A part of the supervisor: standard library only, Python 3.8 and newer. It needs mount namespaces of Linux: those of
root, or those in a user namespace, which most systems but few containers let every user make. A job cannot undo it,
unless it runs as root. Run by its path, with a directory and the user id of jobs, it exits with 0 where it is possible.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path
from typing import Any, Iterable  # noqa: UP035 -- Python 3.8 has the others only as annotations

_NEW_USERS, _NEW_MOUNTS = 0x10000000, 0x20000
_READ_ONLY, _NOSUID, _NODEV, _REMOUNT, _BIND, _RECURSIVE, _SLAVE = 1, 2, 4, 32, 0x1000, 0x4000, 0x80000
_KEPT = {2: 2, 4: 4, 8: 8, 1024: 1024, 2048: 2048, 4096: 0x200000}
"""What a mount has by ``statvfs``, and the flag with which a remount keeps it."""

_SET_DUMPABLE = 4


def make(read_only: Iterable[str], hidden: Iterable[str]) -> None:
    """Give this process and all that it starts such a view.

    Called between fork and exec, after the change of uid.

    :param read_only: Directories.
    :param hidden: Files and directories, which will be empty.
    :raises OSError: when this system does not let this user.
    """
    if not sys.platform.startswith("linux"):
        raise OSError("this system has no mount namespaces")
    try:
        libc: Any = ctypes.CDLL(None, use_errno=True)
        libc.mount.argtypes = [ctypes.c_char_p] * 3 + [ctypes.c_ulong, ctypes.c_char_p]
    except AttributeError:
        raise OSError("this system has no mount namespaces") from None

    def mount(source: str | None, target: str, flags: int, kind: str | None = None) -> None:
        texts = [None if text is None else os.fsencode(text) for text in (source, target, kind)]
        _check(libc.mount(*texts, flags, None))

    if os.geteuid() == 0:
        _check(libc.unshare(_NEW_MOUNTS))
    else:
        _enter_user_namespace(libc)
    mount(None, "/", _RECURSIVE | _SLAVE)
    for path in hidden:
        if Path(path).is_dir():
            mount("none", path, _READ_ONLY | _NOSUID | _NODEV, "tmpfs")
        elif Path(path).exists():
            mount(os.devnull, path, _BIND)
    for path in read_only:
        mount(path, path, _BIND | _RECURSIVE)
        has = os.statvfs(path).f_flag
        kept = sum(flag for bit, flag in _KEPT.items() if has & bit)
        mount(None, path, _BIND | _REMOUNT | _READ_ONLY | kept)


def _enter_user_namespace(libc: Any) -> None:
    uid, gid = os.geteuid(), os.getegid()
    libc.prctl(_SET_DUMPABLE, 1, 0, 0, 0)  # after a change of uid, /proc/self belongs to root otherwise
    _check(libc.unshare(_NEW_USERS | _NEW_MOUNTS))
    for name, text in (("setgroups", "deny"), ("gid_map", f"{gid} {gid} 1"), ("uid_map", f"{uid} {uid} 1")):
        Path("/proc/self", name).write_text(text)


def _check(result: int) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _probe(directory: str, uid: int) -> int:
    if os.geteuid() != uid:
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)
    try:
        make([directory], [])
    except OSError:
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(_probe(sys.argv[1], int(sys.argv[2])))
