# SPDX-License-Identifier: Apache-2.0
"""Read one log of v2 in regions without pages: a preview of its end, and a link to all of it.

Open Telekom Cloud documents only these two. Their lines have no time of any kind, and a line must get the same time
whenever the log is read again. So each gets the time of the job's creation plus a millisecond for each line before it,
which is a rate at which no line is dropped for coming too fast.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from airflow_provider_jobapi.exceptions import BrokenContract
from airflow_provider_jobapi.services.answer import Answer
from airflow_provider_jobapi.services.modelarts.calls import Call, content, maybe_number, text


@dataclass(frozen=True, slots=True)
class PreviewPart:
    """A part of a log.

    :ivar begin: The byte of the log at which it begins.
    :ivar body: Its bytes.
    """

    begin: int
    body: bytes

    def lines_after(self, offset: int, most: int, *, final: bool) -> tuple[tuple[str, ...], int] | None:
        """Return the lines after an offset and the offset after them; None if this part begins later.

        :param most: The most lines.
        :param final: Whether the log is complete, so that a last line without a line end will not grow.
        """
        if self.begin > offset:
            return None
        new = self.body[offset - self.begin :]
        end = len(new) if final else new.rfind(b"\n") + 1
        if not end:
            return (), offset
        whole = new[:end].removesuffix(b"\n")
        lines = whole.split(b"\n", most)
        if len(lines) > most:
            end = len(whole) - len(lines.pop())
        return tuple(line.decode(errors="replace") for line in lines), offset + end


def preview(job: str, task: str) -> Call:
    """Build the request for the end of a task's log."""
    return Call("GET", "v2", f"{_path(job, task)}/preview", "the job's log")


def read_preview(answer: Answer) -> PreviewPart:
    """Parse the end of a log; its sizes show where it begins.

    If the text does not have the size that the answer names (it grows if the log is not UTF-8), no byte of it has a
    known position. Then the part is empty and at the log's end, and the caller reads what is before it from the link.
    """
    body = content(answer)
    shown = text(body.get("content")).encode(errors="surrogatepass")
    size, whole = maybe_number(body.get("current_size")), maybe_number(body.get("full_size"))
    if size is not None and size != len(shown):
        return PreviewPart(size if whole is None else whole, b"")
    return PreviewPart(0 if whole is None else max(0, whole - len(shown)), shown)


def link(job: str, task: str) -> Call:
    """Build the request for a link to a task's whole log, valid for five minutes."""
    return Call("GET", "v2", f"{_path(job, task)}/url", "the job's log")


def read_link(answer: Answer) -> str:
    """Parse the link, which is a secret while it is valid."""
    url = text(content(answer).get("obs_url"))
    if not url.startswith(("https://", "http://")):
        raise BrokenContract("ModelArts sent no link to the job's log; check the connection's host and dialect.")
    return url


def _path(job: str, task: str) -> str:
    return f"/training-jobs/{quote(job, safe='')}/tasks/{quote(task, safe='')}/logs"
