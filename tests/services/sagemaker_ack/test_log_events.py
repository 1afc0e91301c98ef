# SPDX-License-Identifier: Apache-2.0
"""Positions in the streams of CloudWatch: what is new in an answer, however it comes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_jobapi.services.sagemaker_ack.log_events import (
    KEPT_BYTES,
    KEPT_EVENTS,
    PAGE_EVENTS,
    PositionReader,
    StreamName,
    lines,
)


def event(at: int, text: str = "x") -> dict[str, Any]:
    return {"timestamp": at, "message": text, "ingestionTime": at + 1}


def read(position: Any, log: list[dict[str, Any]]) -> tuple[list[tuple[str, bool]], Any]:
    """Read what a log has from a position on; returns texts and whether they were late, and the next position."""
    reader = PositionReader(position)
    answer = sorted((each for each in log if reader.start is None or each["timestamp"] >= reader.start), key=_time)
    found = [(each.event["message"], each.late) for each in reader.take(answer)]
    return found, json.loads(json.dumps(reader.position()))


def _time(event: dict[str, Any]) -> int:
    return int(event["timestamp"])


def test_events_of_one_time_are_read_once() -> None:
    log = [event(5, "a"), event(5, "b")]
    found, position = read([], log)
    assert (found, position) == ([("a", False), ("b", False)], [[0, 0], [5, 2]])
    log += [event(5, "b"), event(6, "c")]
    found, position = read(position, log)
    assert (found, position) == ([("b", False), ("c", False)], [[0, 0], [5, 3], [6, 1]])
    assert read(position, log) == ([], position)


def test_an_event_that_becomes_visible_late_is_found() -> None:
    log = [event(1, "a"), event(3, "c")]
    _, position = read([], log)
    assert read(position, [*log, event(2, "b")])[0] == [("b", True)]
    assert read(position, [*log, event(1, "a too"), event(1, "also")])[0] == [("a too", True), ("also", True)]
    _, position = read([], [event(at) for at in range(5, 5 + KEPT_EVENTS)])
    assert read(position, [event(1, "b"), *(event(at) for at in range(5, 5 + KEPT_EVENTS))])[0] == [("b", True)]
    many = [event(at) for at in range(5, 6 + KEPT_EVENTS)]
    _, position = read([], many)
    assert read(position, [event(1, "before all that are kept"), *many])[0] == []


def test_a_position_is_small_and_keeps_whole_times() -> None:
    log = [event(1 + number // 2) for number in range(1_000)]
    _, position = read([], log)
    assert sum(count for _, count in position) == KEPT_EVENTS
    assert all(count == 2 for _, count in position)
    many = [event(7) for _ in range(300)]
    assert read([], [event(1), *many])[1] == [[7, 300]]


def test_large_events_are_kept_in_small_numbers() -> None:
    _, position = read([], [event(number, "x" * KEPT_BYTES) for number in range(1, 20)])
    assert position == [[19, 1]]


def test_more_answers_are_asked_for_only_where_there_may_be_more() -> None:
    log = [event(number) for number in range(1, 6)]
    reader = PositionReader([])
    reader.take(log)
    assert reader.more, "there was news"
    _, position = read([], log)
    reader = PositionReader(position)
    reader.take(log)
    assert not reader.more, "all that is known, and nothing else"
    reader = PositionReader(position)
    reader.take(log[:3])
    assert reader.more, "an answer in part"
    reader = PositionReader([])
    reader.take([])
    assert not reader.more
    reader = PositionReader([[1, PAGE_EVENTS]])
    reader.take([event(1)] * PAGE_EVENTS)
    assert reader.more, "a full answer"


@given(
    steps=st.lists(
        st.tuples(st.sampled_from([0, 0, 1, 3]), st.sampled_from([0, 0, 0, 2]), st.booleans()),
        min_size=1,
        max_size=KEPT_EVENTS,
    )
)
def test_a_log_that_is_written_and_read_in_any_order_is_read_once(steps: list[tuple[int, int, bool]]) -> None:
    log, position, seen, now = list[dict[str, Any]](), list[Any](), list[str](), 100
    for number, (later, back, reads) in enumerate(steps):
        now += later
        log.append(event(now - back, str(number)))
        if reads:
            found, position = read(position, log)
            seen += [text for text, _ in found]
    seen += [text for text, _ in read(position, log)[0]]
    assert sorted(seen, key=int) == [str(number) for number in range(len(steps))]


@pytest.mark.parametrize(
    ("name", "title", "instance"),
    [
        ("digits-1/algo-2-1700000000", "algo-2", 2),
        ("digits-1/algo-17-1700000000", "algo-17", 17),
        ("digits-1/of-another-form", "of-another-form", 0),
    ],
)
def test_names_of_streams(name: str, title: str, instance: int) -> None:
    stream = StreamName.of(name)
    assert (stream.title, stream.instance) == (title, instance)


def test_numbers_of_streams_depend_on_their_names_alone() -> None:
    names = [f"j/algo-{instance}-{epoch}" for instance in (1, 2, 3) for epoch in (1_700_000_000, 1_700_000_900)]
    numbers = {
        (name, late): StreamName.of(name).number(3, late=late) for name in (*names, "j/x") for late in (False, True)
    }
    assert len(set(numbers.values())) == len(numbers)
    for (name, _), number in numbers.items():
        assert number % 3 == max(1, StreamName.of(name).instance) - 1
    order = sorted(map(StreamName.of, names), key=lambda each: each.order)
    assert [each.name for each in order] == names


def test_lines_of_events() -> None:
    stream = StreamName.of("j/algo-2-17")
    found = PositionReader([]).take([event(1_500, "a\r\nb\n"), event(1_600, "c\x00d")])
    made = list(lines(found, stream, 2))
    assert [line.text for line in made] == ["[algo-2] a", "[algo-2] b", "[algo-2] c d"]
    assert [line.time.timestamp() for line in made] == [1.5, 1.5, 1.6]
    assert [line.text for line in lines(found, stream, 1)] == ["a", "b", "c d"]


def test_the_numbers_of_streams_that_share_a_millisecond_are_their_own() -> None:
    """Also of late lines, beside those of a stream that began a second later."""
    numbers = [
        StreamName.of(f"job/algo-{instance}-{epoch}").number(3, late=late)
        for instance in (1, 2, 3)
        for epoch in (1_700_000_000, 1_700_000_001, 1_700_000_002)
        for late in (False, True)
    ]
    assert len(set(numbers)) == len(numbers)
