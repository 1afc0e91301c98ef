# SPDX-License-Identifier: Apache-2.0
"""A triggerer is killed while it follows a log whose head is rotated away: each line once, in order, at one time."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_jobapi.training.logs import LogLine
from airflow_provider_jobapi.triggers.pace import Pace
from airflow_provider_jobapi.triggers.task_log import LINES_KEY
from airflow_provider_jobapi.triggers.xcom_publisher import METRICS_KEY
from airflow_provider_jobapi.triggers.xcom_writer import XComWriter
from tests.harness.scripted import START, Rotated, RotatingFollower, ScriptedTrigger
from tests.triggers.test_rule_r import LOGS, CutRecorder, Died, log_of, shown

TI = SimpleNamespace(dag_id="d", task_id="t", run_id="r", map_index=-1)


class XComs(dict[str, Any]):
    """The XComs of one task, as JSON keeps them."""

    def read(self, key: str, **_: Any) -> Any:
        return self.get(key)

    def write(self, key: str, value: Any, **_: Any) -> None:
        self[key] = json.loads(json.dumps(value))


@pytest.fixture
def xcoms(mocker, monkeypatch):
    """Airflow's XComs; in tests/kills a whole Airflow keeps them."""
    monkeypatch.setattr(XComWriter, "least_pause", 0.0)
    monkeypatch.setattr(XComWriter, "writes_per_second", 100_000)
    monkeypatch.setattr(ScriptedTrigger, "pace", Pace(rate=10**9))
    kept = XComs()
    mocker.patch("airflow.sdk.execution_time.xcom.XCom.get_one", side_effect=kept.read)
    mocker.patch("airflow.sdk.execution_time.xcom.XCom.set", side_effect=kept.write)
    return kept


def file_of_trigger(log: Rotated, size: int, cut: int | None = None, **changes: Any) -> list[str]:
    """Follow the log until line ``cut`` would be written; returns what is in the trigger's log file then."""
    trigger = ScriptedTrigger(RotatingFollower(log, size), **changes)
    trigger.task_instance = TI
    trigger._log = CutRecorder(cut)

    async def run() -> None:
        try:
            await anext(trigger.run())
        except Died:
            pass

    asyncio.run(run())
    return [json.dumps(record) for record in trigger.recorder.records if record["level"] == "info"]


def rotate(log: Rotated, xcoms: XComs) -> None:
    """Remove every line that the position in the XCom does not need."""
    log.first = xcoms.get(LINES_KEY, {}).get("cursor") or 0


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=LOGS,
    begin=st.integers(-7_200, 7_200),
    cuts=st.lists(st.integers(0, 200), min_size=1, max_size=3),
    sizes=st.lists(st.integers(1, 50), min_size=4, max_size=4),
)
def test_killed_at_any_line(xcoms, steps, begin, cuts, sizes):
    xcoms.clear()
    log = Rotated(log_of(steps, START + timedelta(seconds=begin)))
    files = []
    for cut, size in zip([*cuts, None], sizes, strict=False):
        files.append(file_of_trigger(log, size, cut))
        rotate(log, xcoms)
    assert shown(*files) == [line.text for line in log.lines]


def test_lines_that_have_rotated_away_do_not_move_the_others(xcoms):
    log = Rotated(log_of([(0, "same")] * 150, START))
    first = file_of_trigger(log, 10, 140)
    kept = xcoms[LINES_KEY]["cursor"]
    assert kept > 50
    log.first = 50
    again = file_of_trigger(log, 7)
    assert again
    assert set(first[kept:]) <= set(again), "lines that are written twice have the same times"
    assert shown(first, again) == ["same"] * 150


@pytest.mark.parametrize("resume", ["replay", "cursor"])
def test_log_resume_does_not_hide_lines(xcoms, monkeypatch, resume):
    monkeypatch.setenv("AIRFLOW__JOBAPI__LOG_RESUME", resume)
    log = Rotated(log_of([(1_000, f"line {number}") for number in range(300)], START))
    first = file_of_trigger(log, 10, 150)
    rotate(log, xcoms)
    assert shown(first, file_of_trigger(log, 10)) == [f"line {number}" for number in range(300)]


def test_another_deferral_shows_all_that_the_service_still_has(xcoms):
    log = Rotated(log_of([(1_000, f"line {number}") for number in range(100)], START))
    file_of_trigger(log, 10, 60)
    log.first = 20
    again = file_of_trigger(log, 10, not_before=(START + timedelta(hours=1)).isoformat())
    assert shown(again) == [f"line {number}" for number in range(20, 100)]


def test_a_position_that_cannot_be_read_costs_no_line(xcoms):
    log = Rotated(log_of([(1_000, f"line {number}") for number in range(50)], START))
    file_of_trigger(log, 10, 30)
    xcoms[LINES_KEY]["timeline"] = "?"
    assert shown(file_of_trigger(log, 10)) == [f"line {number}" for number in range(50)]


def test_the_metrics_go_on(xcoms):
    log = Rotated(log_of([(1_000_000, f"loss={number}") for number in range(60)], START))
    file_of_trigger(log, 5, 40)
    rotate(log, xcoms)
    assert log.first > 0
    file_of_trigger(log, 5)
    values = xcoms[METRICS_KEY]["metrics"]["loss"]["values"]
    assert (values[0], values[-1]) == (0, 59)
    assert values == sorted(set(values)), "no value twice"
    assert len(values) > 50


def test_streams_come_and_go(xcoms):
    """The second node begins late, the first one ends early, and one that nobody planned has a name."""
    plan = [("a", 0), ("a", 0), (1, 1), ("a", 0), (1, 1), ("extra", 2), (1, 1), ("extra", 2), (1, 1)] * 4
    lines = [LogLine(START, f"[{stream}] {number}", stream, 3) for number, (stream, _) in enumerate(plan)]
    log = Rotated([replace(line, time=START + timedelta(milliseconds=10 * n)) for n, line in enumerate(lines)])
    files = []
    for cut in (5, 17, None):
        files.append(file_of_trigger(log, 4, cut))
        rotate(log, xcoms)
    assert sorted(shown(*files)) == sorted(line.text for line in lines)
    for stream in ("a", 1, "extra"):
        texts = [text for text in shown(*files) if text.startswith(f"[{stream}]")]
        assert texts == [line.text for line in lines if line.stream == stream]
