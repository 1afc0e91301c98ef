# SPDX-License-Identifier: Apache-2.0
"""Scripts that run under another Python than the job's, one that has the frameworks."""

from __future__ import annotations


def under(python: str, source: str) -> str:
    """A script that runs ``source`` under another Python."""
    return f"import os, sys\nos.execv({python!r}, [{python!r}, '-c', {source!r}, *sys.argv[1:]])\n"
