# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_jobapi.exceptions import BrokenContract
from airflow_provider_jobapi.training.logs import LogLine, Thinning, Timeline, parse_records
from tests.harness.records import format_record

START = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
TEXTS = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\n\r\0"), max_size=50)
MOMENTS = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


@given(st.lists(st.tuples(MOMENTS, TEXTS), max_size=20))
def test_records_come_back_as_they_were_written(lines):
    body = b"".join(format_record(time, text) for time, text in lines)
    assert [(line.time, line.text) for line in parse_records(body)] == lines


def test_a_record_is_a_time_a_space_and_the_text():
    assert format_record(START, " loss: 0.5 ") == b"2026-01-02T03:04:05.678901Z  loss: 0.5 \n"


@pytest.mark.parametrize(
    "body", [b"x\n", b"2026-01-02T03:04:05.678901Z cut", b"\n", b"2026-01-02T03:04:05.678901  naive\n"]
)
def test_what_is_no_record_is_refused(body):
    with pytest.raises(BrokenContract):
        parse_records(body)


@given(
    st.lists(st.timedeltas(timedelta(hours=-1), timedelta(hours=1)), max_size=60),
    st.timedeltas(timedelta(hours=-2), timedelta(hours=2)),
)
def test_shown_times_are_whole_distinct_rising_milliseconds_from_the_floor_on(offsets, skew):
    timeline = Timeline(skew, START)
    shown = [timeline.place(START + offset) for offset in offsets]
    assert all(moment.microsecond % 1000 == 0 for moment in shown)
    assert shown == sorted(set(shown))
    assert all(moment >= START - timedelta(milliseconds=1) for moment in shown)


@given(st.lists(MOMENTS, max_size=60), st.timedeltas(timedelta(hours=-2), timedelta(hours=2)))
def test_a_replay_gives_the_same_times(moments, skew):
    first, second = Timeline(skew, START), Timeline(skew, START)
    assert [first.place(moment) for moment in moments] == [second.place(moment) for moment in moments]


@given(st.lists(st.tuples(st.integers(0, 2), st.timedeltas(timedelta(), timedelta(hours=1))), max_size=60))
def test_lines_of_several_logs_have_the_same_times_in_whichever_order_they_come(lines):
    lines = [(stream, START + time) for stream, time in lines]
    alone = {}
    for one in range(3):
        timeline = Timeline(timedelta(), START)
        alone[one] = [timeline.place(time, stream, 3) for stream, time in lines if stream == one]
    together, mixed = Timeline(timedelta(), START), {0: [], 1: [], 2: []}
    for stream, time in lines:
        mixed[stream].append(together.place(time, stream, 3))
    assert mixed == alone
    every = [moment for moments in mixed.values() for moment in moments]
    assert len(set(every)) == len(every)
    assert all(moments == sorted(moments) for moments in mixed.values())


def test_one_log_does_not_thin_another():
    lines = burst(100)
    busy = [replace(line, stream=0, streams=2) for line in lines]
    calm = [replace(line, stream=1, streams=2) for line in lines[:5]]
    thinning, alone = Thinning(rate=10, burst=20), Thinning(rate=10, burst=20)
    together = [*thinning.feed([*busy, *calm]), *thinning.end()]
    assert [line for line in together if line.stream == 0] == [*alone.feed(busy), *alone.end()]
    assert [line for line in together if line.stream == 1] == calm
    assert sum(line.stream == 0 for line in together) == 11


def test_the_clock_of_the_service_is_set_right():
    timeline = Timeline(timedelta(hours=1), START)
    assert timeline.place(START).replace(microsecond=0) == (START + timedelta(hours=1)).replace(microsecond=0)


def burst(count: int, step: timedelta = timedelta(0)) -> list[LogLine]:
    return [LogLine(START + number * step, str(number)) for number in range(count)]


def test_a_log_of_a_human_pace_is_shown_whole():
    thinning = Thinning(rate=10, burst=20)
    lines = burst(500, timedelta(seconds=0.1))
    assert [*thinning.feed(lines), *thinning.end()] == lines


def test_a_runaway_burst_is_cut_and_told():
    thinning = Thinning(rate=10, burst=20)
    shown = [*thinning.feed(burst(100)), *thinning.end()]
    assert [line.text for line in shown[:20]] == [str(number) for number in range(20)]
    assert shown[20].text.startswith("… 80 lines are not shown here")
    assert len(shown) == 21


def test_what_was_left_out_is_told_before_the_next_line_that_is_shown():
    thinning = Thinning(rate=10, burst=20)
    late = LogLine(START + timedelta(seconds=60), "late")
    shown = list(thinning.feed([*burst(30), late]))
    assert shown[-2].text.startswith("… 10 lines")
    assert shown[-1] == late


@given(st.lists(st.integers(0, 400), max_size=300), st.lists(st.integers(0, 300), max_size=8))
def test_thinning_depends_on_the_stream_alone(gaps, cuts):
    time, lines = START, []
    for gap in gaps:
        time += timedelta(milliseconds=gap)
        lines.append(LogLine(time, str(len(lines))))
    whole, pieces = Thinning(rate=5, burst=10), Thinning(rate=5, burst=10)
    edges = sorted({0, len(lines), *(cut for cut in cuts if cut < len(lines))})
    in_pieces = [line for start, end in itertools.pairwise(edges) for line in pieces.feed(lines[start:end])]
    assert in_pieces == list(whole.feed(lines))
