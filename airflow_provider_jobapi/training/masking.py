# SPDX-License-Identifier: Apache-2.0
"""Hide secrets in the lines of a job and in everything that is made of them."""

from __future__ import annotations

import html
import json
import re
import shlex
from base64 import b64encode
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:
    from airflow_provider_jobapi.training.logs import LogChunk
    from airflow_provider_jobapi.training.status import JobStatus

Chunk = TypeVar("Chunk", bound="LogChunk")

HIDDEN = "***"
"""What stands in place of a secret, as in Airflow."""

SHORTEST = 5
"""Characters of a line of a secret that is hidden by itself: Airflow's default for a secret."""

_NEVER_HIDDEN = "airflow"
"""What Airflow never hides."""

_CUT = "…"
"""The last character of a line that the service has cut, perhaps within a secret."""

_CUT_BYTES = 16_000
"""Bytes of a line from which on its end may be cut."""

_SHELL_QUOTE = "'\"'\"'"
"""How :func:`shlex.quote` writes a single quote."""

_BEFORE_AT = re.compile(r"(?<!\S)\S*@")
"""Begins at the beginning of a word only: begun at each of its characters, a long one would take hours."""
_SCHEME = re.compile(r":?//?")
_QUERY = re.compile(r"([?&][^\s?=&#]+=)[^\s&#]+")

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""What a log line never contains, though a secret may."""


def without_credentials(text: str) -> str:
    """Hide users, passwords and the values of queries in the addresses of a text, whatever the masker knows."""
    return _QUERY.sub(rf"\1{HIDDEN}", _BEFORE_AT.sub(_without_user, text))


def _without_user(found: re.Match[str]) -> str:
    """Hide all up to the last ``@``: a password may contain ``/`` and ``@``. The ``@`` of a version has no user."""
    word = found[0][:-1]
    scheme = _SCHEME.search(word)
    begin = scheme.end() if scheme else max(word.rfind(mark) for mark in "='\"(;") + 1
    user, _, rest = word[begin:].partition("@")
    if rest and scheme is not None and not {"/", ":"} & {*user}:  # the last @ is that of a version
        return f"{word[:begin]}{HIDDEN}@{rest}@"
    first, slash, _ = word[begin:].partition("/")
    is_user = ":" in first or (scheme is not None and not slash)
    return f"{word[:begin]}{HIDDEN}@" if is_user else found[0]


class Masker:
    """Hides secrets in texts. Equal secrets hide the same characters in every process.

    A secret is found as it is, and as JSON, Python, a shell, HTML, a URL and base64 write it, also where one of them
    quotes another. A secret of several lines is also found line by line, since each line of a log is shown by itself,
    and the beginning of a secret at the end of a line that was cut.

    :param secrets: The secrets.
    :param withhold: Whether every text is hidden as a whole, because the secrets are not known.
    """

    def __init__(self, secrets: Iterable[str] = (), *, withhold: bool = False) -> None:
        self.secrets = tuple(sorted(set(secrets)))
        self.withhold = withhold
        self._forms = sorted({form for secret in self.secrets for form in forms(secret)})
        self._bare = sorted({bare for form in self._forms if len(bare := _bare(form)) >= SHORTEST})

    def text(self, text: str) -> str:
        """Return a text with its secrets replaced by ``***``."""
        if self.withhold:
            return HIDDEN
        spans = sorted([*self._found(text), *self._cut(text)])
        if not spans:
            return text
        shown, end = [], 0
        for begin, after in _joined(spans):
            shown += [text[end:begin], HIDDEN]
            end = after
        return "".join([*shown, text[end:]])

    def _found(self, text: str) -> Iterator[tuple[int, int]]:
        for form in self._forms:
            if form in text:
                yield from _spans(form, text)
        if "\\" in text or _SHELL_QUOTE in text:
            bare = _bare(text)
            for form in self._bare:
                if form in bare:  # hundreds of patterns would take milliseconds a line
                    yield from (found.span() for found in _escaped(form).finditer(text))

    def _cut(self, text: str) -> Iterator[tuple[int, int]]:
        if not text.endswith(_CUT) or 4 * len(text) < _CUT_BYTES or len(text.encode()) < _CUT_BYTES:
            return
        end = len(text) - len(_CUT)
        for form in self._forms:
            yield from ((end - size, end) for size in range(1, len(form)) if text.endswith(form[:size], 0, end))

    def value(self, value: Any) -> Any:
        """Return JSON with the secrets in its texts hidden."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.value(name): self.value(each) for name, each in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(each) for each in value]
        return value

    def chunk(self, chunk: Chunk) -> Chunk:
        """Return what was read of a log or of the scalars with the secrets in its lines hidden."""
        if not self._forms and not self.withhold:
            return chunk
        return replace(chunk, lines=tuple(replace(line, text=self.text(line.text)) for line in chunk.lines))

    def status(self, status: JobStatus) -> JobStatus:
        """Return a status with the secrets in its name and message hidden."""
        hidden = {"message": self.text(status.message)} if status.message else {}
        if not self.withhold:  # else nothing is known of the name, and the errors need it
            hidden["name"] = self.text(status.name)
        return status.model_copy(update=hidden)


