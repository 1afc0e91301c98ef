# SPDX-License-Identifier: Apache-2.0
"""What the images of ModelArts offer a boot file of v1 for OBS: ``mox.file``, as far as copying goes."""

from __future__ import annotations

from . import file

__all__ = ["file"]
