# SPDX-License-Identifier: Apache-2.0
"""Hide secrets in the lines of a job and in everything that is made of them."""

from __future__ import annotations

import json
import shlex
from base64 import b64encode
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:
    from airflow_provider_jobapi.training.logs import LogChunk
    from airflow_provider_jobapi.training.status import JobStatus

HIDDEN = "***"
"""What stands in place of a secret, as in Airflow."""

SHORTEST = 5
"""Characters of a line of a secret that is hidden by itself: Airflow's default for a secret."""

_NEVER_HIDDEN = "airflow"
"""What Airflow never hides."""


class Masker:
    """Hides secrets in texts. Equal secrets hide the same characters in every process.

    A secret is found as it is, and as JSON, Python, a shell, a URL and base64 write it. A secret of several lines is
    also found line by line, since each line of a log is shown by itself.

    :param secrets: The secrets.
    :param withhold: Whether every text is hidden as a whole, because the secrets are not known.
    """

    def __init__(self, secrets: Iterable[str] = (), *, withhold: bool = False) -> None:
        self.secrets = tuple(sorted(set(secrets)))
        self.withhold = withhold
        self._forms = sorted({form for secret in self.secrets for form in forms(secret)})

    def text(self, text: str) -> str:
        """Return a text with its secrets replaced by ``***``."""
        if self.withhold:
            return HIDDEN
        spans = sorted(span for form in self._forms if form in text for span in _spans(form, text))
        if not spans:
            return text
        shown, end = [], 0
        for begin, after in _joined(spans):
            shown += [text[end:begin], HIDDEN]
            end = after
        return "".join([*shown, text[end:]])

    def value(self, value: Any) -> Any:
        """Return JSON with the secrets in its texts hidden."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.value(name): self.value(each) for name, each in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(each) for each in value]
        return value

    def chunk(self, chunk: LogChunk) -> LogChunk:
        """Return what was read of a log with the secrets in its lines hidden."""
        if not self._forms and not self.withhold:
            return chunk
        return replace(chunk, lines=tuple(replace(line, text=self.text(line.text)) for line in chunk.lines))

    def status(self, status: JobStatus) -> JobStatus:
        """Return a status with the secrets in its message hidden."""
        return status.model_copy(update={"message": self.text(status.message)}) if status.message else status


def occurring(secrets: Iterable[str], texts: Iterable[str]) -> set[str]:
    """Return the secrets of which the whole or a line occurs in one of the texts in any of its forms.

    Backslashes do not count: a text may be JSON within JSON within source code.
    """
    bare = [text.replace("\\", "") for text in texts]

    def is_in(secret: str) -> bool:
        sought = {form.replace("\\", "") for form in forms(secret)} - {""}
        return any(form in text for text in bare for form in sought)

    return {secret for secret in secrets if is_in(secret)}


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
    yield shlex.quote(text).strip("'") or text
    content = text.encode("utf-8", "surrogatepass")
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
