# SPDX-License-Identifier: Apache-2.0
"""What this machine has: CPUs, GPUs and memory, as the server may use them."""

from __future__ import annotations

import os
import re
from pathlib import Path

_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def cpus() -> int:
    """The CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def gpus() -> int:
    """The NVIDIA GPUs whose devices are here."""
    try:
        return sum(1 for device in Path("/dev").iterdir() if re.fullmatch(r"nvidia\d+", device.name))
    except OSError:
        return 0


def memory() -> int:
    """Four fifths of the memory in megabytes, of the machine or of its container; the rest is for others."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in _CGROUP_LIMITS:
        try:
            total = min(total, int(Path(path).read_text()))
        except (OSError, ValueError):  # no such controller, or "max"
            continue
    return max(1, total * 4 // 5 // 10**6)
