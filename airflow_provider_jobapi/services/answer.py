# SPDX-License-Identifier: Apache-2.0
"""An answer of a service as a value: the pure functions of every service read it, whichever side received it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, as a value.

    :ivar headers: By lower-case name.
    :ivar at: Our clock halfway between the request and the answer.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    at: datetime


def sentence(said: object, longest: int = 500) -> str:
    """What a service said, fit for a log: one line, no control characters, not too long."""
    clean = re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\s]+", " ", str(said)).strip()
    return clean if len(clean) <= longest else f"{clean[:longest]}…"
