# SPDX-License-Identifier: Apache-2.0
"""The logs of the double: the lines of the platform, and pages by cursor."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Line = tuple[int, str]

_PIPE = "[ModelArts Service Log]modelarts-pipe: "


def place_of(place: Path, node: int) -> Path:
    """Where the log of a node is."""
    return place / "logs" / f"{node}.jsonl"


def read(place: Path, node: int) -> list[Line]:
    """The lines of a node so far, each with its number of nanoseconds."""
    file = place_of(place, node)
    content = file.read_bytes() if file.exists() else b""
    whole = content[: content.rfind(b"\n") + 1]
    return [(stamp, text) for stamp, text in map(json.loads, whole.splitlines())]


def at_the_end(spec: dict[str, Any], code: int, length: int) -> list[str]:
    """What the platform writes after the boot file; v1: the last seven lines of the documents' procedure.

    :param code: The exit code.
    :param length: How many bytes the boot file wrote.
    """
    if spec["dialect"] == "v2":
        now = time.strftime("%Y-%m-%d-%H:%M:%S")
        return [
            f"[Modelarts Service Log]collect and upload ascend logs end at {now}",
            f"[Modelarts Service Log]exit with {code}",
            f"[Modelarts Service Log][sidecar] exiting at {now}",
            f"[Modelarts Service Log][sidecar] exit with {code}",
        ]
    name = spec["job_name"]
    return [
        f"[Modelarts Service Log]Training {'failed' if code else 'completed'}.",
        f"{_PIPE}will create log file /tmp/log/{name}.log",
        f"{_PIPE}will create log file /tmp/log/{name}.log",
        f"{_PIPE}will write log file /tmp/log/{name}.log",
        f"{_PIPE}param for max log length: 1073741824",
        f"{_PIPE}param for whether exit on overflow: 0",
        f"{_PIPE}total length: {length}",
    ]


def visible(every: Sequence[Line], late: dict[str, Any] | None, now: float) -> list[Line]:
    """The lines that have been shipped.

    :param late: How lines come late: ``seconds`` after they were written, all of them or the ``last`` so many.
    """
    if late is None:
        return list(every)
    limit = int((now - late["seconds"]) * 10**9)
    first_late = 0 if late["last"] is None else max(0, len(every) - late["last"])
    shipped = next((index for index in range(first_late, len(every)) if every[index][0] > limit), len(every))
    return list(every[:shipped])


@dataclass(frozen=True)
class Page:
    """A page: its lines, and the numbers of its beginning and end."""

    lines: list[Line]
    start: str
    end: str


def page(every: Sequence[Line], base: str, *, towards_end: bool, from_head: bool, count: int, mode: str) -> Page:
    """Cut a page.

    :param base: The cursor that the client gave; empty for none.
    :param towards_end: Whether the lines after the cursor are wanted, or those before it.
    :param from_head: Without a cursor: whether the page is the log's first, or its last.
    :param count: At most so many lines.
    :param mode: What a cursor means. exclusive: it names a line that is not shown again; inclusive: the line is shown
        again; half_open: ``end_line`` is one more than the last line's number, and a page begins at the cursor;
        ignored: nothing, as in the documents' procedure, whose request has none; constant: nor do lines and order.
    """
    if mode == "constant":
        count = len(every)
    if not base or mode in {"ignored", "constant"}:
        chosen = list(every[:count] if from_head else every[max(0, len(every) - count) :])
    elif towards_end:
        begin = int(base) + (1 if mode == "exclusive" else 0)
        chosen = [line for line in every if line[0] >= begin][:count]
    else:
        end = int(base) - (0 if mode == "inclusive" else 1)
        before = [line for line in every if line[0] <= end]
        chosen = before[max(0, len(before) - count) :]
    if not chosen:
        return Page([], base, base)
    return Page(chosen, str(chosen[0][0]), str(chosen[-1][0] + (1 if mode == "half_open" else 0)))
