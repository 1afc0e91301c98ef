# SPDX-License-Identifier: Apache-2.0
"""Logs by page: what is asked and what the answer says, the same for both dialects.

A page names where it begins and ends by decimal numbers that look like nanoseconds since 1970. They come as texts or
as numbers and are longer than a float holds. What separates the lines in the content, the documents' samples show in
two ways, so the page's own number of lines decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from airflow_provider_jobapi.services.answer import Answer
from airflow_provider_jobapi.services.modelarts.wire import Call, content, maybe_number, number, text

LONGEST = 500
"""Lines of a page, at the most."""


@dataclass(frozen=True, slots=True)
class Ask:
    """What is wanted of a log.

    :ivar base: The number from which on, or up to which; None for none.
    :ivar order: ``asc`` or ``desc``.
    :ivar lines: At most so many.
    """

    base: int | None
    order: str
    lines: int


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a log, oldest line first.

    :ivar start: Where it begins: the number of its first line.
    :ivar end: Where it ends: the number of its last line, or one more.
    :ivar ended: Whether its last line was ended; one that was not may still grow.
    :ivar count: How many lines they are by the service's count; less than texts where a line holds the separator.
    """

    start: int
    end: int
    texts: tuple[str, ...]
    ended: bool = True
    count: int = -1

    @property
    def lines(self) -> int:
        """How many lines the service counts."""
        return len(self.texts) if self.count < 0 else self.count


EMPTY = Page(0, 0, ())


def v1_page(job: str, version: str, file: str, ask: Ask) -> Call:
    """Asks for a page of a node's log."""
    return Call(
        "GET",
        "v1",
        f"/training-jobs/{quote(job, safe='')}/versions/{quote(version, safe='')}/aom-log",
        "the job's log",
        params={"log_file": file} | _params(ask),
    )


def v2_page(job: str, task: str, ask: Ask) -> Call:
    """Asks for a page of a task's log."""
    path = f"/training-jobs/{quote(job, safe='')}/logs/{quote(task, safe='')}"
    return Call("GET", "v2", path, "the job's log", params=_params(ask))


def read_page(answer: Answer) -> Page:
    """A page, its lines from old to new in whichever order they came.

    :raises BrokenContract: when it does not say where it begins and ends.
    """
    body = content(answer)
    said, count = text(body.get("content")), maybe_number(body.get("lines"))
    if count == 0 or (not said and count != 1):
        return EMPTY
    texts, ended = split(said, count)
    start, end = number(body.get("start_line"), "start_line"), number(body.get("end_line"), "end_line")
    if start > end:
        start, end, texts = end, start, texts[::-1]
    return Page(start, end, texts, ended, len(texts) if count is None else min(count, len(texts)))


def split(said: str, count: int | None) -> tuple[tuple[str, ...], bool]:
    """The lines of a content, by the separator that gives as many as the page says; and whether the last was ended.

    :param count: How many that is; None where it does not say.
    """
    body = said.removesuffix("\n")
    for lines in (body, said):  # the last line may be empty, and not ended
        for separator in ("\n\n", "\n"):
            if count == lines.count(separator) + 1:
                return tuple(lines.split(separator)), lines != said
    return tuple(body.split("\n\n" if "\n\n" in body else "\n")), body != said


def _params(ask: Ask) -> dict[str, str]:
    base: dict[str, Any] = {} if ask.base is None else {"base_line": str(ask.base)}
    return base | {"lines": str(ask.lines), "order": ask.order}
