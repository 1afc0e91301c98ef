# SPDX-License-Identifier: Apache-2.0
"""Sizes in bytes as people write them."""

from __future__ import annotations


def size_text(size: float) -> str:
    """A size in bytes as people read it: ``1.5 GB``."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} bytes" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
