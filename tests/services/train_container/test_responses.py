# SPDX-License-Identifier: Apache-2.0
"""The response at the end of a stdout, in the families of the reference implementation's test."""

from __future__ import annotations

import itertools
import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_jobapi.services.train_container.responses import (
    DEEPEST,
    LARGEST_RESPONSE,
    ResponseProblem,
    StdoutTail,
    find_response,
)

OBJECTS: list[dict[str, Any]] = [
    {},
    {"a": 1},
    {"n": [0, -1, 1.5, 2e3], "yes": True, "no": False, "nothing": None},
    {"": "", "empty": ""},
    {"escaped": 'a "quoted" \\ \\" \n \t é \u2028', "\\": '\\"'},
    {"braces": '} { }} {{ {"a": 1}', "}": "{"},
    {"nested": {"deeper": {"deepest": {}}, "beside": {"x": {"y": 1}}}},
    {"array": [1, [2, [3]], {"in": [{}, {}]}, "}"]},
    {"text": "hello world", "spaces": "  a  b  "},
    {"utf8": "Größe 模型 🚂"},
]
BEFORE = [
    "",
    "\n",
    "loading\n",
    "step {1} of }2{ {\n",
    '{"a": 1}',
    '{"log": "x"}\n{"log": "y"}\n',
    'say "hi {\n',
    "\\",
    '"',
]
AFTER = ["", "\n", "\r\n\r\n", " done", "\n[exit 0] {\n", '"']


@pytest.mark.parametrize("content", OBJECTS)
@pytest.mark.parametrize("form", [{}, {"indent": 2}, {"ensure_ascii": False, "separators": (",", ":")}])
def test_the_families(content: dict[str, Any], form: dict[str, Any]) -> None:
    for before, after in itertools.product(BEFORE, AFTER):
        stdout = (before + json.dumps(content, **form) + after).encode()
        assert find_response(stdout).content == content, (before, after)


def outcome(stdout: bytes) -> dict[str, Any] | str:
    """The content of a response, or the sentence that refuses it."""
    try:
        return find_response(stdout).content
    except ResponseProblem as error:
        return str(error)


def test_crlf_inside() -> None:
    assert find_response(b'{\r\n  "a":\r\n 1\r\n}\r\n').content == {"a": 1}


def test_blanks_in_texts_stay() -> None:
    assert find_response(b'{"a": "hello world\\n"}').content == {"a": "hello world\n"}


@pytest.mark.parametrize(
    ("stdout", "reason", "words"),
    [
        (b"", "NoResponse", "has printed nothing"),
        (b"hello\n", "NoResponse", "no JSON object in its stdout"),
        (b"[1, 2]\n", "NoResponse", "no JSON object in its stdout"),
        (b"}}}", "NoResponse", "closes no object"),
        (b'{"a": 1}}', "NoResponse", "closes no object"),
        (b"{a: 1}", "InvalidResponse", "no JSON object (expecting property name"),
        (b"{'a': 1}", "InvalidResponse", "no JSON object"),
        (b'{"a": "x\ny"}', "InvalidResponse", "invalid control character at character 9 of 12"),
        (b'{"a": NaN}', "InvalidResponse", "has NaN, which JSON does not have"),
        (b'{"a": [-Infinity]}', "InvalidResponse", "has -Infinity"),
        (b'{"a": 1e999}', "InvalidResponse", "the number 1e999, which is too large"),
        (b'{"a": ' + b"9" * 5_000 + b"}", "InvalidResponse", "too many digits"),
        (b'{"a": 1, "b": {"c": 1, "c": 2}}', "InvalidResponse", "has 'c' twice in one object"),
        (b'{"a": "\xff"}', "InvalidResponse", "the byte 0xff at character 8, which is not UTF-8"),
        (b'{"a": "\xc3"}', "InvalidResponse", "the byte 0xc3"),
        (b'{"a": "\xed\xa0\x80"}', "InvalidResponse", "the byte 0xed"),
        (b'{"a": "\\ud800"}', "InvalidResponse", "half a surrogate pair (\\ud800)"),
        (b'{"\\u0000": 1}', "InvalidResponse", "a NUL (\\u0000)"),
        (b'{"a":' * 70 + b"1" + b"}" * 70, "InvalidResponse", f"more than {DEEPEST} objects or arrays"),
        (b'{"a":' + b"[" * 50_000 + b"]" * 50_000 + b"}", "InvalidResponse", f"more than {DEEPEST}"),
        (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, "InvalidResponse", f"more than {DEEPEST}"),
    ],
)
def test_what_is_refused(stdout: bytes, reason: str, words: str) -> None:
    with pytest.raises(ResponseProblem) as caught:
        find_response(stdout)
    assert words in str(caught.value)
    assert str(caught.value).endswith(".")
    assert caught.value.reason == reason


def test_open_braces_before_a_response() -> None:
    assert find_response(b"{{{}").content == {}


def test_as_deep_as_allowed() -> None:
    stdout = b'{"a":' * (DEEPEST - 1) + b"{}" + b"}" * (DEEPEST - 1)
    assert find_response(stdout).content


