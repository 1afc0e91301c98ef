# SPDX-License-Identifier: Apache-2.0
"""Requests for pages of a log of ModelArts, and their answers in all formats of the API's documents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from airflow_provider_jobapi.services.answer import Answer
from airflow_provider_jobapi.services.modelarts.calls import Call, content, maybe_number, number, text

PAGE_LINES = 500
"""The most lines of a page."""


@dataclass(frozen=True, slots=True)
class PageRequest:
    """A request for a page.

    :ivar base: The number from which on, or up to which, lines are requested; None for none.
    :ivar order: ``asc`` or ``desc``.
    :ivar lines: The most lines.
    """

    base: int | None
    order: str
    lines: int


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a log, oldest line first.

    :ivar start: The number of its first line.
    :ivar end: The number of its last line, or one more.
    :ivar ended: Whether its last line has a line end; one without may still grow.
    :ivar count: The service's number of lines; less than ``texts`` if a line contains the separator.
    """

    start: int
    end: int
    texts: tuple[str, ...]
    ended: bool = True
    count: int = -1

    @property
    def lines(self) -> int:
        """The service's number of lines."""
        return len(self.texts) if self.count < 0 else self.count


EMPTY = Page(0, 0, ())


def v1_page(job: str, version: str, file: str, request: PageRequest) -> Call:
    """Build the request for a page of a node's log."""
    return Call(
        "GET",
        "v1",
        f"/training-jobs/{quote(job, safe='')}/versions/{quote(version, safe='')}/aom-log",
        "the job's log",
        params={"log_file": file} | _params(request),
    )


def v2_page(job: str, task: str, request: PageRequest) -> Call:
    """Build the request for a page of a task's log."""
    path = f"/training-jobs/{quote(job, safe='')}/logs/{quote(task, safe='')}"
    return Call("GET", "v2", path, "the job's log", params=_params(request))


def _params(request: PageRequest) -> dict[str, str]:
    base: dict[str, Any] = {} if request.base is None else {"base_line": str(request.base)}
    return base | {"lines": str(request.lines), "order": request.order}


def read_page(answer: Answer) -> Page:
    """Parse a page; its lines come oldest first or newest first.

    :raises BrokenContract: if it does not name where it begins and ends.
    """
    body = content(answer)
    written, count = text(body.get("content")), maybe_number(body.get("lines"))
    if count == 0 or (not written and count != 1):
        return EMPTY
    texts, ended = split_lines(written, count)
    start, end = number(body.get("start_line"), "start_line"), number(body.get("end_line"), "end_line")
    if start > end:
        start, end, texts = end, start, texts[::-1]
    return Page(start, end, texts, ended, len(texts) if count is None else min(count, len(texts)))


def split_lines(written: str, count: int | None) -> tuple[tuple[str, ...], bool]:
    """Split a page's content by the separator that gives the page's number of lines.

    :param count: The page's number of lines; None if unknown.
    :returns: The lines, and whether the last one has a line end.
    """
    body = written.removesuffix("\n")
    for lines in (body, written):  # the last line may be empty and without a line end
        for separator in ("\n\n", "\n"):
            if count == lines.count(separator) + 1:
                return tuple(lines.split(separator)), lines != written
    return tuple(body.split("\n\n" if "\n\n" in body else "\n")), body != written
