# SPDX-License-Identifier: Apache-2.0
"""One SHA-256 over several files, such as those of a model or of its training data."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable


def digest_of(files: Iterable[tuple[str, str]]) -> str:
    r"""The SHA-256, in hex, of the lines ``<name>\0<sha256>\n``, sorted, of some files.

    It depends on names and contents alone, and can be computed from what ``sha256sum`` prints.

    :param files: The name and the SHA-256, in hex, of each.
    """
    lines = sorted(f"{name}\0{sha256}\n".encode("utf-8", "surrogateescape") for name, sha256 in files)
    return hashlib.sha256(b"".join(lines)).hexdigest()
