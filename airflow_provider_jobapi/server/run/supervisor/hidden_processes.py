# SPDX-License-Identifier: Apache-2.0
"""Hide the processes of other users from a job: their command lines, which every user may read otherwise.

A part of the supervisor: standard library only, Python 3.8 and newer. The job gets a mount namespace with a /proc of
its own, mounted with ``hidepid``. This needs Linux 5.8 and CAP_SYS_ADMIN, which root has outside of most containers.
Run by its path, it exits with 0 where that is possible here.
"""

from __future__ import annotations

import sys

_NEW_MOUNTS = 0x20000
_RECURSIVE, _SLAVE = 0x4000, 0x80000
_NOSUID, _NODEV, _NOEXEC = 2, 4, 8


def hide_processes() -> bool:
    """Hide the processes of other users from this process and all that it starts; returns whether it worked.

    Called by root between fork and exec, before the change of uid. What is mounted elsewhere later is still seen.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        unshare, mount = libc.unshare, libc.mount
    except (ImportError, OSError, AttributeError):
        return False
    mount.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p]
    unshare.argtypes = [ctypes.c_int]
    return bool(
        unshare(_NEW_MOUNTS) == 0
        and mount(None, b"/", None, _RECURSIVE | _SLAVE, None) == 0
        and mount(b"proc", b"/proc", b"proc", _NOSUID | _NODEV | _NOEXEC, b"hidepid=2") == 0
    )


if __name__ == "__main__":
    sys.exit(0 if hide_processes() else 1)
