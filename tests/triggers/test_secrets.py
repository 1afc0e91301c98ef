# SPDX-License-Identifier: Apache-2.0
"""No secret of a job is shown, whatever is killed and changed meanwhile, and every line is shown once."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from cryptography.fernet import Fernet

from airflow_provider_jobapi.hooks.seal import seal_secrets
from airflow_provider_jobapi.training.logs import LogChunk
from airflow_provider_jobapi.training.status import JobState, JobStatus
from airflow_provider_jobapi.triggers.training import TrainingTrigger
from airflow_provider_jobapi.triggers.xcom_publisher import METRICS_KEY, STATUS_KEY
from tests.harness.scripted import START, Rotated, RotatingFollower, ScriptedFollower, ScriptedTrigger, end
from tests.triggers.test_restart_without_replay import TI, file_of_trigger, xcoms
from tests.triggers.test_rule_r import CutRecorder, Died, log_of, shown

__all__ = ["xcoms"]

SECRET = "tok-12345678"
TEXTS = [f"token={SECRET} loss={number}" for number in range(300)]
MASKED = [f"token=*** loss={number}" for number in range(300)]


def connect(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    connection = {"conn_type": "jobapi", "host": "http://localhost:1", "login": "a", "password": "before"} | changes
    monkeypatch.setenv("AIRFLOW_CONN_C", json.dumps(connection))


@pytest.fixture(params=["airflow", "connection"])
def key(request, monkeypatch):
    """The seal has either key."""
    fernet = Fernet.generate_key().decode() if request.param == "airflow" else ""
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", fernet)
    connect(monkeypatch, password="before" if request.param == "connection" else None)
    return request.param


class Slices(ScriptedFollower):
    """A log that can be replayed, a few lines a read."""

    def __init__(self) -> None:
        super().__init__([])
        self.lines = log_of([(1_000, text) for text in TEXTS], START)
        self.statuses = [JobStatus(job_id="j", status=JobState.RUNNING, message=f"runs with {SECRET}")]

    async def read(self, cursor: Any) -> LogChunk:
        await asyncio.sleep(0.001)
        begin = cursor or 0
        over = begin == len(self.lines)
        return LogChunk(tuple(self.lines[begin : begin + 10]), begin + 10 if not over else begin, None, complete=over)


def run(sealed: str | None, cut: int | None = None) -> ScriptedTrigger:
    trigger = ScriptedTrigger(Slices(), sealed=sealed)
    trigger.task_instance = TI
    trigger._log = CutRecorder(cut)

    async def first() -> None:
        try:
            trigger.event = (await anext(trigger.run())).payload
        except Died:
            pass

    asyncio.run(first())
    return trigger


def lines(trigger: ScriptedTrigger) -> list[str]:
    return [json.dumps(record) for record in trigger.recorder.records if record["level"] == "info"]


def test_lines_metrics_status_and_event_show_no_secret(key, xcoms):
    trigger = run(seal_secrets((SECRET,), "c"))
    assert shown(lines(trigger)) == MASKED
    assert SECRET not in json.dumps([trigger.recorder.records, xcoms, trigger.event, trigger.serialize()])
    assert xcoms[STATUS_KEY]["message"] == "runs with ***"
    assert xcoms[METRICS_KEY]["metrics"]["loss"]["last"] == 299
    assert trigger.event["metrics"]["loss"] == 299


def test_a_trigger_that_takes_over_writes_the_same_lines(key, xcoms):
    sealed = seal_secrets((SECRET,), "c")
    files = [lines(run(sealed, cut)) for cut in (37, 200, None)]
    assert shown(*files) == MASKED
    assert set(files[0]) <= set(files[1]) <= set(files[2]), "the records are equal, so Airflow merges them"


def test_the_connections_secret_is_changed_and_airflows_key_stays(monkeypatch, xcoms):
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", Fernet.generate_key().decode())
    connect(monkeypatch)
    sealed = seal_secrets((SECRET,), "c")
    first = lines(run(sealed, 150))
    connect(monkeypatch, password="after")
    assert shown(first, lines(run(sealed))) == MASKED


def test_airflows_key_is_changed_and_the_connections_secret_stays(monkeypatch, xcoms):
    before, after = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", before)
    connect(monkeypatch)
    sealed = seal_secrets((SECRET,), "c")
    for keys in (f"{after},{before}", after, ""):
        monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", keys)
        assert shown(lines(run(sealed))) == MASKED


def test_no_key_opens_the_seal_any_more(monkeypatch, xcoms):
    """What is in the log already is not written again in another form; the rest is hidden, line by line."""
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "")
    connect(monkeypatch)
    sealed = seal_secrets((SECRET,), "c")
    first = run(sealed, 150)
    counted = xcoms["training_log"]["lines"]
    assert 50 < counted <= 150
    xcoms[METRICS_KEY] = metrics = {"job_id": "j", "metrics": {}}
    connect(monkeypatch, password="after")
    second = run(sealed)
    assert shown(lines(first)) == MASKED[:150]
    assert shown(lines(second)) == ["***"] * (300 - counted)
    times = [json.loads(record)["timestamp"] for record in lines(second)]
    assert times == [line.time.isoformat(timespec="milliseconds") for line in second.follower.lines[counted:]]
    (warning,) = second.recorder.lines("warning")
    assert "The lines of job j are hidden from here on" in warning
    assert "`jobapi logs j`" in warning
    assert xcoms[METRICS_KEY] == metrics
    assert xcoms[STATUS_KEY]["message"] == "***"
    assert SECRET not in json.dumps([second.recorder.records, xcoms, second.event])


def test_a_log_that_cannot_be_replayed(key, xcoms):
    sealed = seal_secrets((SECRET,), "c")
    log = Rotated(log_of([(1_000, text) for text in TEXTS], START))
    files = [file_of_trigger(log, 10, cut, sealed=sealed) for cut in (90, None)]
    assert shown(*files) == MASKED
    assert SECRET not in json.dumps(xcoms)


def test_a_placeholder_is_no_key(monkeypatch):
    """Airflow's default is the text ``{FERNET_KEY}`` where no configuration was written: everybody knows it."""
    from airflow_provider_jobapi.hooks.seal import airflow_keys

    for text in ("{FERNET_KEY}", "", "c2hvcnQ=", "ü"):
        monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", text)
        assert airflow_keys() == ()


def test_errors_that_the_service_words_show_no_secret(monkeypatch, xcoms):
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", Fernet.generate_key().decode())
    connect(monkeypatch)
    follower = ScriptedFollower([LogChunk((), 0, JobState.RUNNING), RuntimeError(f"bad {SECRET}"), end()])
    trigger = ScriptedTrigger(follower, sealed=seal_secrets((SECRET,), "c"), patience=0.0)
    (event,) = trigger.events()
    assert SECRET not in json.dumps([trigger.recorder.records, event])
    assert "***" in json.dumps([trigger.recorder.records, event])


def test_a_row_without_a_seal_is_what_it_was():
    given = {"conn_id": "c", "job_id": "j", "handle": {"job_id": "j"}, "not_before": START.isoformat()}
    assert "sealed" not in TrainingTrigger(**given).serialize()[1]
    assert TrainingTrigger(**given, sealed="x").serialize()[1]["sealed"] == "x"
    assert ScriptedTrigger(RotatingFollower(Rotated([]), 1)).masker is not None