def occurring(secrets: Iterable[str], texts: Iterable[str]) -> set[str]:
    """Return the secrets of which the whole or a line occurs in one of the texts in any of its forms.

    Backslashes do not count: a text may be JSON within JSON within source code.
    """
    left = {secret: {_bare(form) for form in forms(secret)} - {""} for secret in secrets}
    found: set[str] = set()
    for text in texts:  # one at a time: together they may be larger than the memory
        if not left:
            break
        bare = _bare(text)
        these = {secret for secret, sought in left.items() if any(form in bare for form in sought)}
        found |= these
        left = {secret: sought for secret, sought in left.items() if secret not in these}
    return found


def forms(secret: str) -> set[str]:
    """Return every spelling of a secret that is hidden."""
    lines = {line.strip() for line in secret.splitlines()}
    parts = {secret} | {line for line in lines if len(line) >= SHORTEST and line.lower() != _NEVER_HIDDEN}
    return {form for part in parts if part for form in _spellings(part)}


def _spellings(text: str) -> Iterator[str]:
    yield text
    yield json.dumps(text)[1:-1]
    yield json.dumps(json.dumps(text)[1:-1])[1:-1]
    yield json.dumps(text, ensure_ascii=False)[1:-1]
    yield repr(text)[1:-1]
    yield ascii(text)[1:-1]
    yield html.escape(text)
    yield html.escape(text, quote=False)
    if len(shown := _CONTROL.sub("", text)) >= SHORTEST:
        yield shown
    yield shlex.quote(text).strip("'") or text
    content = text.encode("utf-8", "surrogatepass")
    yield repr(content)[2:-1]
    yield quote(content)
    yield quote(content, safe="")
    yield quote_plus(content)
    yield from _base64(content)


def _base64(content: bytes) -> Iterator[str]:
    """The characters that a text adds to the base64 of a longer one, wherever in it the text begins."""
    for before, begin in ((0, 0), (1, 2), (2, 3)):  # bytes before it, and the characters that depend on them
        length = (before + len(content)) * 8 // 6  # of the characters that do not depend on what follows
        encoded = b64encode(bytes(before) + content).decode()[begin:length]
        if len(encoded) > SHORTEST:
            yield encoded
            yield encoded.replace("+", "-").replace("/", "_")


def _bare(text: str) -> str:
    return text.replace("\\", "").replace(_SHELL_QUOTE, "'")


@lru_cache(1_000)
def _escaped(form: str) -> re.Pattern[str]:
    """A pattern that finds a form with any number of backslashes: JSON within Python within a shell doubles them."""
    quoted = f"(?:{_SHELL_QUOTE}|')"
    return re.compile(r"\\*".join(quoted if each == "'" else re.escape(each) for each in form))


def _spans(form: str, text: str) -> Iterator[tuple[int, int]]:
    begin = text.find(form)
    while begin >= 0:
        yield begin, begin + len(form)
        begin = text.find(form, begin + 1)


def _joined(spans: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Join what overlaps: hiding only the first of two secrets would show the rest of the second."""
    first, last = -1, -1
    for begin, end in spans:
        if begin < last:
            last = max(last, end)
            continue
        if last >= 0:
            yield first, last
        first, last = begin, end
    yield first, last
