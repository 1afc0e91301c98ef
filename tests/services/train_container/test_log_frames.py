# SPDX-License-Identifier: Apache-2.0
"""Lines of a multiplexed log: each once and in order, wherever a read ended, in the dialects of both engines."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from airflow_provider_jobapi.exceptions import BrokenContract
from airflow_provider_jobapi.services.train_container.log_frames import Lines, Position, frames

START = datetime(2026, 11, 30, 20, 25, 44, tzinfo=UTC)


def frame(stream: int, content: bytes) -> bytes:
    return bytes([stream, 0, 0, 0]) + len(content).to_bytes(4, "big") + content


def entry(seconds: float, text: bytes, *, whole_seconds: bool = False) -> bytes:
    time = START + timedelta(seconds=seconds)
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S") + ("" if whole_seconds else f".{time.microsecond:06d}789") + "Z"
    return stamp.encode() + b" " + text


def texts(body: bytes, *, ended: bool = False) -> list[str]:
    return [line.text for line in Lines(frames([body]), ended=ended)]


def test_the_bytes_of_both_engines() -> None:
    podman = (
        frame(1, b"2026-11-30T20:25:44Z A\n")
        + frame(2, b"2026-11-30T20:25:44Z E\n")
        + frame(1, b"2026-11-30T20:25:44Z \n")
    )
    assert texts(podman) == ["A", "E", ""]
    docker = frame(1, b"2026-11-30T20:26:07.649267230Z A  \n") + frame(1, b"2026-11-30T20:26:07.649267230Z tail")
    assert texts(docker) == ["A  "]
    assert texts(docker, ended=True) == ["A  ", "tail"]
    zone = frame(1, b"2026-11-30T21:25:44+01:00 A\n")
    assert [line.time for line in Lines(frames([zone]), ended=False)] == [START]


def test_a_long_line_is_one_line_also_with_a_line_of_the_other_stream_inside() -> None:
    body = (
        frame(1, entry(0, b"x" * 9))
        + frame(2, entry(0.1, b"E\n"))
        + frame(1, entry(0.2, b"y" * 9))
        + frame(1, entry(0.3, b"z\n"))
    )
    assert texts(body) == ["E", "x" * 9 + "y" * 9 + "z"]


def test_a_line_without_end_takes_no_more_memory_than_is_shown() -> None:
    body = b"".join(frame(1, entry(0, b"x" * 16_384)) for _ in range(100)) + frame(1, entry(0, b"\n"))
    (line,) = Lines(frames([body]), ended=False)
    assert len(line.text) <= 33_000


@pytest.mark.parametrize(
    ("parts", "line"),
    [
        ([b"\r 10%", b"\r 20%", b"\r100%\n"], "100%"),
        ([b" 10%\r", b" 20%\r", b"100%\r", b"\n"], "100%\r"),
        ([b"1\r2\r3\n"], "3"),
        ([b"text\r\n"], "text\r"),
        ([b"x" * 40_000, b"\rend\n"], "end"),
        ([b"\r", b"\n"], "\r"),
    ],
)
def test_a_progress_bar_is_one_line_its_last_state(parts: list[bytes], line: str) -> None:
    assert texts(b"".join(frame(1, entry(0, part)) for part in parts)) == [line]


@given(st.lists(st.integers(1, 40)))
def test_frames_may_be_cut_anywhere(sizes: list[int]) -> None:
    body = frame(1, entry(0, "ü\n".encode())) + frame(2, entry(1, b"two\n")) + frame(1, entry(1, b""))
    chunks, place = [], 0
    for size in sizes:
        chunks.append(body[place : place + size])
        place += size
    chunks.append(body[place:])
    assert [line.text for line in Lines(frames(chunks), ended=False)] == ["ü", "two"]


@pytest.mark.parametrize("body", [b"plain text\n", bytes([1, 0, 0, 0, 255, 255, 255, 255]), frame(1, b"no time\n")])
def test_what_is_no_such_stream_is_a_broken_contract(body: bytes) -> None:
    with pytest.raises(BrokenContract, match=r"^The engine sent .*\.$"):
        texts(body)


@given(
    st.lists(
        st.tuples(st.integers(1, 2), st.integers(0, 3), st.sampled_from(["a\n", "b\n", "part", "\n"])), max_size=30
    ),
    st.lists(st.integers(0, 30), max_size=6),
    st.integers(1, 5),
    st.booleans(),
)
def test_every_line_comes_once_and_in_order_whatever_was_read_before(
    written: list[tuple[int, int, str]], reads: list[int], most: int, whole_seconds: bool
) -> None:
    """Lines of the same time and text, parts of lines, reads at any moment, and reads that end before the log does."""
    milliseconds, moment = 0, []
    for stream, step, text in written:
        milliseconds += step * 333
        moment.append(
            (milliseconds, frame(stream, entry(milliseconds / 1000, text.encode(), whole_seconds=whole_seconds)))
        )
    whole = texts(b"".join(each for _, each in moment), ended=True)

    shown: list[str] = []
    cursor = None
    for there in [*sorted(min(count, len(moment)) for count in reads), *([len(moment)] * 40)]:
        position = Position(cursor)
        since = (position.since - int(START.timestamp())) * 1000
        body = b"".join(each for at, each in moment[:there] if at >= since)
        ended = there == len(moment)
        for count, line in enumerate(position.new(Lines(frames([body]), ended=ended)), 1):
            shown.append(line.text)
            if count == most:
                break
        cursor = position.cursor()
    note(f"{shown} {whole} {written} {reads} {most}")
    assert shown == whole
