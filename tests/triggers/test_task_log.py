# SPDX-License-Identifier: Apache-2.0
"""``[jobapi] log_resume = cursor``: the number of lines in the log is kept, read again, and harms nothing."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_jobapi.training.logs import LogChunk, LogLine
from airflow_provider_jobapi.training.status import JobState
from airflow_provider_jobapi.triggers.task_log import LINES_KEY
from airflow_provider_jobapi.triggers.xcom_writer import XComWriter
from tests.harness.loops import until
from tests.harness.scripted import START, Recorder, ScriptedFollower, ScriptedTrigger, chunk, end

TI = SimpleNamespace(dag_id="d", task_id="t", run_id="r", map_index=None)


class XComs(dict[str, Any]):
    """The XComs of the task; ``broken`` when they cannot be read."""

    broken = False
    seen = staticmethod(lambda _: None)

    def read(self, key: str, **_: Any) -> Any:
        if self.broken:
            raise RuntimeError("the API is away")
        return self.get(key)

    def write(self, key: str, value: Any, **_: Any) -> None:
        if key == LINES_KEY:
            self[key] = json.loads(json.dumps(value))
            self.seen(self[key])


@pytest.fixture
def xcoms(mocker, monkeypatch):
    """Airflow's XComs; in tests/kills a whole Airflow keeps them."""
    monkeypatch.setenv("AIRFLOW__JOBAPI__LOG_RESUME", "cursor")
    monkeypatch.setattr(XComWriter, "least_pause", 0.0)
    kept = XComs()
    mocker.patch("airflow.sdk.execution_time.xcom.XCom.get_one", side_effect=kept.read)
    mocker.patch("airflow.sdk.execution_time.xcom.XCom.set", side_effect=kept.write)
    return kept


def followed(*steps: Any) -> Recorder:
    """Return the log of a trigger that starts now."""
    trigger = ScriptedTrigger(ScriptedFollower(list(steps)))
    trigger.task_instance = TI
    trigger.events()
    return trigger.recorder


def shown(*steps: Any) -> list[str]:
    return followed(*steps).lines()


def keep(xcoms: XComs, **changes: Any) -> None:
    trigger = ScriptedTrigger(ScriptedFollower([]))
    xcoms[LINES_KEY] = {"job_id": trigger.job_id, "floor": trigger.not_before, "lines": 2} | changes


def test_the_next_trigger_shows_only_lines_that_are_not_in_the_log(xcoms):
    keep(xcoms)
    assert shown(chunk("a", "b"), chunk("c"), end("d")) == ["c", "d"]


def test_each_stream_has_its_own_position(xcoms):
    lines = {stream: [LogLine(START, f"{stream}{text}", stream, 2) for text in "abc"] for stream in (0, 1)}
    keep(xcoms, lines={"0": 2, "1": 1})
    in_another_order = LogChunk((*lines[1], *lines[0]), None, JobState.RUNNING)
    assert shown(in_another_order, end()) == ["1b", "1c", "0c"]
    assert xcoms[LINES_KEY]["lines"] == {"0": 2, "1": 1}


def test_the_position_is_one_write_behind_and_catches_up(xcoms):
    """A line that was just logged may not be in the log's storage yet."""

    class Patient(ScriptedFollower):
        async def read(self, cursor: Any) -> LogChunk:
            if len(self.steps) == 1:
                await until(lambda: written[-1:] == [3])
            return await super().read(cursor)

    written: list[int] = []
    xcoms.seen = lambda value: written.append(value["lines"])
    trigger = ScriptedTrigger(Patient([chunk("a", "b"), chunk("c"), end()]))
    trigger.task_instance = TI
    trigger.events()
    assert written[0] == 0
    assert written == sorted(written)


@pytest.mark.parametrize(
    "other", [{"job_id": "another job"}, {"floor": "2020-01-01T00:00:00+00:00"}, {"lines": -3}, {"lines": 0}]
)
def test_a_position_of_another_deferral_is_ignored(xcoms, other):
    keep(xcoms, **other)
    assert shown(chunk("a", "b"), end("c")) == ["a", "b", "c"]


@pytest.mark.parametrize("odd", ["a word", {"lines": 2}, [1]])
def test_a_position_that_cannot_be_read_costs_no_line(xcoms, odd):
    xcoms[LINES_KEY] = odd
    log = followed(chunk("a"), end("b"))
    assert "could not be read, so all lines are shown" in log.lines("warning")[0]
    assert log.lines() == ["a", "b"]


def test_an_airflow_that_does_not_answer_costs_no_line(xcoms):
    xcoms.broken = True
    log = followed(chunk("a"), end("b"))
    assert "the API is away" in log.lines("warning")[0]
    assert log.lines() == ["a", "b"]


def test_by_default_no_position_is_kept(xcoms, monkeypatch):
    monkeypatch.delenv("AIRFLOW__JOBAPI__LOG_RESUME")
    keep(xcoms)
    assert shown(chunk("a", "b"), end("c")) == ["a", "b", "c"]
    assert xcoms[LINES_KEY]["lines"] == 2


def test_an_unknown_log_resume_is_reported(xcoms, monkeypatch):
    monkeypatch.setenv("AIRFLOW__JOBAPI__LOG_RESUME", "merge")
    log = followed(end("a"))
    assert "log_resume is 'merge'; it must be replay or cursor" in log.lines("warning")[0]
    assert log.lines() == ["a"]
