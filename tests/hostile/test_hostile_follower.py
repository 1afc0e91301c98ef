# SPDX-License-Identifier: Apache-2.0
"""The triggerer's side of a jobAPI before a service that lies: a thousand other triggers live in the same event loop."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_jobapi.exceptions import BrokenContract, ConnectionProblem, TrainingError
from airflow_provider_jobapi.services import retry
from airflow_provider_jobapi.training.logs import LogChunk
from airflow_provider_jobapi.training.status import JobState
from tests.harness.hostile_server import (
    TOKEN,
    Answer,
    Computed,
    HostileServer,
    Raw,
    Silence,
    Trickle,
    as_json,
    log_page,
    records,
)
from tests.harness.loops import Heart
from tests.hostile.lies import BRIEF, HANDLE, JOB_ID, check_error, service
from tests.hostile.shapes import SHAPES


def follow(server: HostileServer, work: Callable[[Any], Awaitable[Any]], within: float = 60, **extra: Any) -> Any:
    """Do something with a follower, in an event loop in which something else lives too."""

    async def run() -> Any:
        heart = Heart()
        try:
            async with heart, asyncio.timeout(within), service(server, **extra).follower(HANDLE) as follower:
                return await work(follower)
        finally:
            assert heart.worked < 1.0, f"The event loop worked for {heart.worked:.1f} s without a pause."
            assert heart.waited < 10.0, f"The event loop stood still for {heart.waited:.1f} s."

    with retry.testing():
        return asyncio.run(run())


def fails(
    server: HostileServer, cursor: Any = None, *kinds: type[TrainingError], within: float = 60, **extra: Any
) -> TrainingError:
    """A read that must end in one error of our tree."""
    with pytest.raises(TrainingError) as caught:
        follow(server, lambda follower: follower.read(cursor), within, **extra)
    check_error(caught.value, *kinds)
    return caught.value


def test_an_honest_service_is_believed(hostile: HostileServer) -> None:
    chunk = follow(hostile, lambda follower: follower.read(None))
    assert [line.text for line in chunk.lines] == ["hello", "world"]
    assert (chunk.state, chunk.complete) == (JobState.SUCCESSFUL, True)
    follow(hostile, lambda follower: follower.stop())
    assert hostile.count("/stop") == 1


_LONG = {"silence", "100-for-ever"}
"""A log request may be held for 25 seconds by the contract, so these are given up only after more."""


@pytest.mark.parametrize(
    ("route", "shape"),
    [("/oauth/token", shape) for shape in SHAPES] + [("/logs", shape) for shape in SHAPES if shape not in _LONG],
)
def test_an_answer_of_the_wrong_shape(route: str, shape: str, hostile: HostileServer, tally: Counter[str]) -> None:
    hostile.says(route, SHAPES[shape])
    tally["lies told to the follower"] += 1
    fails(hostile, timeout=BRIEF)


@pytest.mark.slow
def test_answers_that_never_come_are_given_up_all_at_the_same_time(tally: Counter[str]) -> None:
    """A log request may be held for 25 seconds; what never becomes an answer is given up soon after, each by itself."""
    never = [
        Silence(),
        SHAPES["100-for-ever"],
        Trickle(b"HTTP/1.1 200 OK\r\nX: " + b"a" * 60_000, 0.5),
        Trickle(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n" + b" " * 60_000, 0.5),
    ]

    async def read(server: HostileServer) -> TrainingError:
        async with service(server).follower(HANDLE) as follower:
            try:
                await follower.read(None)
            except TrainingError as error:
                return error
        raise AssertionError("There was no error.")

    async def run(servers: list[HostileServer]) -> list[TrainingError]:
        async with asyncio.timeout(90):
            return await asyncio.gather(*(read(server) for server in servers))

    with ExitStack() as stack:
        servers = [stack.enter_context(HostileServer()) for _ in range(2 * len(never))]
        for number, server in enumerate(servers):
            server.says("/logs" if number % 2 else "/oauth/token", never[number // 2])
        with retry.testing():
            errors = asyncio.run(run(servers))
    for error in errors:
        check_error(error)
    tally["lies told to the follower"] += len(errors)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("route", ["/logs", "/stop", "/oauth/token"])
def test_no_redirect_is_followed_and_no_token_goes_along(
    route: str, status: int, hostile: HostileServer, tally: Counter[str]
) -> None:
    with HostileServer() as elsewhere:
        for host in ("127.0.0.1", "localhost"):
            hostile.says(route, Answer(status, {"Location": f"http://{host}:{elsewhere.port}/take"}))
            with pytest.raises(ConnectionProblem) as caught:
                follow(hostile, lambda follower: follower.stop() if route == "/stop" else follower.read(None))
            check_error(caught.value)
            tally["redirects that were not followed"] += 1
        assert elsewhere.seen == []


@pytest.mark.parametrize(
    ("page", "offset"),
    [
        pytest.param(log_page(b"no time here\n", 0), 0, id="no-time"),
        pytest.param(log_page(b"2026-01-01T00:00:00.000000Z cut", 0), 0, id="cut"),
        pytest.param(log_page(b"2026-13-01T00:00:00.000000Z month\n", 0), 0, id="a-month-that-is-none"),
        pytest.param(log_page(b"2026-01-01T00:00:00.000000  naive\n", 0), 0, id="no-zone"),
        pytest.param(log_page(b"\n", 0), 0, id="an-empty-record"),
        pytest.param(log_page(records("a"), 1_000), 0, id="ahead"),
        pytest.param(log_page(records("a"), 0), 1_000, id="goes-back"),
        pytest.param(log_page(records("a"), 0, Job_Log_Next_Offset="0"), 0, id="does-not-move-with-the-bytes"),
        pytest.param(log_page(b"", 0, Job_Log_Next_Offset="50", Job_Log_Size="50"), 0, id="moves-without-bytes"),
        pytest.param(log_page(records("a"), 0, Job_Log_Next_Offset="-5"), 0, id="negative"),
        pytest.param(log_page(records("a"), 0, Job_Log_Next_Offset="9" * 30), 0, id="beyond-all"),
        pytest.param(log_page(records("a"), 0, Job_Log_Next_Offset="٣٠"), 0, id="digits-of-another-script"),
        pytest.param(log_page(records("a"), 0, Job_Log_Size="1"), 0, id="smaller-than-itself"),
        pytest.param(Answer(200, {}, records("a")), 0, id="no-headers"),
        pytest.param(log_page(records("a" * 2_000_000), 0), 0, id="too-much-in-one-record"),
        pytest.param(log_page(records(*["a"] * 60_000), 0), 0, id="too-many-records"),
        pytest.param(as_json({"detail": "no"}, 416), 10, id="416-without-a-size"),
        pytest.param(as_json({"detail": "no"}, 416, **{"Job-Log-Size": "99"}), 10, id="416-and-large-enough"),
        pytest.param(as_json({"detail": "no"}, 416, **{"Job-Log-Size": "-1"}), 10, id="416-and-negative"),
    ],
)
def test_a_page_that_cannot_be(page: Answer, offset: int, hostile: HostileServer, tally: Counter[str]) -> None:
    headers = {name: value.encode().decode("latin-1") for name, value in page.headers.items()}
    hostile.says("/logs", Answer(page.status, headers, page.body))
    fails(hostile, {"offset": offset}, BrokenContract)
    tally["lies told to the follower"] += 1


def test_a_log_that_shrinks_for_ever_brings_no_line_twice(hostile: HostileServer) -> None:
    """After a power cut a log may be shorter; a service that plays this again and again gets nowhere."""

    def shrink(seen):
        offset = int(seen.path.partition("offset=")[2].partition("&")[0])
        return log_page(records("a"), 0) if offset == 0 else as_json({}, 416, **{"Job-Log-Size": str(offset // 2)})

    async def read(follower: Any) -> list[LogChunk]:
        chunks, cursor = [], None
        for _ in range(6):
            chunks.append(await follower.read(cursor))
            cursor = chunks[-1].cursor
        return chunks

    hostile.says("/logs", Computed(shrink))
    chunks = follow(hostile, read)
    assert sum(len(chunk.lines) for chunk in chunks) == 1
    offsets = [chunk.cursor["offset"] for chunk in chunks]
    assert offsets == sorted(offsets, reverse=True)


def test_a_word_that_is_no_state_ends_nothing(hostile: HostileServer) -> None:
    hostile.says("/logs", log_page(b"", 0, state="\x80VAPORIZED" + "x" * 5_000, complete=True))
    chunk = follow(hostile, lambda follower: follower.read(None))
    assert (chunk.state, chunk.complete) == (JobState.UNKNOWN, False)


def test_a_service_that_hurries_is_not_hurried_along(hostile: HostileServer) -> None:
    """Answers at once that there is nothing new: no more than about one request a second."""
    hostile.says("/logs", log_page(b"", 0))

    async def read(follower: Any) -> None:
        for _ in range(4):
            await follower.read(None)

    async def run() -> None:
        async with service(hostile).follower(HANDLE) as follower:
            await read(follower)

    started = time.monotonic()
    asyncio.run(run())
    assert time.monotonic() - started > 2.5
    assert hostile.count("/logs") == 4


@pytest.mark.parametrize(
    "cursor", [1, "0", [], {}, {"offset": -1}, {"offset": "0"}, {"offset": True}, {"offset": 1.5}, {"offset": None}]
)
def test_a_cursor_that_is_none(cursor: Any, hostile: HostileServer) -> None:
    fails(hostile, cursor, BrokenContract)
    assert hostile.count("/logs") == 0


@pytest.mark.parametrize("handle", [None, {}, "x", {"job_id": 7}, {"job_id": ""}, {"job_id": None}])
def test_a_handle_that_is_none(handle: Any, hostile: HostileServer) -> None:
    with pytest.raises(BrokenContract) as caught:
        service(hostile).follower(handle)
    check_error(caught.value)


@pytest.mark.parametrize(
    "job_id", ["../../oauth/token", "a/../../..", "a?b=c", "a#b", "a\r\nX: y", "%2e%2e", "a b", "ä"]
)
def test_no_handle_leads_to_another_route(job_id: str, hostile: HostileServer) -> None:
    async def run() -> None:
        async with service(hostile).follower({"job_id": job_id}) as follower:
            await follower.read(None)

    with retry.testing():
        asyncio.run(run())
        service(hostile).stop({"job_id": job_id})
    asked = [seen for seen in hostile.seen if "/jobs/" in seen.path]
    assert len(asked) == 2
    for seen in asked:
        parts = seen.path.partition("?")[0].split("/")
        assert parts[:4] == ["", "api", "v2", "jobs"]
        assert len(parts) == 6
        assert seen.headers["authorization"] == f"Bearer {TOKEN}"
        assert "x" not in seen.headers


@settings(max_examples=120, derandomize=True, suppress_health_check=list(HealthCheck), database=None)
@given(
    body=st.binary(max_size=200) | st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20), max_size=4).map(lambda texts: records(*texts)),
    next_offset=st.none() | st.integers(-10, 10_000).map(str) | st.text(st.characters(min_codepoint=33, max_codepoint=255, exclude_characters="\x7f\x85\xa0"), max_size=10),
    size=st.none() | st.integers(-10, 10_000).map(str),
    state=st.none() | st.sampled_from(["RUNNING", "FAILED", "successful", "?"]),
    complete=st.booleans(),
    status=st.sampled_from([200, 200, 200, 206, 416]),
)  # fmt: skip
def test_no_page_brings_an_error_of_somebody_else_or_moves_the_cursor_wrongly(
    hostile: HostileServer,
    tally: Counter[str],
    body: bytes,
    next_offset: str | None,
    size: str | None,
    state: str | None,
    complete: bool,
    status: int,
) -> None:
    told = {"Job-Log-Next-Offset": next_offset, "Job-Log-Size": size, "Job-Status": state}
    headers = {name: value for name, value in told.items() if value is not None}
    headers |= {"Job-Log-Complete": "true" if complete else "no"}
    hostile.says("/logs", Answer(status, headers, body))
    tally["lies told to the follower"] += 1
    try:
        chunk = follow(hostile, lambda follower: follower.read(None))
    except TrainingError as error:
        check_error(error)
        return
    assert chunk.cursor == {"offset": len(body) if status != 416 else int(size or 0)} or status == 416
    assert len(chunk.lines) == (body.count(b"\n") if status != 416 else 0)
    assert not chunk.complete or (chunk.state is not None and chunk.state.ended)


def test_one_liar_does_not_hold_up_the_followers_of_another_service(hostile: HostileServer) -> None:
    hostile.says("/logs", Silence())
    with HostileServer() as other:

        async def run() -> None:
            async with service(hostile).follower(HANDLE) as stuck, service(other).follower(HANDLE) as good:
                waiting = asyncio.create_task(stuck.read(None))
                async with asyncio.timeout(60):
                    while not hostile.count(JOB_ID):  # noqa: ASYNC110 -- the server is another thread
                        await asyncio.sleep(0.01)
                    for _ in range(5):
                        await good.read(None)
                assert not waiting.done()
                waiting.cancel()
                await asyncio.gather(waiting, return_exceptions=True)

        with retry.testing():
            asyncio.run(run())
    assert hostile.count(JOB_ID) == 1


def test_an_endless_log_comes_in_pages(hostile: HostileServer) -> None:
    page = records(*["x" * 1_000] * 900)

    def more(seen):
        return log_page(page, int(seen.path.partition("offset=")[2].partition("&")[0]))

    async def read(follower: Any) -> int:
        cursor, count = None, 0
        for _ in range(10):
            chunk = await follower.read(cursor)
            cursor, count = chunk.cursor, count + len(chunk.lines)
        return count

    hostile.says("/logs", Computed(more))
    assert follow(hostile, read) == 9_000


def test_a_page_on_a_connection_that_is_reset(hostile: HostileServer) -> None:
    hostile.says("/logs", Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\nJob-Log-Next-Offset: 100\r\n\r\nhalf"))
    fails(hostile)
