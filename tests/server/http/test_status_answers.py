# SPDX-License-Identifier: Apache-2.0
"""The status of jobs from memory: what it costs, and when it is made again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from airflow_provider_jobapi.server.http.progress_reader import ProgressReader
from airflow_provider_jobapi.server.http.status_answers import StatusAnswers
from airflow_provider_jobapi.server.store.job_record import ENVIRONMENT_NAME
from airflow_provider_jobapi.server.store.layout import remove_tree
from tests.harness.bench import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)  # without a runner, which would move the jobs on
    bench.registry.hold_active()
    yield bench
    bench.database.close()


@pytest.fixture
def answers(bench: Bench) -> StatusAnswers:
    return StatusAnswers(bench.registry, ProgressReader(bench.registry), most=2)


def test_the_status_of_a_waiting_job_is_made_once_and_without_the_database(bench: Bench, answers: StatusAnswers):
    key = bench.submit().key
    expected = answers.read(key)
    statements: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_unused: Any) -> None:
        statements.append(statement)

    event.listen(bench.database._engine, "before_cursor_execute", note)
    body = answers.recall(key)
    assert body == expected
    assert answers.recall(key) is body
    assert statements == []


def test_each_change_of_a_job_makes_another_status(bench: Bench, answers: StatusAnswers):
    job = bench.submit()
    answers.recall(job.key)
    bench.registry.why_waiting = lambda _key: "1 job is ahead."
    assert json.loads(answers.recall(job.key) or b"")["message"] == "1 job is ahead."
    bench.registry.place(job.key, (), "Its inputs are copied.")
    assert json.loads(answers.recall(job.key) or b"")["message"] == "Its inputs are copied."
    bench.registry.set_waiting_reason(job.key, "Its inputs are copied.", "Queued")  # the same message
    assert json.loads(answers.recall(job.key) or b"")["reason"] == "Queued"
    (job.directory / ENVIRONMENT_NAME).write_text("numpy==2.0")
    assert answers.recall(job.key) == answers.read(job.key)
    assert json.loads(answers.recall(job.key) or b"")["environment"] == f"jobs/{job.key.job_id}/environment"
    bench.registry.start(job.key, job.submitted)
    assert answers.recall(job.key) is None  # its progress is read from the log


def test_a_job_that_ended_or_whose_client_was_removed_is_read(bench: Bench, answers: StatusAnswers):
    stopped, gone = bench.submit(), bench.submit()
    for job in (stopped, gone):
        assert answers.recall(job.key) is not None
    bench.registry.request_stop(stopped.key, "alice")
    assert answers.recall(stopped.key) is None
    assert json.loads(answers.read(stopped.key))["status"] == "STOPPED"
    remove_tree(gone.directory)
    assert answers.recall(gone.key) is None


def test_few_answers_are_kept(bench: Bench, answers: StatusAnswers):
    for _ in range(3):
        answers.recall(bench.submit().key)
    assert len(answers._bodies) == 2
