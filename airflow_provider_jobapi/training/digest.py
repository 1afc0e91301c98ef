# SPDX-License-Identifier: Apache-2.0
"""One SHA-256 for many files: of a SavedModel, of the data that trained it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable


def digest_of(files: Iterable[tuple[str, str]]) -> str:
    r"""The SHA-256, in hex, of the lines ``<name>\0<sha256>\n``, sorted, of some files.

    So it depends on the files' names and contents alone, and anybody can compute it with what ``sha256sum`` prints.

    :param files: The name and the SHA-256, in hex, of each.
    """
    lines = sorted(f"{name}\0{sha256}\n".encode("utf-8", "surrogateescape") for name, sha256 in files)
    return hashlib.sha256(b"".join(lines)).hexdigest()
