# SPDX-License-Identifier: Apache-2.0
"""An answer of a service as a value: the pure functions of every service read it, whichever side received it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

LONGEST_RETRY_AFTER = 3_600.0
"""Seconds; a service that asks for more is called again after these."""


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

    def retry_after(self) -> float | None:
        """Seconds after which the service asks to be called again, by Retry-After (RFC 9110, 10.2.3).

        :returns: At most :data:`LONGEST_RETRY_AFTER`, from a number or a date; None where there is neither.
        """
        text = self.headers.get("retry-after", "").strip()
        if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text):
            return min(float(text), LONGEST_RETRY_AFTER)
        try:
            then = parsedate_to_datetime(text)
            seconds = ((then if then.tzinfo else then.replace(tzinfo=UTC)) - self.at).total_seconds()
        except (ValueError, TypeError, IndexError, OverflowError):
            return None
        return min(max(0.0, seconds), LONGEST_RETRY_AFTER)


def clock_skew(headers: Mapping[str, str], at: datetime) -> timedelta:
    """Return the local clock minus the service's, from the Date header (whole seconds); zero without one.

    :param headers: By lower-case name.
    :param at: The local clock halfway between the request and the answer.
    """
    try:
        server_time = parsedate_to_datetime(headers["date"])
        return at - (server_time if server_time.tzinfo else server_time.replace(tzinfo=UTC))
    except (KeyError, ValueError, TypeError, OverflowError):
        return timedelta(0)


def sentence(said: object, longest: int = 500) -> str:
    """What a service said, fit for a log: one line, no control characters, not too long."""
    clean = re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\s]+", " ", str(said)).strip()
    return clean if len(clean) <= longest else f"{clean[:longest]}…"
