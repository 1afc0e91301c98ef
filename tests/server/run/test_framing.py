# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import ast
import itertools
import os
import re
import sys
import time
import unicodedata
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_provider_jobapi.server.run import supervisor
from airflow_provider_jobapi.server.run.supervisor.framing import RECORD_LIMIT, TEXT_LIMIT, Framer, clean, stamp
from airflow_provider_jobapi.training import checkpoint_formats, checkpoint_rules, logs
from tests.harness.records import format_record

PLAIN = st.text(st.characters(blacklist_categories=["Cs", "Cc"]), max_size=60)
TOKENS = [b"\n", b"\r", b"\r\n", b"\x1b", b"\x1b[", b"\x1b[A", b"\x1b[2K", b"\x1b[31m", b"\x1b]0;t\x07", b"\0", b"\x08",
          b"a", b" ", b"\xe2\x82\xac", b"\xe2\x82", b"\xff", b"\x9b", b"7"]  # fmt: skip
NOISE = st.one_of(st.binary(max_size=200), st.lists(st.sampled_from(TOKENS), max_size=60).map(b"".join))


def lines_of(data: bytes, *, cuts: Sequence[int] = (), now: float = 0.0) -> list[bytes]:
    framer = Framer()
    lines: list[bytes] = []
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, end in itertools.pairwise(edges):
        lines += framer.feed(data[start:end], now)
    return lines + framer.end()


@given(st.lists(PLAIN, max_size=30), st.lists(st.integers(0, 10_000), max_size=10))
def test_plain_lines_come_out_exactly(texts, cuts):
    data = "".join(text + "\n" for text in texts).encode()
    assert lines_of(data, cuts=cuts) == [text.encode() for text in texts]


@given(NOISE, st.lists(st.integers(0, 10_000), max_size=20))
@example(b"\x1b[12A", [1, 2, 3, 4])
@example(b"10%\x1b[A\n20%\x1b[A\n", [4, 5, 6])
def test_the_lines_do_not_depend_on_how_the_bytes_arrive(data, cuts):
    whole = lines_of(data)
    assert lines_of(data, cuts=cuts) == whole
    assert lines_of(data, cuts=list(range(len(data)))) == whole


@given(NOISE)
def test_no_line_has_control_characters(data):
    for line in lines_of(data):
        assert len(line) <= TEXT_LIMIT
        text = line.decode("utf-8")
        bare = re.sub(r"\x1b\[[0-9;:]*m", "", text)
        assert not [letter for letter in bare if unicodedata.category(letter) == "Cc" and letter != "\t"]


def test_the_writing_and_the_reading_side_agree():
    assert RECORD_LIMIT == logs.RECORD_LIMIT
    moment = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    record = stamp(moment.timestamp()) + b" text\n"
    assert record == format_record(moment, "text")


@pytest.mark.parametrize("length", [TEXT_LIMIT - 1, TEXT_LIMIT, TEXT_LIMIT + 1, 4 * RECORD_LIMIT, 4 * RECORD_LIMIT + 1])
@pytest.mark.parametrize("letter", ["x", "é", "€", "𝄞"])
def test_a_line_is_cut_only_where_it_is_too_long(letter, length):
    text = letter * length
    (line,) = lines_of(text.encode() + b"\n")
    if len(text.encode()) <= TEXT_LIMIT:
        assert line == text.encode()
    else:
        assert line.endswith("…".encode())
        assert TEXT_LIMIT - 4 < len(line) <= TEXT_LIMIT
        assert text.startswith(line.decode()[:-1])


def test_fifty_megabytes_without_a_newline_are_one_cut_line_and_little_memory():
    framer = Framer()
    begin = time.monotonic()
    for _ in range(50):
        assert framer.feed(b"x" * 2**20, 0.0) == []
    (line,) = framer.feed(b"\nnext", 0.0)
    assert line.endswith("x…".encode())
    assert framer.end() == [b"next"]
    assert sum(map(len, framer._parts)) == 0
    assert time.monotonic() - begin < 10


def test_invalid_utf8_becomes_the_replacement_character_and_control_characters_go():
    assert lines_of(b"a\xff\xfeb\0c\x07d\x08\te\n") == [
        "a\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}bcd\te".encode()
    ]


@pytest.mark.parametrize(
    ("given_text", "kept"),
    [
        ("\x1b[1;31mred\x1b[0m", "\x1b[1;31mred\x1b[0m"),
        ("\x1b[38:5:1mred\x1b[m", "\x1b[38:5:1mred\x1b[m"),
        ("\x1b[2Kx\x1b[10;20Hy\x1b[?25lz", "xyz"),
        ("\x1b]0;title\x07x\x1b]8;;http://a\x1b\\link", "xlink"),
        ("\x1b]0;never ended", "0;never ended"),
        ("\x1b(Bx\x1b7y\x1b=z\x1b", "xyz"),
        ("\x9b31mx", "31mx"),
    ],
)
def test_colours_stay_and_other_escape_sequences_go(given_text, kept):
    assert lines_of(given_text.encode() + b"\n") == [kept.encode()]