def test_broken_utf8_before_and_after_is_not_the_response() -> None:
    assert find_response(b'\xff\xfe{"a": "\xc3\xa9"}\xff').content == {"a": "é"}


def test_two_objects() -> None:
    found = find_response(b'{"a": 1}\n {"b": 2}')
    assert found.content == {"b": 2}
    assert found.notes == ("The train's stdout ends with two JSON objects, of which the last one is its response.",)
    assert find_response(b'{bad}{"b": 2}').notes == ()
    assert find_response(b'}{"b": 2}').notes == ()


def test_what_follows_is_noted_or_refused() -> None:
    stdout = b'{"a": 1}\nbye\n'
    assert find_response(stdout).notes == ("3 characters after the train's response were not read.",)
    with pytest.raises(ResponseProblem, match="goes on for 3 characters after its response"):
        find_response(stdout, strict=True)
    assert find_response(b'{"a": 1}\r\n \n', strict=True).notes == ()


def test_a_response_as_large_as_allowed_and_a_larger_one() -> None:
    empty = len(json.dumps({"a": ""}))
    largest = json.dumps({"a": "x" * (LARGEST_RESPONSE - empty)}).encode()
    assert len(largest) == LARGEST_RESPONSE
    assert find_response(b"noise {" * 1_000 + largest).content["a"]
    with pytest.raises(ResponseProblem, match=r"more than 1,048,576 bytes.*write large results into export files"):
        find_response(json.dumps({"a": "x" * LARGEST_RESPONSE}).encode())
    with pytest.raises(ResponseProblem, match="in the last 1,048,576 bytes of its stdout"):
        find_response(b"{}" + b"x" * LARGEST_RESPONSE)


def test_the_tail_keeps_no_more_than_it_needs() -> None:
    tail = StdoutTail(most=10)
    for _ in range(100):
        tail.add(b"0123456789abcde")
        assert len(tail._kept) <= 30
    assert (bytes(tail), tail.size, tail.cut) == (b"56789abcde", 1_500, True)
    assert not StdoutTail([b"0123456789"], most=10).cut


@pytest.mark.parametrize(
    "stdout",
    [
        b"{" * LARGEST_RESPONSE,
        b"{" * LARGEST_RESPONSE + b"}",
        b"}" * LARGEST_RESPONSE,
        b'"' * LARGEST_RESPONSE + b"}",
        b"\\" * LARGEST_RESPONSE + b'"}',
        b'\\"' * (LARGEST_RESPONSE // 2) + b"}",
        b'{"a":[' * 900 + b"0," * 500_000 + b"{}",
        b'{"a":[{},' * 100_000 + b"{}",
    ],
)
def test_no_stdout_takes_long(stdout: bytes) -> None:
    began = time.process_time()  # of this process alone: a busy machine does not count
    outcome(stdout)
    assert time.process_time() - began < 10


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_characters_that_are_split_between_chunks(size: int) -> None:
    stdout = 'é { {"a": "模型 🚂"}\n'.encode()
    tail = StdoutTail(stdout[i : i + size] for i in range(0, len(stdout), size))
    assert find_response(tail).content == {"a": "模型 🚂"}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
PLAIN = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)


@given(
    st.dictionaries(PLAIN, JSON, max_size=4),
    st.text(st.sampled_from('{}"\\:[], a1\n') | st.characters(exclude_categories=["Cs"]), max_size=40),
    st.text(st.characters(exclude_characters="}", exclude_categories=["Cs"]), max_size=20),
    st.booleans(),
)
def test_any_object_after_any_text(content: dict[str, Any], before: str, after: str, ascii_only: bool) -> None:
    text = json.dumps(content, ensure_ascii=ascii_only)
    found = outcome((before + text + after).encode())
    assert found == content or ("NUL" in found and "\\u0000" in json.dumps(content))


def by_trying(text: str) -> dict[str, Any] | None:
    """The rule in the words of the reference: the first '{' from the left whose object ends with the last '}'."""
    end = text.rfind("}") + 1
    for place in (i for i in range(end) if text[i] == "{"):
        try:
            found, its_end = json.JSONDecoder().raw_decode(text, place)
        except ValueError:
            continue
        if its_end == end:
            return dict(found)
    return None


PARTS = ["{", "}", '"', "\\", '\\"', ":", ",", "[", "]", '"a":', '"a":1', "{}", '{"b":"}"}', " ", "x", '"\\\\"']


@settings(max_examples=500)
@given(st.lists(st.sampled_from(PARTS), max_size=14).map("".join))
def test_the_same_as_trying_every_brace(text: str) -> None:
    expected = by_trying(text)
    found = outcome(text.encode())
    assert found == expected or (isinstance(found, str) and (expected is None or "twice" in found))


@given(st.binary(max_size=60) | st.lists(st.sampled_from([b"{", b"}", b'"', b"\xff", b"1", b":"])).map(b"".join))
def test_any_bytes_are_a_response_or_one_sentence(stdout: bytes) -> None:
    found = outcome(stdout)
    assert isinstance(found, dict) or found.endswith(".")
