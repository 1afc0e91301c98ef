# SPDX-License-Identifier: Apache-2.0
"""Logs of v2 where the region has none by page: the end of the log, and a link to all of it where that is not enough.

Open Telekom Cloud documents these two alone. Here a line has no time of any kind, and whoever reads the log again must
show each line under the same time. So it is shown under the time of the job's creation, and a millisecond later than
the line before: at a pace at which no line is left out for coming too fast.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from airflow_provider_jobapi.exceptions import BrokenContract
from airflow_provider_jobapi.services.answer import Answer
from airflow_provider_jobapi.services.modelarts.wire import Call, content, maybe_number, text


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a log.

    :ivar begin: At which byte of the log it begins.
    :ivar body: Its bytes.
    """

    begin: int
    body: bytes

    def lines_after(self, offset: int, most: int, *, final: bool) -> tuple[tuple[str, ...], int] | None:
        """The lines after an offset, and the offset after them; None where this part begins later.

        :param most: Lines after which the rest is left for later.
        :param final: Whether the log is over, so that a last line that was not ended will not grow.
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
    """Asks for the end of a task's log."""
    return Call("GET", "v2", f"{_path(job, task)}/preview", "the job's log")


def read_preview(answer: Answer) -> Part:
    """The end of the log; the sizes say where it begins.

    Where the text is not of the size that is said, as bytes that are no UTF-8 make it longer, no byte of it has a known
    place. Then the part is the empty one at the log's end, and what is before it is read behind the link.
    """
    body = content(answer)
    shown = text(body.get("content")).encode(errors="surrogatepass")
    size, whole = maybe_number(body.get("current_size")), maybe_number(body.get("full_size"))
    if size is not None and size != len(shown):
        return Part(size if whole is None else whole, b"")
    return Part(0 if whole is None else max(0, whole - len(shown)), shown)


def link(job: str, task: str) -> Call:
    """Asks for a link to a task's whole log; it is good for five minutes."""
    return Call("GET", "v2", f"{_path(job, task)}/url", "the job's log")


def read_link(answer: Answer) -> str:
    """The link, which is a secret while it is good."""
    url = text(content(answer).get("obs_url"))
    if not url.startswith(("https://", "http://")):
        raise BrokenContract("ModelArts sent no link to the job's log; check the connection's host and dialect.")
    return url


def _path(job: str, task: str) -> str:
    return f"/training-jobs/{quote(job, safe='')}/tasks/{quote(task, safe='')}/logs"
