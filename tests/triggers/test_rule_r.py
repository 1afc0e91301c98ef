# SPDX-License-Identifier: Apache-2.0
"""Each training line is shown once, in order: random logs, cuts and skews, through Airflow's own reader."""

from __future__ import annotations

import asyncio
import io
import json
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from airflow.utils.log.file_task_handler import _interleave_logs, _stream_lines_by_chunk
from hypothesis import example, given, settings
from hypothesis import strategies as st

from airflow_provider_jobapi.training.logs import LogChunk, LogLine
from airflow_provider_jobapi.training.status import JobState
from airflow_provider_jobapi.triggers.pace import Pace
from tests.harness.scripted import START, Recorder, ScriptedFollower, ScriptedTrigger

# Few texts, so that neighbours are equal; many lines of one instant; some whose clock went back.
TEXTS = st.sampled_from(["", "loss: 0.5", "loss: 0.4", "epoch 1/2 100%"])
STEPS = st.one_of(st.just(0), st.integers(0, 900), st.integers(0, 5_000_000), st.integers(-2_000_000, 0))
LOGS = st.lists(st.tuples(STEPS, TEXTS), max_size=200)


class Died(BaseException):
    """The triggerer was killed."""


class CutRecorder(Recorder):
    """A log file that ends where its triggerer was killed."""

    def __init__(self, cut: int | None) -> None:
        super().__init__()
        self._cut = cut

    def info(self, event: str, **fields: Any) -> None:
        if len(self.records) == self._cut:
            raise Died
        super().info(event, **fields)


@pytest.fixture(autouse=True, scope="module")
def unpaced():
    """The pace is another test's."""
    pace, ScriptedTrigger.pace = ScriptedTrigger.pace, Pace(rate=10**9)
    yield
    ScriptedTrigger.pace = pace


def log_of(steps: list[tuple[int, str]], begin: datetime) -> list[LogLine]:
    """A job's log."""
    lines, moment = [], begin
    for microseconds, text in steps:
        moment += timedelta(microseconds=microseconds)
        lines.append(LogLine(moment, text))
    return lines


def file_of_trigger(lines: list[LogLine], sizes: list[int], skew: float, cut: int | None = None) -> list[str]:
    """The log file that a trigger leaves which reads this log in chunks of these sizes."""
    chunks, position, turn = [], 0, 0
    while position < len(lines):
        size = sizes[turn % len(sizes)]
        chunks.append(LogChunk(tuple(lines[position : position + size]), position + size, JobState.RUNNING))
        position, turn = position + size, turn + 1
    last = LogChunk((), position, JobState.SUCCESSFUL, complete=True)
    trigger = ScriptedTrigger(ScriptedFollower([*chunks, last]), skew=skew)
    trigger._log = CutRecorder(cut)

    async def run() -> None:
        try:
            await anext(trigger.run())
        except Died:
            pass

    asyncio.run(run())
    return [json.dumps(record) for record in trigger.recorder.records]


def worker(event: str) -> str:
    """A record of the worker's own log file."""
    return json.dumps({"timestamp": (START - timedelta(seconds=1)).isoformat(), "level": "info", "event": event})


def shown(*files: list[str]) -> list[str]:
    """What Airflow's reader makes of these log files."""
    streams = [_stream_lines_by_chunk(io.StringIO("".join(f"{record}\n" for record in file))) for file in files]
    return [message.event for message in _interleave_logs(*streams)]


@settings(max_examples=100)
@given(
    steps=LOGS,
    begin=st.integers(-7_200, 7_200),
    skew=st.floats(-3_600, 3_600),
    cuts=st.lists(st.integers(0, 200), max_size=3),
    sizes=st.lists(st.integers(1, 50), min_size=1, max_size=4),
)
@example(steps=[(0, "same")] * 50, begin=0, skew=0.0, cuts=[10, 30], sizes=[7])
@example(steps=[(0, "same")] * 50, begin=-7_200, skew=3_600.0, cuts=[], sizes=[50])
def test_every_line_once_and_in_order(steps, begin, skew, cuts, sizes):
    lines = log_of(steps, START + timedelta(seconds=begin))
    dead = [file_of_trigger(lines, sizes[::-1], skew, cut) for cut in cuts]
    whole = file_of_trigger(lines, sizes, skew)
    mine = [worker("Job submitted"), worker("Pausing task as DEFERRED")]
    assert shown(mine, *dead, whole) == ["Job submitted", "Pausing task as DEFERRED", *(line.text for line in lines)]


def test_a_long_log_cut_late_is_merged_exactly():
    """Airflow's reader flushes its heap each 2,500 records; a replay that is far behind would not be merged."""
    lines = log_of([(1_500, f"step {number % 5}") for number in range(12_000)], START)
    dead, whole = (file_of_trigger(lines, [5_000], 0.0, cut) for cut in (7_345, None))
    assert shown(dead, whole) == [line.text for line in lines]


def test_what_a_runaway_logger_leaves_out_is_the_same_in_a_replay():
    lines = log_of([(1, f"step {number}") for number in range(30_000)], START)
    dead, whole = file_of_trigger(lines, [777], 0.0, 10_003), file_of_trigger(lines, [5_000, 1], 0.0)
    texts = shown(dead, whole)
    assert texts == [json.loads(record)["event"] for record in whole]
    assert 10_000 < len(texts) < 12_000
    assert texts[-1].startswith("… 9")


def test_the_reader_does_lose_lines_without_the_rule():
    """The reason for the rule: should this ever fail, Airflow's reader has changed and the rule may go."""
    assert len(shown([worker("loss: 0.5")] * 10)) == 1


@settings(max_examples=50)
@given(
    logs=st.lists(LOGS, min_size=2, max_size=3),
    orders=st.lists(st.randoms(use_true_random=False), min_size=3, max_size=3),
    cuts=st.lists(st.integers(0, 300), max_size=2),
)
def test_every_line_of_several_streams_once_in_any_order_of_reading(logs, orders, cuts):
    streams = [
        [
            replace(line, text=f"[node {stream}] {line.text}", stream=stream, streams=len(logs))
            for line in log_of(steps, START)
        ]
        for stream, steps in enumerate(logs)
    ]
    dead = [file_of_trigger(riffled(streams, order), [7], 0.0, cut) for order, cut in zip(orders, cuts, strict=False)]
    texts = shown(*dead, file_of_trigger(riffled(streams, orders[2]), [50, 1], 0.0))
    for stream, lines in enumerate(streams):
        assert [text for text in texts if text.startswith(f"[node {stream}]")] == [line.text for line in lines]
    assert len(texts) == sum(map(len, streams))


def riffled(streams: list[list[LogLine]], order: Any) -> list[LogLine]:
    """The lines of several logs as they may come: each log in its order."""
    turns = [stream for stream, lines in enumerate(streams) for _ in lines]
    order.shuffle(turns)
    left = [iter(lines) for lines in streams]
    return [next(left[stream]) for stream in turns]
