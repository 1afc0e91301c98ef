# SPDX-License-Identifier: Apache-2.0
"""The follower of ModelArts jobs against a double that runs them, in both dialects."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync

from airflow_provider_jobapi.exceptions import BrokenContract, ConnectionProblem, JobGone, ServiceUnavailable
from airflow_provider_jobapi.services.modelarts.follower import ModelArtsFollower
from airflow_provider_jobapi.training.logs import LogChunk, LogLine
from airflow_provider_jobapi.training.status import JobState
from tests.harness.loops import Heart
from tests.harness.modelarts.caller import Caller
from tests.harness.modelarts.double import ModelArts
from tests.harness.modelarts.samples import Samples
from tests.services.modelarts.follow import DIALECTS, JOB_ID, Gates, chunks, follow, following, handle, own, settings

COUNTS = "import time\nfor number in range(12):\n    print('line', number, flush=True)\n    time.sleep(0.1)\n"
WAITS = "import time\nprint('begun', flush=True)\ntime.sleep(600)\n"
LINES = [f"line {number}" for number in range(12)]
ENDED = (10, 11, 12, "Completed", "Failed", "Terminated")

pytestmark = pytest.mark.parametrize("dialect", DIALECTS)


def start(samples: Samples, dialect: str, code: str, **more: Any) -> str:
    return samples.start_v1(code, **more) if dialect == "v1" else samples.start_v2(code, **more)


def several(samples: Samples, dialect: str, code: str) -> str:
    if dialect == "v1":
        return samples.start_v1(code, spec_id=29, worker_server_num=3)
    return samples.start_v2(code, resource={"node_count": 3})


def test_a_job_is_followed_to_its_end(samples: Samples, modelarts: ModelArts, dialect: str, tmp_path: Path) -> None:
    gates = Gates(tmp_path)
    path = start(samples, dialect, gates.script)
    seen = list[tuple[JobState | None, int]]()

    def watch(chunk: LogChunk) -> None:
        seen.append((chunk.state, len(chunk.lines)))
        gates.open(chunk)

    lines = asyncio.run(chunks(following(modelarts, path), watch=watch))
    assert own(lines) == LINES
    assert [line.time for line in lines] == sorted(line.time for line in lines)
    assert abs(lines[0].time.timestamp() - time.time()) < 60
    assert sum(1 for state, count in seen if state is JobState.RUNNING and count) > 2  # live, not at the end
    assert lines == follow(modelarts, path)


def test_lines_name_their_node(samples: Samples, modelarts: ModelArts, dialect: str) -> None:
    path = several(samples, dialect, COUNTS)
    lines = own(follow(modelarts, path))
    for node in range(3):
        prefix = f"[node {node}] "
        assert [line.removeprefix(prefix) for line in lines if line.startswith(prefix)] == LINES


@pytest.mark.parametrize(
    ("cursors", "faults"),
    [
        ("exclusive", ["directions"]),
        ("inclusive", ["empty_base_line"]),
        ("half_open", ["directions", "empty_base_line"]),
    ],
)
def test_interpretations_of_the_documents(
    samples: Samples, modelarts: ModelArts, dialect: str, cursors: str, faults: list[str]
) -> None:
    """One combination for each kind of cursor on the double; test_log_pager has all of them."""
    modelarts.inject_fault("cursors", mode=cursors)
    for fault in ("string_numbers", *faults):
        modelarts.inject_fault(fault)
    path = start(samples, dialect, "print('\\n'.join(map(str, range(1300))))")
    assert own(follow(modelarts, path)) == [str(number) for number in range(1300)]


def test_lines_that_arrive_after_the_end(samples: Samples, modelarts: ModelArts, dialect: str) -> None:
    modelarts.inject_fault("late_lines", seconds=0.6, last=3)
    path = start(samples, dialect, COUNTS)
    lines = follow(modelarts, path, quiet=2.0)
    assert own(lines) == LINES
    assert lines[-1].text.startswith(
        ("[ModelArts Service Log]modelarts-pipe: total", "[Modelarts Service Log][sidecar]")
    )


def test_a_service_that_is_busy(samples: Samples, modelarts: ModelArts, dialect: str) -> None:
    modelarts.inject_fault("too_many_requests", every=3, retry_after=0.2, path=r"GET .*training-jobs/.*/")
    path = start(samples, dialect, "print('line 1')")
    assert own(follow(modelarts, path)) == ["line 1"]


def test_no_request_of_a_job_before_the_time_of_retry_after(
    samples: Samples, modelarts: ModelArts, dialect: str
) -> None:
    path = start(samples, dialect, WAITS)
    seen = len(modelarts.requests())
    modelarts.inject_fault("too_many_requests", every=1, times=6, retry_after=1, path=r"GET .*training-jobs/")

    async def ask() -> None:
        follower = following(modelarts, path)
        # The log is read, and beside it the status is asked for.
        await asyncio.gather(follower.read(None), follower.status(), return_exceptions=True)
        await follower.read(None)
        await follower.stop()

    asyncio.run(ask())
    asked = [each for each in modelarts.requests()[seen:] if each["method"] == "GET"]
    refused = [each["time"] for each in asked if each["status"] == 429]
    assert len(refused) == 6
    for time_of_refusal in refused:
        assert not [each for each in asked if 0 < each["time"] - time_of_refusal < 0.95]


def test_a_service_that_is_down(samples: Samples, modelarts: ModelArts, dialect: str) -> None:
    path = start(samples, dialect, COUNTS)

    async def read() -> list[str]:
        follower = following(modelarts, path)
        modelarts.inject_fault("unavailable", times=1, retry_after=77)
        with pytest.raises(ServiceUnavailable) as raised:
            await follower.read(None)
        assert raised.value.retry_after == 77
        modelarts.inject_fault("unavailable", times=5)
        lines = await chunks(follower)
        return own(lines)

    assert asyncio.run(read()) == LINES


@pytest.mark.usefixtures("no_cached_sessions")
@pytest.mark.parametrize("status", [401, 403])
def test_token_expires(samples: Samples, modelarts: ModelArts, dialect: str, status: int) -> None:
    path = start(samples, dialect, COUNTS)
    logins = count(modelarts, "/v3/auth/tokens")

    def watch(chunk: LogChunk) -> None:
        if any(line.text.endswith("line 3") for line in chunk.lines):
            modelarts.inject_fault("expired_token", status=status)

    lines = asyncio.run(chunks(following(modelarts, path), watch=watch))
    assert own(lines) == LINES
    assert count(modelarts, "/v3/auth/tokens") - logins <= 2


def test_a_new_token_is_masked_in_a_thread_of_the_event_loop(
    samples: Samples, modelarts: ModelArts, dialect: str
) -> None:
    """Airflow 3.1 finds the event loop from the thread, and corrupts the connection to its supervisor without it."""
    path = start(samples, dialect, "print('line 1')")
    loops = list[asyncio.AbstractEventLoop]()

    async def here() -> None:
        loops.append(asyncio.get_running_loop())

    async def ask() -> asyncio.AbstractEventLoop:
        connection = settings(modelarts, dialect, timeout=29.5)  # without a cached session
        follower = ModelArtsFollower(connection, handle(path), lambda _token: async_to_sync(here)())
        await follower.read(None)
        return asyncio.get_running_loop()

    assert [asyncio.run(ask())] == loops


def count(double: ModelArts, path: str) -> int:
    return sum(1 for request in double.requests() if path in request["path"])


def test_a_service_that_is_killed(samples: Samples, modelarts: ModelArts, dialect: str) -> None:
    path = start(samples, dialect, COUNTS)
    killed = threading.Event()

    def watch(chunk: LogChunk) -> None:
        if any(line.text.endswith("line 4") for line in chunk.lines) and not killed.is_set():
            killed.set()
            modelarts.kill()
            threading.Timer(1, modelarts.restart).start()

    assert own(asyncio.run(chunks(following(modelarts, path), watch=watch))) == LINES
    assert killed.is_set()


def test_a_follower_continues_at_another_ones_cursor(
    caller: Caller, samples: Samples, modelarts: ModelArts, dialect: str
) -> None:
    path = start(samples, dialect, "for number in range(100): print('line', number)")
    caller.wait(path, *ENDED)
    whole = follow(modelarts, path)

    async def hop() -> list[Any]:
        cursor, lines = None, list[Any]()
        while True:
            chunk = await following(modelarts, path).read(cursor)
            if not chunk.lines:
                return lines
            lines, cursor = lines + list(chunk.lines), chunk.cursor

    assert asyncio.run(hop()) == whole
    assert own(whole) == [f"line {number}" for number in range(100)]


def test_a_cancelled_read_loses_no_line(samples: Samples, modelarts: ModelArts, dialect: str) -> None:
    path = start(samples, dialect, COUNTS)

    async def read() -> list[str]:
        follower, cursor, lines = following(modelarts, path), None, list[Any]()
        for wait in (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25) * 3:
            try:
                async with asyncio.timeout(wait):
                    chunk = await follower.read(cursor)
            except TimeoutError:
                continue
            lines, cursor = lines + list(chunk.lines), chunk.cursor
        return own(lines + await chunks(follower, cursor))

    assert asyncio.run(read()) == LINES


def test_status_and_stop(samples: Samples, modelarts: ModelArts, dialect: str) -> None:
    path = start(samples, dialect, WAITS)

    async def ask() -> list[str]:
        async with following(modelarts, path) as follower:
            cursor, lines = None, list[LogLine]()
            while not own(lines):
                chunk = await follower.read(cursor)
                cursor, lines = chunk.cursor, lines + list(chunk.lines)
            chunk = await follower.read(cursor)
            cursor, lines = chunk.cursor, lines + list(chunk.lines)
            status = await follower.status()
            assert (status.job_id, status.status) == (JOB_ID, JobState.RUNNING)
            await follower.stop()
            lines += await chunks(follower, cursor)
            await follower.stop()
            assert (await follower.status()).status is JobState.STOPPED
            return own(lines)

    assert asyncio.run(ask()) == ["begun"]


@pytest.mark.parametrize("over", [True, False])
def test_a_stop_refused_with_an_undocumented_code(
    caller: Caller, samples: Samples, modelarts: ModelArts, dialect: str, over: bool
) -> None:
    path = start(samples, dialect, "print('line')" if over else WAITS)
    caller.wait(path, *(ENDED if over else (8, "Running")))
    modelarts.inject_fault("refusal", status=400, code="0105", message="no", path=r"POST .*(stop|actions)", times=1)
    if over:
        asyncio.run(following(modelarts, path).stop())
    else:
        with pytest.raises(BrokenContract, match="0105"):
            asyncio.run(following(modelarts, path).stop())


def test_status_is_taken_from_the_last_read(samples: Samples, modelarts: ModelArts, dialect: str) -> None:
    path = start(samples, dialect, WAITS)
    seen = len(modelarts.requests())

    async def ask() -> None:
        follower = following(modelarts, path, poll_interval=5)
        await follower.read(None)
        for _ in range(5):
            await follower.status()

    asyncio.run(ask())
    details = path.rpartition("/")[2]
    assert len([each for each in modelarts.requests()[seen:] if each["path"].endswith(details)]) == 1


def test_deleted_job(caller: Caller, samples: Samples, modelarts: ModelArts, dialect: str) -> None:
    path = start(samples, dialect, WAITS)

    async def read() -> None:
        async with following(modelarts, path) as follower:
            await follower.read(None)
            caller.ok("DELETE", path.partition("/versions/")[0])
            with pytest.raises(JobGone, match=r"2775.*it was deleted"):
                await follower.read(None)
            await follower.stop()

    asyncio.run(read())


def test_a_connection_that_is_refused(samples: Samples, modelarts: ModelArts, dialect: str) -> None:
    path = start(samples, dialect, WAITS)
    with pytest.raises(ConnectionProblem, match="project 'nowhere'"):
        asyncio.run(following(modelarts, path, project="nowhere").read(None))
    modelarts.inject_fault("refusal", status=403, code="0112", message="no", times=1)
    with pytest.raises(ConnectionProblem, match="give the connection's user the permission"):
        asyncio.run(following(modelarts, path).read(None))


def test_unknown_state(samples: Samples, modelarts: ModelArts, dialect: str, caplog: pytest.LogCaptureFixture) -> None:
    path = start(samples, dialect, "print('line')")
    modelarts.inject_fault("status", code=99)

    async def read() -> list[JobState | None]:
        follower = following(modelarts, path)
        return [(await follower.read(None)).state for _ in range(3)]

    assert set(asyncio.run(read())) == {JobState.UNKNOWN}
    assert caplog.text.count("unknown state") == 1


def test_a_handle_or_a_cursor_of_another_service(modelarts: ModelArts, dialect: str) -> None:
    path = f"/{dialect}/p/training-jobs/1/versions/2"
    broken = handle(path) | {"modelarts_id": ""}
    with pytest.raises(BrokenContract, match="has no modelarts_id"):
        ModelArtsFollower(settings(modelarts, dialect), broken)


def test_the_event_loop_is_not_blocked(samples: Samples, modelarts: ModelArts, dialect: str) -> None:
    path = start(samples, dialect, WAITS)
    modelarts.inject_fault("slow", seconds=2.0, times=20)

    async def longest_gap() -> float:
        async with Heart() as heart:
            await asyncio.gather(*(following(modelarts, path).read(None) for _ in range(20)))
        return heart.waited

    assert asyncio.run(longest_gap()) < 1.5
    name = f"modelarts {modelarts.url}"
    assert 0 < len([thread for thread in threading.enumerate() if thread.name.startswith(name)]) <= 16


def test_a_log_that_was_cleared_ends_with_its_job(
    caller: Caller, samples: Samples, modelarts: ModelArts, dialect: str
) -> None:
    path = start(samples, dialect, "print('line')")
    caller.wait(path, *ENDED)
    modelarts.inject_fault("refusal", code="2819", message="LogFileHasCleared", path=r"GET .*log", times=None)
    assert follow(modelarts, path) == []


def test_a_script_that_fails(samples: Samples, modelarts: ModelArts, dialect: str) -> None:
    path = start(samples, dialect, "print('line')\nraise SystemExit('3 of 5 files are missing')")
    assert own(follow(modelarts, path)) == ["line", "3 of 5 files are missing"]
    status = asyncio.run(following(modelarts, path).status())
    assert status.status is JobState.FAILED
    assert status.exit_code == (1 if dialect == "v2" else None)


@pytest.mark.parametrize("fault", ["soft_failures", "error_key", "log_file_list", "separator"])
def test_contradictory_formats_of_the_documents_in_logs(
    samples: Samples, modelarts: ModelArts, dialect: str, fault: str
) -> None:
    modelarts.inject_fault(fault)
    path = start(samples, dialect, "print('one')\nprint()\nprint('two')")
    assert own(follow(modelarts, path)) == ["one", "", "two"]
