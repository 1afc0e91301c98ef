# SPDX-License-Identifier: Apache-2.0
"""Requests and answers of ModelArts as values, and the few habits of its JSON that both dialects share.

The documents and their samples disagree on types (ids, numbers and times come as numbers here and as texts there), so
every value is coerced where it is read and never compared raw.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

from airflow_provider_jobapi.exceptions import BrokenContract
from airflow_provider_jobapi.services.answer import Answer, sentence


@dataclass(frozen=True, slots=True)
class Call:
    """One request, as a value.

    :ivar path: Beneath ``/<dialect>/<project id>``.
    :ivar subject: What it is about, for the sentences of errors.
    :ivar idempotent: Whether the same request may be sent again without a second effect.
    """

    method: str
    version: str
    path: str
    subject: str
    params: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    idempotent: bool = True


def content(answer: Answer) -> dict[str, Any]:
    """The object that an answer holds; an empty one where it holds none."""
    try:
        read = json.loads(answer.body) if answer.body.strip() else {}
    except (ValueError, RecursionError):
        return {}
    return read if isinstance(read, dict) else {}


def skew(answer: Answer) -> timedelta:
    """Our clock minus the service's, by the whole second of its Date header; zero where it has none."""
    try:
        theirs = parsedate_to_datetime(answer.headers["date"])
        return answer.at - (theirs if theirs.tzinfo else theirs.replace(tzinfo=UTC))
    except (KeyError, ValueError, TypeError, OverflowError):
        return timedelta(0)


def number(value: object, what: str) -> int:
    """A whole number that may come as a text.

    :raises BrokenContract: when it is none.
    """
    read = maybe_number(value)
    if read is None:
        raise BrokenContract(f"ModelArts sent {sentence(repr(value), 60)} for {what}, which is no number.")
    return read


def maybe_number(value: object) -> int | None:
    """A whole number that may come as a text, or None where there is none. Never by way of a float: cursors are
    longer than one holds.
    """
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, float):
        return int(value) if value == value and abs(value) < 2**53 else None  # noqa: PLR0124 -- not for NaN
    found = re.fullmatch(r"\s*(-?[0-9]{1,30})(?:\.0*)?\s*", str(value))
    return int(found[1]) if found else None


def moment(milliseconds: object) -> datetime | None:
    """A time in milliseconds since 1970; 0 and missing mean that it is not set."""
    read = maybe_number(milliseconds)
    if not read or read < 0:
        return None
    try:
        return datetime.fromtimestamp(read / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        return None


def text(value: object) -> str:
    """A text; empty where there is none."""
    return "" if value is None else str(value)


def objects(value: object, what: str) -> list[dict[str, Any]]:
    """A list of objects; others in it are left out, as the documents' samples have a text of dots there.

    :raises BrokenContract: when it is no list.
    """
    if not isinstance(value, list):
        raise BrokenContract(f"ModelArts sent no list of {what}; check the connection's host and dialect.")
    return [each for each in value if isinstance(each, dict)]


def merged(body: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """A request with what the DAG asks for besides: objects are merged, everything else replaces."""
    result = dict(body)
    for name, value in more.items():
        mine = result.get(name)
        result[name] = merged(mine, value) if isinstance(mine, Mapping) and isinstance(value, Mapping) else value
    return result
