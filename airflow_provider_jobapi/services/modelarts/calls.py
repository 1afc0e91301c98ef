# SPDX-License-Identifier: Apache-2.0
"""Requests to ModelArts as values, and functions that read the JSON of its answers.

The API's documents and their samples disagree on types (ids, numbers and times are numbers in one place and strings in
another), so every value is converted where it is read and never compared raw.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow_provider_jobapi.exceptions import BrokenContract
from airflow_provider_jobapi.services.answer import Answer, clock_skew, sentence


@dataclass(frozen=True, slots=True)
class Call:
    """One request to ModelArts.

    :ivar path: Below ``/<version>/<project id>``.
    :ivar subject: What the request is about, for error messages.
    :ivar idempotent: Whether the request may be sent again without a second effect.
    """

    method: str
    version: str
    path: str
    subject: str
    params: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    idempotent: bool = True


def content(answer: Answer) -> dict[str, Any]:
    """Return the JSON object of an answer; an empty one if the body is anything else."""
    try:
        read = json.loads(answer.body) if answer.body.strip() else {}
    except (ValueError, RecursionError):
        return {}
    return as_object(read)


def skew(answer: Answer) -> timedelta:
    """Return the local clock minus the service's, from the Date header (whole seconds); zero without one."""
    return clock_skew(answer.headers, answer.at)


def number(value: object, what: str) -> int:
    """Convert a value to an integer; it may be a string.

    :param what: The name of the value, for the error message.
    :raises BrokenContract: if it is not an integer.
    """
    read = maybe_number(value)
    if read is None:
        raise BrokenContract(f"ModelArts sent {sentence(repr(value), 60)} for {what}; expected an integer.")
    return read


def maybe_number(value: object) -> int | None:
    """Convert a value to an integer, or return None if it is not one.

    Strings never pass through a float: cursors of logs have more digits than a float holds.
    """
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, float):
        return int(value) if value == value and abs(value) < 2**53 else None  # noqa: PLR0124 -- not for NaN
    found = re.fullmatch(r"\s*(-?[0-9]{1,30})(?:\.0*)?\s*", str(value))
    return int(found[1]) if found else None


def timestamp(milliseconds: object) -> datetime | None:
    """Convert milliseconds since 1970 to a time; None if the value is 0, missing or not a time."""
    read = maybe_number(milliseconds)
    if not read or read < 0:
        return None
    try:
        return datetime.fromtimestamp(read / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        return None


def text(value: object) -> str:
    """Convert a value to a string; None becomes the empty string."""
    return "" if value is None else str(value)


def as_object(value: object) -> dict[str, Any]:
    """Return a JSON object as it is, and an empty one for any other value."""
    return value if isinstance(value, dict) else {}


def objects(value: object, what: str) -> list[dict[str, Any]]:
    """Return the objects of a list and skip its other items: samples in the API's documents contain ``"..."``.

    :param what: The name of the list, for the error message.
    :raises BrokenContract: if it is not a list.
    """
    if not isinstance(value, list):
        raise BrokenContract(f"ModelArts sent no list of {what}; check the connection's host and dialect.")
    return [each for each in value if isinstance(each, dict)]


def merged(body: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Merge ``more`` into a request body: objects are merged, every other value is replaced."""
    result = dict(body)
    for name, value in more.items():
        known = result.get(name)
        result[name] = merged(known, value) if isinstance(known, Mapping) and isinstance(value, Mapping) else value
    return result
