# SPDX-License-Identifier: Apache-2.0
"""The bounds of every field of a spec: how long or large it may be, and of what form. Pure.

``bounds.csv`` has what botocore's model of CreateTrainingJob (botocore 1.43) says of the fields of the schema. ``[]``
is an entry of a list, ``{name}`` and ``{value}`` those of an object with any names. Limits that need a sentence of
their own, or that the model does not have, are in :mod:`.limits`.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from airflow_provider_jobapi.exceptions import InvalidJob

_FORMS = {
    ".*": r"[^\r\n]*",
    ".+": r"[^\r\n]+",
    "(https|s3)://([^/]+)/?(.*)": r"(https|s3)://[^/\r\n]+(/[^\r\n]*)?",
    r"([\p{L}\p{Z}\p{N}_.:/=+\-@]*)": r"[\w\s.:/=+\-@]*",
}
"""Patterns of the model as Python has them; all others are the same. Their ``.`` is no end of a line."""
_MEANT = {
    ".*": "one line",
    ".+": "one line",
    "(https|s3)://([^/]+)/?(.*)": "a place in S3, such as s3://my-trainings/jobs",
    r"([\p{L}\p{Z}\p{N}_.:/=+\-@]*)": "letters, digits, spaces and _.:/=+-@",
}
"""What such a pattern means."""


class Bound(NamedTuple):
    """What SageMaker allows of a field.

    :ivar least: Characters, entries, or the number itself.
    :ivar most: The same; None where there is no limit.
    :ivar pattern: As the model has it; empty where any text is allowed.
    """

    least: int
    most: int | None
    pattern: str


@cache
def table() -> dict[str, Bound]:
    """Return the bounds by field."""
    with (Path(__file__).parent / "bounds.csv").open(encoding="utf-8", newline="") as file:
        return {
            row["field"]: Bound(int(row["least"]), int(row["most"]) if row["most"] else None, row["pattern"])
            for row in csv.DictReader(file)
        }


def check(spec: Mapping[str, Any]) -> None:
    """Check every value of a spec.

    :raises InvalidJob: naming the path, and what is allowed. The value is not shown.
    """
    for field, path, value in _values(spec, "", ""):
        bound = table().get(field)
        if bound is not None and (wrong := _wrong(value, bound)):
            raise InvalidJob(f"service_options: spec.{path[:200]} {wrong}.", field="service_options")


def _wrong(value: Any, bound: Bound) -> str:
    size = value if isinstance(value, int) else len(value)
    if size < bound.least or (bound.most is not None and size > bound.most):
        unit = "" if isinstance(value, int) else " characters" if isinstance(value, str) else " entries"
        allowed = f"{bound.least:,} or more" if bound.most is None else f"{bound.least:,} to {bound.most:,}"
        return f"{'has' if unit else 'is'} {size:,}{unit}, and SageMaker allows {allowed}"
    form = _FORMS.get(bound.pattern, bound.pattern)
    if form and isinstance(value, str) and not re.fullmatch(form, value):
        return f"has a form that SageMaker does not allow: it is {_MEANT.get(bound.pattern) or bound.pattern}"
    return ""


def _values(value: Any, field: str, path: str) -> Iterator[tuple[str, str, Any]]:
    """Yield field, path and value of everything in a spec."""
    if isinstance(value, str | list | Mapping) or (isinstance(value, int) and not isinstance(value, bool)):
        yield field, path, value
    if isinstance(value, list):
        for i, each in enumerate(value):
            yield from _values(each, f"{field}[]", f"{path}[{i}]")
    elif isinstance(value, Mapping):
        any_names = f"{field}{{name}}" in table()
        for name, each in value.items():
            inside = _below(path, name)
            if any_names:
                yield f"{field}{{name}}", inside, name
            yield from _values(each, f"{field}{{value}}" if any_names else _below(field, name), inside)


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
