# SPDX-License-Identifier: Apache-2.0
"""Find a train's response: the JSON object at the end of its stdout. Pure.

The specification has the response as "a suffix of the container's stdout". So anything may stand before it, valid JSON
too; behind it the reference implementation (``maybeTrailingJson`` of kotlinext-string) tolerates text without ``}``.
A JSON object that ends with the last ``}`` can begin at one place only: read backwards from there, braces outside of
strings are balanced at its beginning for the first time. So one pass finds it, whatever a train has printed before.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from airflow_provider_jobapi.exceptions import BrokenContract

LARGEST_RESPONSE = 1024**2
"""Bytes at the end of a stdout in which the response must be."""

DEEPEST = 64
"""Objects and arrays inside of each other."""

NO_RESPONSE = "NoResponse"
INVALID_RESPONSE = "InvalidResponse"

_MARKS = re.compile(r'["{}]')
_ENDS = "a command of the Train API prints one JSON object at its end"


class ResponseProblem(BrokenContract):
    """A train's response cannot be understood.

    :param message: One sentence.
    :ivar reason: :data:`NO_RESPONSE` or :data:`INVALID_RESPONSE`, for the status of the job.
    """

    def __init__(self, message: str, reason: str = INVALID_RESPONSE) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Response:
    """A train's response as JSON.

    :ivar content: The object.
    :ivar notes: Sentences for the log about what stands around it.
    """

    content: dict[str, Any]
    notes: tuple[str, ...] = ()


class StdoutTail:
    """The end of a stdout, of which as many bytes are kept as a response may have.

    :param most: Bytes.
    :ivar size: Bytes that were added.
    """

    def __init__(self, chunks: Iterable[bytes] = (), most: int = LARGEST_RESPONSE) -> None:
        self.most, self.size = most, 0
        self._kept = bytearray()
        for chunk in chunks:
            self.add(chunk)

    def add(self, chunk: bytes) -> None:
        """Add the next bytes. A character may be split between two chunks."""
        self.size += len(chunk)
        self._kept += chunk[-self.most :]
        if len(self._kept) > 2 * self.most:
            del self._kept[: -self.most]

    @property
    def cut(self) -> bool:
        """Whether there were more bytes than are kept."""
        return self.size > self.most

    def __bytes__(self) -> bytes:
        """Return the last bytes."""
        return bytes(self._kept[-self.most :])


def find_response(stdout: StdoutTail | bytes, *, strict: bool = False) -> Response:
    """Find the response at the end of a stdout.

    :param stdout: Without the stderr, with which the engine of a container with a terminal would mix it.
    :param strict: Whether nothing but blanks may follow the response.
    :raises ResponseProblem: when there is none, or it is no JSON object.
    """
    tail = stdout if isinstance(stdout, StdoutTail) else StdoutTail([stdout])
    text = bytes(tail).decode(errors="surrogateescape")
    end = text.rfind("}") + 1
    if not end:
        raise _none(tail)
    start = _start(text, end)
    if start is None:
        if tail.cut:
            raise ResponseProblem(
                f"The train's response has more than {tail.most:,} bytes, or its stdout ends with a '}}' that closes "
                "no object: print a smaller one, and write large results into export files."
            )
        raise ResponseProblem(f"The train's stdout ends with a '}}' that closes no object: {_ENDS}.", NO_RESPONSE)
    rest = text[end:].strip()
    if rest and strict:
        raise ResponseProblem(
            f"The train's stdout goes on for {len(rest):,} characters after its response, which the strict mode does "
            "not allow: print the response last."
        )
    content = parse(text[start:end])
    return Response(content, tuple(_notes(text, start, rest)))


def _none(tail: StdoutTail) -> ResponseProblem:
    where = f"in the last {tail.most:,} bytes of its stdout" if tail.cut else "in its stdout"
    said = f"The train has printed no response: there is no JSON object {where}, and {_ENDS}."
    return ResponseProblem(said if tail.size else f"The train has printed nothing, and {_ENDS}.", NO_RESPONSE)


def _start(text: str, end: int) -> int | None:
    """Return where the object that ends before ``end`` begins; None where it does not begin in the text."""
    depth, in_string = 0, False
    for place in reversed([mark.start() for mark in _MARKS.finditer(text, 0, end)]):
        mark = text[place]
        if mark == '"':
            in_string = not in_string or text[place - 1] == "\\"  # a quote inside of a string is escaped
        elif in_string:
            continue
        elif mark == "}":
            depth += 1
        else:
            depth -= 1
            if not depth:
                return place
    return None


def _notes(text: str, start: int, rest: str) -> Iterator[str]:
    if rest:
        yield f"{len(rest):,} characters after the train's response were not read."
    before = text[:start].rstrip()
    if before.endswith("}") and (first := _start(before, len(before))) is not None:
        try:
            parse(before[first:])
        except ResponseProblem:
            return
        yield "The train's stdout ends with two JSON objects, of which the last one is its response."


def parse(text: str) -> dict[str, Any]:
    """Parse the text of a response: JSON as RFC 8259 has it, each name once, in UTF-8.

    :raises ResponseProblem: naming what is wrong and where.
    """
    if broken := re.search(r"[\udc80-\udcff]", text):
        raise ResponseProblem(
            f"The train's response has the byte 0x{ord(broken[0]) - 0xDC00:x} at character {broken.start() + 1:,}, "
            "which is not UTF-8: print it as UTF-8."
        )
    try:
        content = json.loads(text, object_pairs_hook=_object, parse_constant=_constant, parse_float=_float)
    except json.JSONDecodeError as error:
        raise ResponseProblem(
            f"The train's stdout ends with {{…}}, which is no JSON object ({error.msg.lower().removesuffix(' at')} at "
            f"character {error.pos + 1:,} of {len(text):,}): {_ENDS}."
        ) from None
    except RecursionError:
        raise _deep() from None
    except ValueError:  # an integer of more than 4,300 digits
        raise ResponseProblem("The train's response has a number of too many digits: give it as a text.") from None
    if not isinstance(content, dict):
        raise ResponseProblem(f"The train's response is no JSON object: {_ENDS}.")
    _check_values(content)
    return content


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        seen = set[str]()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ResponseProblem(f"The train's response has {twice[:80]!a} twice in one object: name it once.")
    return content


def _constant(word: str) -> Any:
    raise ResponseProblem(f"The train's response has {word}, which JSON does not have: print null or a text.")


def _float(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ResponseProblem(f"The train's response has the number {digits[:80]}, which is too large.")
    return number


def _deep() -> ResponseProblem:
    return ResponseProblem(
        f"The train's response has more than {DEEPEST} objects or arrays inside of each other: make it flatter."
    )


def _check_values(content: dict[str, Any]) -> None:
    """Refuse depth, and characters that neither UTF-8 nor a database takes."""
    level: list[Any] = [content]
    for _ in range(DEEPEST):
        for text in _texts(level):
            if found := re.search("[\0\ud800-\udfff]", text):
                what = "a NUL" if found[0] == "\0" else "half a surrogate pair"
                raise ResponseProblem(
                    f"The train's response has {what} (\\u{ord(found[0]):04x}) in a text: leave it out."
                )
        level = [inner for each in level for inner in (each.values() if isinstance(each, dict) else each)]
        level = [each for each in level if isinstance(each, dict | list)]
        if not level:
            return
    raise _deep()


def _texts(level: list[Any]) -> Iterator[str]:
    for each in level:
        if isinstance(each, dict):
            yield from each
        for inner in each.values() if isinstance(each, dict) else each:
            if isinstance(inner, str):
                yield inner
