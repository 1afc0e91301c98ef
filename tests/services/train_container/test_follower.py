# SPDX-License-Identifier: Apache-2.0
"""The log of a train on real engines: live, both streams, each line once wherever a trigger ended."""

from __future__ import annotations

import asyncio
import random
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from airflow_provider_jobapi.exceptions import ServiceUnavailable
from airflow_provider_jobapi.services.train_container import logs
from airflow_provider_jobapi.services.train_container.service import TrainContainerService
from airflow_provider_jobapi.training.status import JobState
from tests.services.train_container.station import Station, end_of, followed, scripted

BOTH = (
    "for number in range({count}):\n"
    "    print(f'out {{number}}', flush=True)\n"
    "    print(f'err {{number}}', file=sys.stderr, flush=True)\n"
    "    time.sleep({pause})\n"
    "answer()"
)


def test_lines_are_shown_while_the_train_runs(station: Station) -> None:
    code = "print('begun', flush=True)\nwhile not os.path.exists('/opt/pht_train/model/go'): time.sleep(0.05)\nanswer()"
    service, handle = station.run(scripted(code))
    lines, cursor = followed(service, handle, until=bool)
    assert [line.text for line in lines] == ["begun"]
    assert service.status(handle).status is JobState.RUNNING
    station.engine.client.exec_start(
        station.engine.client.exec_create(handle["container"], ["sh", "-c", "echo > /opt/pht_train/model/go"])["Id"]
    )
    rest, _ = followed(service, handle, cursor)
    assert [line.text for line in rest] == ['{"state": "success", "message": ""}']


def test_each_line_comes_once_wherever_a_trigger_ends(station: Station) -> None:
    """Triggers that end after some lines, each of which goes on at the cursor of the one before; and one from the
    start, as a triggerer that is restarted reads it.
    """
    count = 60
    service, handle = station.run(scripted(BOTH.format(count=count, pause=0.04)))
    shown: list[str] = []
    times, cursor = [], None
    parts = random.Random(1)  # noqa: S311 -- no secret
    for _ in range(200):
        wanted = parts.randint(1, 9)
        lines, cursor = followed(service, handle, cursor, until=lambda seen: len(seen) >= wanted)  # noqa: B023
        shown += [line.text for line in lines]
        times += [line.time for line in lines]
        if service.status(handle).status.ended and not lines:
            break
    expected = [f"{stream} {number}" for number in range(count) for stream in ("out", "err")]
    assert sorted(shown[:-1]) == sorted(expected)
    for stream in ("out", "err"):
        assert [text for text in shown if text.startswith(stream)] == [text for text in expected if stream in text]
    assert times == sorted(times) or station.engine.name == "dockerd"  # its two streams are stamped apart
    replayed, _ = followed(service, handle)
    assert [(line.text, line.time) for line in replayed] == list(zip(shown, times, strict=True))
    assert end_of(service, handle).status is JobState.SUCCESSFUL


def test_a_burst_is_read_in_parts(station: Station) -> None:
    """More lines in a second than one read takes."""
    service, handle, _ = station.ended(scripted("for n in range(3000): print(n)\nprint('end', end='')\nanswer()"))
    found: list[str] = []
    cursor: Any = None
    while True:
        new = logs.read_new(service.engine, handle["container"], cursor, ended=True, most=700)
        found += [line.text for line in new.lines]
        cursor = new.cursor
        if not new.behind:
            break
    assert found == [*map(str, range(3000)), 'end{"state": "success", "message": ""}']


def test_long_lines_and_odd_bytes(station: Station) -> None:
    code = (
        "print('x' * 40_000)\nsys.stdout.buffer.write(b'\\xff\\x00\\r\\n'); sys.stdout.flush()\n"
        "print('ü' * 5)\nprint('no end', end='', file=sys.stderr)\nanswer()"
    )
    service, handle, _ = station.ended(scripted(code))
    lines = [line.text for line in followed(service, handle)[0]]
    assert len(lines[0]) <= 16_384
    assert lines[0].startswith("xxx")
    assert sorted(lines[1:], key=len) == sorted(
        ["\ufffd ", "üüüüü", "no end", '{"state": "success", "message": ""}'], key=len
    )
    assert set(service.last_lines(handle, 3)) < set(lines)
    assert len(service.last_lines(handle, 3)) == 3
    assert service.last_lines(handle, 0) == ()
    assert not [text for text in lines if re.search(r"\d{4}-\d\d-\d\dT", text)]  # no time inside of a long line


def test_a_train_without_output(station: Station) -> None:
    service, handle, status = station.ended(scripted("pass"))
    assert followed(service, handle)[0] == []
    assert status.reason == "NoResponse"
    assert status.message == (
        "The train has printed nothing, and a command of the Train API prints one JSON object at its end. "
        "Where the daemon of Docker was down when the train ended, what it printed meanwhile is lost."
    )


def test_a_follower_makes_no_request_of_its_own_thread(station: Station) -> None:
    service = station.service()
    assert isinstance(service, TrainContainerService)
    follower = service.follower({"job_id": "1", "container": "jobapi-1", "command": "run_algorithm"})
    assert follower.replayable
    assert service.engine._made is None


def test_an_engine_that_hangs_takes_no_thread_of_others(station: Station) -> None:
    """More followers than the threads of an event loop wait for an engine, and other work in threads goes on."""
    service = station.service()
    hangs = threading.Event()

    def inspect(_: str) -> None:
        hangs.wait(60)
        raise ServiceUnavailable("The engine is away.")

    service.engine.inspect = inspect  # type: ignore[method-assign]
    handle = {"job_id": "1", "container": "jobapi-1", "command": "run_algorithm"}

    async def use() -> str:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2))
        reads = [asyncio.create_task(service.follower(handle).read(None)) for _ in range(20)]
        await asyncio.sleep(0.2)
        try:
            return await asyncio.wait_for(asyncio.to_thread(lambda: "other work"), 30)
        finally:
            hangs.set()
            await asyncio.gather(*reads, return_exceptions=True)

    assert asyncio.run(use()) == "other work"
