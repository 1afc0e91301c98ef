# SPDX-License-Identifier: Apache-2.0
"""Reading a job's logs, with answers that the double does not give."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_provider_jobapi.services.answer import Answer
from airflow_provider_jobapi.services.modelarts.calls import Call
from airflow_provider_jobapi.services.modelarts.dialect_base import JobDetails, ModelArtsKey
from airflow_provider_jobapi.services.modelarts.dialects import dialect_of
from airflow_provider_jobapi.services.modelarts.errors import succeeded
from airflow_provider_jobapi.services.modelarts.job_logs import JobLogs
from airflow_provider_jobapi.services.polling import ReadLimits
from airflow_provider_jobapi.training.logs import RECORD_LIMIT, LogLine
from airflow_provider_jobapi.training.status import JobState, JobStatus
from tests.harness.loops import Heart

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DETAILS = JobDetails(
    JobStatus(name="job", status=JobState.RUNNING, submission_time=NOW), "Running", 1, "", ("worker-0",)
)
LINK = "https://obs/log?Signature=x"


def look(
    said: Callable[[Call], Any],
    log: bytes = b"",
    cursor: Any = None,
    details: JobDetails = DETAILS,
    *,
    final: bool = True,
) -> JobLogs:
    """Read the logs of a v2 job once; ``said`` returns the answer to a call."""

    async def send(call: Call, accept: Callable[[Answer], bool] = succeeded) -> Answer:
        answer = said(call)
        found = answer if isinstance(answer, Answer) else Answer(200, {}, json.dumps(answer).encode(), NOW)
        assert accept(found)
        return found

    async def fetch(url: str, begin: int, most: int) -> tuple[int, bytes]:
        assert url == LINK
        return begin, log[begin : begin + most]

    book = JobLogs(dialect_of("v2"), ModelArtsKey("1"), cursor)
    asyncio.run(book.read(details, send, fetch, final=final))
    assert book.trouble is None
    return book


def previewed(content: str, size: int, whole: int) -> Callable[[Call], Any]:
    preview = {"content": content, "current_size": size, "full_size": whole}
    return lambda call: {"obs_url": LINK} if call.path.endswith("/url") else preview


def texts(lines: list[LogLine]) -> list[str]:
    return [line.text for line in lines]


def test_a_log_with_invalid_utf_8() -> None:
    log = b"".join(b"line %d \xff\n" % number for number in range(100)).removesuffix(b"\n")
    expected = [f"line {number} \ufffd" for number in range(100)]
    cursor: Any = {"previews": True, "nodes": {}}
    lines = list[str]()
    for upto in (*range(300, len(log), 100), len(log)):
        end = log[max(0, upto - 200) : upto]
        said = previewed(end.decode(errors="replace"), len(end), upto)
        book = look(said, log[:upto], cursor, final=upto == len(log))
        cursor, lines = book.cursor(), lines + texts(book.lines)
    assert lines == expected


def test_no_immediate_read_after_an_empty_link() -> None:
    cursor = {"previews": True, "nodes": {"worker-0": {"offset": 10, "count": 1}}}
    book = look(previewed("end\n", 4, 5000), b"line 1234\n", cursor)
    assert (book.lines, book.behind) == ([], False)


def test_the_last_line_of_a_preview_is_shown_at_the_end() -> None:
    said = previewed("one\ntwo", 7, 7)
    first = look(said, cursor={"previews": True, "nodes": {}}, final=False)
    again = look(said, cursor=first.cursor(), final=False)
    assert (texts(first.lines), again.lines) == (["one"], [])
    assert texts(look(said, cursor=again.cursor(), final=True).lines) == ["two"]


@pytest.mark.parametrize("most", [ReadLimits().lines, 10**6])
def test_a_large_log_does_not_block_the_event_loop(most: int) -> None:
    """Measured by the CPU time of the loop's own thread, so independent of the machine's load."""
    limits = ReadLimits(lines=most, link_bytes=2**30)
    log = "".join(f"line {number} of many\n" for number in range(100_000)).encode()
    answers = {"preview": {"content": "end\n", "current_size": 4, "full_size": len(log)}, "url": {"obs_url": LINK}}
    heart = Heart()

    async def send(call: Call, accept: Callable[[Answer], bool] = succeeded) -> Answer:
        return Answer(200, {}, json.dumps(answers[call.path.rpartition("/")[2]]).encode(), NOW)

    async def fetch(url: str, begin: int, most: int) -> tuple[int, bytes]:
        return begin, log[begin : begin + most]

    async def read() -> list[str]:
        cursor: Any = {"previews": True, "nodes": {}}
        lines = list[str]()
        async with heart:
            while cursor.get("behind", True):
                book = JobLogs(dialect_of("v2"), ModelArtsKey("1"), cursor, limits)
                await book.read(DETAILS, send, fetch, final=True)
                assert len(book.lines) <= most
                cursor, lines = book.cursor(), lines + texts(book.lines)
        return lines

    gc.disable()  # it takes as long as the whole run of tests is large, in whichever thread
    try:
        assert asyncio.run(read()) == log.decode().splitlines()
    finally:
        gc.enable()
    assert heart.worked < 0.1


def page(call: Call) -> dict[str, Any]:
    if "base_line" in call.params:
        return {"content": "", "lines": 0}
    return {"content": f"line of {call.path.rpartition('/')[2]}\n", "lines": 1, "start_line": 5, "end_line": 5}


@pytest.mark.parametrize("nodes", [1, 2])
def test_tasks_with_the_same_number_have_streams_of_their_own(nodes: int) -> None:
    found = look(page, details=replace(DETAILS, nodes=nodes, tasks=("worker-0", "ps-0"))).lines
    assert {(line.text, line.stream, line.streams) for line in found} == {
        ("[ps-0] line of ps-0", 0, 2),
        ("[worker-0] line of worker-0", 1, 2),
    }


def test_tasks_missing_from_a_later_answer_are_still_read() -> None:
    def numbered(call: Call) -> dict[str, Any]:
        if call.params.get("base_line", "0") >= "6":
            return {"content": "", "lines": 0}
        first = 6 if "base_line" in call.params else 5
        return {"content": f"line {first}\n", "lines": 1, "start_line": first, "end_line": first}

    details = replace(DETAILS, nodes=2, tasks=("worker-0", "ps-0"))
    first = look(page, details=details)
    again = look(numbered, cursor=first.cursor(), details=replace(details, tasks=()))
    assert [(line.text, line.stream) for line in again.lines] == [("[ps-0] line 6", 0), ("[worker-0] line 6", 1)]
    assert look(numbered, cursor=again.cursor(), details=details).lines == []


def test_streams_are_numbered_like_nodes() -> None:
    found = look(page, details=replace(DETAILS, nodes=3, tasks=("worker-0", "worker-2"))).lines
    assert {(line.text, line.stream, line.streams) for line in found} == {
        (f"[node {node}] line of worker-{node}", node, 3) for node in (0, 2)
    }


@pytest.mark.parametrize("letter", ["x", "ü"])
def test_a_line_is_no_longer_than_a_record(letter: str) -> None:
    said = {"content": f"{letter * 10**6}\n", "lines": 1, "start_line": 5, "end_line": 5}
    (line,) = look(lambda call: {"content": "", "lines": 0} if "base_line" in call.params else said).lines
    assert line.text.endswith(f"{letter}…")
    assert RECORD_LIMIT - 2 <= len(line.text.encode()) <= RECORD_LIMIT


def test_control_characters_are_replaced() -> None:
    said = {"content": "1%\r2%\0\r\n", "lines": 1, "start_line": 5, "end_line": 5}
    (line,) = look(lambda call: {"content": "", "lines": 0} if "base_line" in call.params else said).lines
    assert line.text == "1% 2% "
