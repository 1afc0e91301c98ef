# SPDX-License-Identifier: Apache-2.0
"""The place in a log that shows twice what is written twice: kept, found again, and never in the way."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_jobapi.training.logs import LogChunk, LogLine
from airflow_provider_jobapi.training.status import JobState
from airflow_provider_jobapi.triggers import training, xcom_writer
from airflow_provider_jobapi.triggers.bookmark import LINES_KEY, Bookmark
from tests.harness.scripted import START, Recorder, ScriptedFollower, ScriptedTrigger, chunk, end

TI = SimpleNamespace(dag_id="d", task_id="t", run_id="r", map_index=None)


class XComs(dict[str, Any]):
    """The XComs of the task; ``broken`` when they cannot be read."""

    broken = False

    def read(self, key: str, **_: Any) -> Any:
        if self.broken:
            raise RuntimeError("the API is away")
        return self.get(key)

    def write(self, key: str, value: Any, **_: Any) -> None:
        self[key] = value


@pytest.fixture
def xcoms(mocker, monkeypatch):
    """What Airflow keeps; only a whole Airflow could do it really, and in the kill matrix one does."""
    monkeypatch.setenv("AIRFLOW__JOBAPI__LOG_RESUME", "cursor")
    monkeypatch.setattr(xcom_writer, "PAUSE", 0.0)
    monkeypatch.setattr(training, "SHORTEST", 0.0)
    kept = XComs()
    mocker.patch("airflow.sdk.execution_time.xcom.XCom.get_one", side_effect=kept.read)
    mocker.patch("airflow.sdk.execution_time.xcom.XCom.set", side_effect=kept.write)
    return kept


def followed(*steps: Any) -> Recorder:
    """What a trigger that begins to follow now writes into the log."""
    trigger = ScriptedTrigger(ScriptedFollower(list(steps)))
    trigger.task_instance = TI
    trigger.events()
    return trigger.recorder


def shown(*steps: Any) -> list[str]:
    return followed(*steps).lines()


def marked(xcoms: XComs, **changes: Any) -> None:
    trigger = ScriptedTrigger(ScriptedFollower([]))
    xcoms[LINES_KEY] = {"job_id": trigger.job_id, "floor": trigger.not_before, "lines": 2} | changes


def test_the_next_trigger_shows_what_the_log_lacks(xcoms):
    marked(xcoms)
    assert shown(chunk("a", "b"), chunk("c"), end("d")) == ["c", "d"]


def test_each_of_several_logs_has_its_place(xcoms):
    lines = {stream: [LogLine(START, f"{stream}{text}", stream, 2) for text in "abc"] for stream in (0, 1)}
    marked(xcoms, lines={"0": 2, "1": 1})
    in_another_order = LogChunk((*lines[1], *lines[0]), None, JobState.RUNNING)
    assert shown(in_another_order, end()) == ["1b", "1c", "0c"]
    assert xcoms[LINES_KEY]["lines"] == {"0": 2, "1": 1}


def test_the_mark_is_one_write_behind_since_a_line_that_is_logged_may_be_lost_yet(xcoms):
    async def go_on() -> list[int]:
        marks = []
        bookmark = Bookmark("j", "f")
        await bookmark.open(TI, print)
        while len(marks) < 3:
            if not bookmark.pass_line():
                continue
            bookmark.keep()
            async with asyncio.timeout(5):
                await bookmark._slot.idle.wait()
            marks.append(xcoms[LINES_KEY]["lines"])
        bookmark.close()
        return marks

    assert asyncio.run(go_on()) == [0, 1, 2]
    assert asyncio.run(go_on()) == [2, 3, 4], "a mark never goes back"


@pytest.mark.parametrize(
    "other", [{"job_id": "another job"}, {"floor": "2020-01-01T00:00:00+00:00"}, {"lines": -3}, {"lines": 0}]
)
def test_another_deferrals_mark_is_none(xcoms, other):
    marked(xcoms, **other)
    assert shown(chunk("a", "b"), end("c")) == ["a", "b", "c"]


@pytest.mark.parametrize("odd", ["a word", {"lines": 2}, [1]])
def test_a_mark_that_cannot_be_read_costs_no_line(xcoms, odd):
    xcoms[LINES_KEY] = odd
    log = followed(chunk("a"), end("b"))
    assert "cannot be found out, so all are shown" in log.lines("warning")[0]
    assert log.lines() == ["a", "b"]


def test_an_airflow_that_does_not_answer_costs_no_line(xcoms):
    xcoms.broken = True
    log = followed(chunk("a"), end("b"))
    assert "the API is away" in log.lines("warning")[0]
    assert log.lines() == ["a", "b"]


def test_by_default_nothing_is_marked(xcoms, monkeypatch):
    monkeypatch.delenv("AIRFLOW__JOBAPI__LOG_RESUME")
    marked(xcoms)
    assert shown(chunk("a", "b"), end("c")) == ["a", "b", "c"]
    assert xcoms[LINES_KEY]["lines"] == 2


def test_a_word_that_is_none_is_told(xcoms, monkeypatch):
    monkeypatch.setenv("AIRFLOW__JOBAPI__LOG_RESUME", "merge")
    log = followed(end("a"))
    assert "log_resume is 'merge', and may be replay or cursor" in log.lines("warning")[0]
    assert log.lines() == ["a"]
