# SPDX-License-Identifier: Apache-2.0
"""What a turn of the runner costs: the number of statements and looks, which no busy machine changes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from airflow_provider_jobapi.server.run.engines.base import Engine
from airflow_provider_jobapi.training.status import JobState
from tests.harness.bench import Bench
from tests.harness.server import poll

WAITING = 30


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    bench = Bench(tmp_path, cpus=1)  # its runner takes a turn only where a test calls it
    monkeypatch.setattr(bench.runner._thread, "start", lambda: None)
    bench.runner.start()
    yield bench
    bench.runner.stop()
    bench.database.close()


@contextmanager
def counted_statements(bench: Bench) -> Iterator[list[str]]:
    """Collect the statements that anybody sends to the database."""
    statements: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_unused: Any) -> None:
        statements.append(statement)

    event.listen(bench.database._engine, "before_cursor_execute", note)
    yield statements
    event.remove(bench.database._engine, "before_cursor_execute", note)


def occupied(bench: Bench) -> None:
    """Let a job occupy the server, and have others wait behind it."""
    first, *_others = (bench.submit() for _ in range(WAITING + 1))
    bench.runner._busy.add(first.key)  # as while its inputs are copied
    bench.runner._turn()
    assert [job.key for job in bench.registry.placed()] == [first.key]


def test_a_turn_with_many_waiting_jobs_asks_the_database_for_nothing(bench: Bench):
    occupied(bench)
    with counted_statements(bench) as statements:
        for _ in range(3):
            bench.runner._turn()
    assert statements == []


def test_why_jobs_wait_is_made_from_memory_and_written_nowhere(bench: Bench):
    occupied(bench)
    *_others, last = bench.registry.waiting()
    with counted_statements(bench) as statements:
        said = f"Waiting for 1 CPU: 0 of 1 free; {WAITING - 1} jobs are ahead."
        poll(lambda: bench.get(last).message == said, 10, "the reason")
        assert bench.get(last).state is JobState.PENDING
    assert statements == []
    newest = bench.registry.page("airflow", 1, None, None)
    assert [job.message for job in newest] == [said]


def test_jobs_are_admitted_where_something_changed_only(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    occupied(bench)
    (first,) = bench.registry.placed()
    bench.runner._turn()
    looks: list[int] = []
    engine: Engine = bench.runner._engine
    admit = engine.admit

    def noted(placed: Any, waiting: Any, *, explain: bool = True) -> Any:
        seen = 0

        def each() -> Any:
            nonlocal seen
            for seen, request in enumerate(waiting, 1):  # noqa: B007
                yield request

        admission = admit(placed, each(), explain=explain)
        looks.append(seen)
        return admission

    monkeypatch.setattr(engine, "admit", noted)
    bench.runner._turn()
    assert looks == []
    bench.submit()
    bench.runner._turn()
    assert looks == [1]  # the one that has no room ends the look
    bench.registry.finish(first.key, JobState.FAILED)
    expected = bench.registry.waiting()[0]
    bench.runner._busy.add(expected.key)
    bench.runner._turn()
    assert [job.key for job in bench.registry.placed()] == [expected.key]
    assert looks == [1, 2]


def test_an_engine_is_asked_for_room_from_time_to_time(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    occupied(bench)
    bench.runner._turn()
    asked: list[bool] = []
    admit = bench.runner._engine.admit
    monkeypatch.setattr(
        bench.runner._engine, "admit", lambda *given, **named: asked.append(True) or admit(*given, **named)
    )
    bench.runner._next_admission = 0.0
    bench.runner._turn()
    assert asked == [True]


def test_a_stop_that_cannot_be_committed_changes_nothing_in_memory(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    job = bench.submit()
    with monkeypatch.context() as patched:
        patched.setattr(bench.registry._clock, "kept_from", _fails)
        with pytest.raises(OSError, match="away"):
            bench.registry.request_stop(job.key, "alice")
    assert bench.registry.waiting() == [job]
    assert bench.registry.state(job.key) is JobState.PENDING


def _fails(*_unused: object) -> None:
    raise OSError("the disk is away")