def test_a_colour_that_the_cut_would_split_goes_as_a_whole():
    assert b"\x1b" not in clean("x" * (TEXT_LIMIT - 6) + "\x1b[38;5;1mred")


def test_windows_newlines_and_empty_lines():
    assert lines_of(b"a\r\na\r\n\r\n\nb\r\n") == [b"a", b"a", b"", b"", b"b"]


def test_a_last_line_without_a_newline_is_a_line():
    assert lines_of(b"a\nb") == [b"a", b"b"]
    assert lines_of(b"a\n") == [b"a"]
    assert lines_of("a€".encode()[:-1]) == ["a\N{REPLACEMENT CHARACTER}".encode()]


def bar(style: str, count: int) -> list[bytes]:
    form = {"tqdm": "\r{}/{}   ", "print": "{}/{}  \r"}[style]
    return [form.format(number, count).encode() for number in range(1, count + 1)]


@pytest.mark.parametrize("style", ["tqdm", "print"])
@pytest.mark.parametrize("end", [b"", b"\n", b"\ndone\n"])
def test_a_fast_progress_bar_is_its_first_and_its_last_state(style, end):
    framer = Framer()
    lines: list[bytes] = []
    for number, piece in enumerate(bar(style, 5000)):
        lines += framer.feed(piece, 100 + number / 10_000)
    lines += framer.feed(end, 100.5) + framer.end()
    assert lines == [b"1/5000", b"5000/5000"] + ([b"done"] if b"done" in end else [])


def test_a_slow_progress_bar_shows_one_state_a_second():
    framer = Framer()
    lines: list[bytes] = []
    for number, piece in enumerate(bar("tqdm", 100)):
        lines += framer.feed(piece, number / 10)
    lines += framer.feed(b"\n", 10.0)
    assert 10 <= len(lines) <= 12
    assert lines[-1] == b"100/100"


def test_a_bar_that_stands_still_is_shown_after_a_second_and_only_once():
    framer = Framer()
    assert framer.feed(b"\r1%", 0.0) == []
    assert framer.tick(0.0) == [b"1%"]
    assert framer.feed(b"\r2%", 0.1) == []
    assert framer.tick(0.9) == []
    assert framer.tick(1.1) == [b"2%"]
    assert framer.tick(5.0) == []
    assert framer.feed(b"\n", 6.0) == []
    assert framer.feed(b"\r2%\n", 7.0) == [b"2%"]


def test_a_line_that_is_no_bar_waits_for_its_end():
    framer = Framer()
    assert framer.feed(b"training ...", 0.0) + framer.tick(100.0) == []
    assert framer.feed(b" done\n", 101.0) == [b"training ... done"]


def test_a_bar_that_was_wiped_away_leaves_the_line_that_came_after_it():
    assert lines_of(b"\r50%\r      \rsaved\n") == [b"50%", b"saved"]


def test_a_line_printed_over_a_finished_state_loses_neither():
    assert lines_of(b"1%\r99%\rdone\n")[-2:] == [b"99%", b"done"]


def test_nested_bars_of_tqdm_are_paced_too():
    """tqdm moves down with a newline, prints the inner bar, and moves up again."""
    framer = Framer()
    lines = framer.feed(b"\router 0/1", 0.0)
    for number in range(1000):
        lines += framer.feed(f"\n\rinner {number}\x1b[A".encode(), number / 1000)
    lines += framer.feed(b"\router 1/1\n", 1.0) + framer.end()
    assert len(lines) < 10
    assert b"inner 999" in lines
    assert b"outer 1/1" in lines


def test_a_line_printed_after_a_move_upwards_is_a_line():
    assert lines_of(b"a\n\x1b[1A\x1b[2Kb\nc\n") == [b"a", b"b", b"c"]


def test_the_time_of_a_record_is_in_microseconds():
    assert stamp(0) == b"1970-01-01T00:00:00.000000Z"
    assert stamp(1_790_000_000.5) == b"2026-09-21T14:13:20.500000Z"


BESIDE = sorted(Path(supervisor.__file__).parent.glob("*.py"))
SHARED = [Path(checkpoint_formats.__file__), Path(checkpoint_rules.__file__)]
"""What the supervisor loads by its path."""


@pytest.mark.parametrize("file", [*BESIDE, *SHARED], ids=lambda file: file.name)
def test_the_supervisor_needs_the_standard_library_of_python_3_8_only(file):
    tree = ast.parse(file.read_text(), feature_version=(3, 8))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            imported |= {f"{node.module}.{alias.name}" for alias in node.names}
    known = {*sys.stdlib_module_names, *(path.stem for path in BESIDE)}
    own = ("airflow_provider_jobapi.server.run.supervisor", checkpoint_formats.__name__, checkpoint_rules.__name__)
    assert not [name for name in imported if name.split(".")[0] not in known and not name.startswith(own)]
    assert os.access(file, os.R_OK)
