# SPDX-License-Identifier: Apache-2.0
"""The request for the logs of many jobs, on a virtual clock, and its answers."""

from __future__ import annotations

import asyncio
import contextvars
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_jobapi.exceptions import BrokenContract, ServiceUnavailable
from airflow_provider_jobapi.services.answer import Answer
from airflow_provider_jobapi.services.jobapi import channel as channels
from airflow_provider_jobapi.services.jobapi import contract, follow_many
from airflow_provider_jobapi.services.jobapi.channel import ASK_AGAIN, LEAST_INTERVAL, MOST_POLLS, Channel
from airflow_provider_jobapi.services.jobapi.contract import Request
from airflow_provider_jobapi.services.jobapi.follow_many import MEDIA_TYPE, MOST_JOBS, Place
from airflow_provider_jobapi.training.status import JobState
from tests.harness.records import format_record
from tests.harness.virtual_time import run

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
LINE = format_record(NOON, "a line")
ASKED = contextvars.ContextVar("ASKED", default="nobody")


def entry(job_id: str, offset: int, records: bytes = b"", **more: Any) -> bytes:
    end = offset + len(records)
    head = {"job": job_id, "state": "RUNNING", "next_offset": end, "size": end, "complete": False, "scalars": 0}
    return json.dumps(head | more | {"length": len(records)}).encode() + b"\n" + records


def answered(body: bytes, status: int = 200, content_type: str = MEDIA_TYPE) -> Answer:
    return Answer(status, {"content-type": content_type}, body, NOON)


class Service:
    """A service on a virtual clock; it has the logs of jobs and answers long polls.

    :ivar room: The most jobs of one answer.
    :ivar sent: When each request came, and the jobs in it.
    """

    def __init__(self) -> None:
        self.logs: dict[str, bytes] = {}
        self.room = MOST_JOBS
        self.sent: list[tuple[float, list[str]]] = []
        self.open = self.most_open = 0
        self.error: Exception | None = None
        self.status = 200
        self.waits = True
        self.contexts: set[str] = set()
        self._grown = asyncio.Event()
        self.channel = Channel(self.send, clock=lambda: asyncio.get_running_loop().time())

    def write(self, job_id: str, records: bytes = LINE) -> None:
        self.logs[job_id] = self.logs.get(job_id, b"") + records
        self._grown.set()

    async def send(self, request: Request) -> Answer:
        assert request.body is not None
        jobs = {each["job"]: each["offset"] for each in json.loads(request.body)["jobs"]}
        loop = asyncio.get_running_loop()
        self.sent.append((loop.time(), list(jobs)))
        self.contexts.add(ASKED.get())
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            await asyncio.sleep(0.005)
            if self.error is not None:
                raise self.error
            if self.status != 200:
                return answered(b"{}", self.status, "application/json")
            until = loop.time() + (contract.LONGEST_WAIT if self.waits else 0)
            while not (body := self._news(jobs)) and loop.time() < until:
                self._grown.clear()
                try:
                    async with asyncio.timeout_at(until):
                        await self._grown.wait()
                except TimeoutError:
                    pass
            return answered(body)
        finally:
            self.open -= 1

    def _news(self, jobs: dict[str, int]) -> bytes:
        grown = [job for job, offset in jobs.items() if len(self.logs.get(job, b"")) > offset][: self.room]
        return b"".join(entry(job, jobs[job], self.logs[job][jobs[job] :]) for job in grown)

    async def read(self, job_id: str, offset: int = 0) -> bytes:
        answer = await self.channel.read(Place(job_id, offset, JobState.RUNNING))
        assert answer is not None
        page = contract.read_log_page(answer, offset)
        assert page.next_offset == offset + len(answer.body)
        return answer.body

    async def follow(self, job_id: str, lines: int) -> list[float]:
        """Read a job until it has so many lines; returns when each read ended."""
        offset, ended = 0, []
        while offset < lines * len(LINE):
            offset += len(await self.read(job_id, offset))
            ended.append(asyncio.get_running_loop().time())
        return ended


def now() -> float:
    return asyncio.get_running_loop().time()


def names(count: int) -> list[str]:
    return [f"job-{number}" for number in range(count)]


def test_many_jobs_are_read_by_one_request_and_each_gets_its_own_lines() -> None:
    async def main() -> None:
        service = Service()
        reads = {name: asyncio.create_task(service.read(name)) for name in names(1_000)}
        await asyncio.sleep(1)
        assert [len(jobs) for _, jobs in service.sent] == [1_000]
        for name in ("job-3", "job-7"):
            service.write(name, LINE + format_record(NOON, name))
        assert await reads["job-3"] == LINE + format_record(NOON, "job-3")
        assert await reads["job-7"] == LINE + format_record(NOON, "job-7")
        await asyncio.sleep(1)
        assert [len(jobs) for _, jobs in service.sent] == [1_000, 998]
        assert sum(read.done() for read in reads.values()) == 2
        await cancelled(reads.values())
        await service.channel.close()

    run(main())


async def cancelled(tasks: Iterable[asyncio.Task[Any]]) -> None:
    waiting = [task for task in tasks if not task.done()]
    for task in waiting:
        task.cancel()
    if waiting:
        await asyncio.wait(waiting)


def test_a_job_that_is_asked_for_while_others_wait_waits_for_none_of_them() -> None:
    async def main() -> None:
        service = Service()
        quiet = [asyncio.create_task(service.read(name)) for name in names(100)]
        for number in range(20):
            await asyncio.sleep(0.37)
            service.write(f"late-{number}")
            began = now()
            assert await service.read(f"late-{number}") == LINE
            assert now() - began <= LEAST_INTERVAL + 0.01
        assert service.most_open <= MOST_POLLS
        assert sum(len(jobs) == 100 for _, jobs in service.sent) == 1, "the long list is not sent again for each"
        await cancelled(quiet)
        await service.channel.close()

    run(main())


def test_a_line_a_second_of_a_thousand_jobs_takes_few_requests_and_comes_soon() -> None:
    async def main() -> None:
        service, lines = Service(), 10
        follows = [asyncio.create_task(service.follow(name, lines)) for name in names(1_000)]
        written: dict[tuple[str, int], float] = {}

        async def write(number: int, name: str) -> None:
            for line in range(lines):
                await asyncio.sleep(number / 1_000 + line - now())
                written[name, line] = now()
                service.write(name)

        await asyncio.gather(*(write(number, name) for number, name in enumerate(names(1_000))))
        seen = await asyncio.gather(*follows)
        late = [
            moment - written[name, line]
            for name, moments in zip(names(1_000), seen, strict=True)
            for line, moment in enumerate(moments)
        ]
        assert len(late) == 1_000 * lines
        assert max(late) <= 2 * LEAST_INTERVAL + 0.01
        assert len(service.sent) <= (lines + 1) / LEAST_INTERVAL
        await service.channel.close()

    run(main())


def test_requests_are_a_fifth_of_a_second_apart_and_a_second_where_the_service_does_not_wait() -> None:
    async def times(service: Service) -> list[float]:
        async def ask(name: str) -> None:
            for _ in range(200):
                service.write(name)
                offset = len(service.logs[name]) - len(LINE)
                await service.read(name, offset)

        follow = [asyncio.create_task(ask(name)) for name in names(50)]
        await asyncio.sleep(20)
        await cancelled(follow)
        await service.channel.close()
        return [moment for moment, _ in service.sent]

    def apart(moments: list[float]) -> float:
        return min(later - earlier for earlier, later in pairwise(moments))

    async def quiet() -> list[float]:
        service = Service()
        service.waits = False
        reads = [asyncio.create_task(service.read(name)) for name in names(50)]
        await asyncio.sleep(20)
        await cancelled(reads)
        await service.channel.close()
        return [moment for moment, _ in service.sent]

    async def busy() -> list[float]:
        return await times(Service())

    assert apart(run(busy())) >= LEAST_INTERVAL - 1e-9
    waiting = run(quiet())
    assert len(waiting) >= 19
    assert apart(waiting) >= channels.QUIET_INTERVAL - 1e-9


def test_a_job_without_news_is_answered_after_25_seconds() -> None:
    async def main() -> None:
        service = Service()
        busy = asyncio.create_task(service.follow("busy", 10**6))

        async def write() -> None:
            while True:
                service.write("busy")
                await asyncio.sleep(0.5)

        writing = asyncio.create_task(write())
        answer = await service.channel.read(Place("quiet", 123, JobState.PENDING))
        assert contract.LONGEST_WAIT <= now() <= contract.LONGEST_WAIT + 1
        assert answer is not None
        page = contract.read_log_page(answer, 123)
        assert (page.lines, page.next_offset, page.state, page.complete) == ((), 123, JobState.PENDING, False)
        await cancelled([busy, writing])
        await service.channel.close()

    run(main())


def test_a_job_without_news_is_answered_while_others_are_asked_for_again_and_again() -> None:
    """Ended for each that comes later, a request would leave its jobs without any answer."""

    async def main() -> None:
        service = Service()

        async def show(name: str) -> None:
            offset = 0
            while True:
                offset += len(await service.read(name, offset))
                await asyncio.sleep(1)  # to show what came

        async def write() -> None:
            for name in names(40):
                await asyncio.sleep(20)
                service.write(name)

        many = [asyncio.create_task(each) for each in (*map(show, names(40)), write())]
        await asyncio.sleep(1)
        await service.channel.read(Place("quiet", 123, JobState.PENDING))
        assert now() <= 1 + 2 * (contract.LONGEST_WAIT + 1)
        assert service.most_open <= 2 * MOST_POLLS
        await cancelled(many)
        await service.channel.close()

    run(main())


def test_a_reader_that_is_cancelled_disturbs_no_other_and_loses_nothing() -> None:
    async def main() -> None:
        service = Service()
        reads = {name: asyncio.create_task(service.read(name)) for name in names(10)}
        await asyncio.sleep(1)
        await cancelled([reads.pop("job-4")])
        service.write("job-4")
        service.write("job-5")
        assert await reads.pop("job-5") == LINE
        assert await service.read("job-4") == LINE
        assert not any(read.done() for read in reads.values())
        await cancelled(reads.values())
        await service.channel.close()

    run(main())


def test_where_an_answer_has_no_room_for_all_each_gets_its_turn() -> None:
    async def main() -> None:
        service = Service()
        service.room = 10
        for name in names(100):
            for _ in range(1_000):
                service.write(name)
        endless = [asyncio.create_task(service.follow(name, 10**6)) for name in names(10)]
        reads = [asyncio.create_task(service.read(name)) for name in names(100)[10:]]
        await asyncio.wait_for(asyncio.gather(*reads), 11 * (LEAST_INTERVAL + 0.01))
        await cancelled(endless)
        await service.channel.close()

    run(main())


def test_more_jobs_than_one_request_may_have() -> None:
    async def main() -> None:
        service = Service()
        reads = {name: asyncio.create_task(service.read(name)) for name in names(2 * MOST_JOBS + 7)}
        await asyncio.sleep(5)
        assert sorted(len(jobs) for _, jobs in service.sent) == [7, MOST_JOBS, MOST_JOBS]
        service.write(f"job-{2 * MOST_JOBS + 6}")
        service.write("job-0")
        assert await reads[f"job-{2 * MOST_JOBS + 6}"] == await reads["job-0"] == LINE
        await cancelled(reads.values())
        await service.channel.close()

    run(main())


def test_an_error_is_each_readers_and_the_next_request_is_as_usual() -> None:
    async def main() -> None:
        service = Service()
        service.error = ServiceUnavailable("It is away.", retry_after=3)
        reads = [asyncio.create_task(service.read(name)) for name in names(5)]
        await asyncio.wait(reads)
        assert [read.exception() for read in reads] == [service.error] * 5
        service.error = None
        service.write("job-1")
        assert await service.read("job-1") == LINE
        await service.channel.close()

    run(main())


@pytest.mark.parametrize("status", [400, 403, 404, 405, 413, 422, 501])
def test_a_service_without_the_route_is_asked_for_it_again_after_some_time(status: int) -> None:
    async def main() -> None:
        service, place = Service(), Place("job", 0)
        service.status = status
        assert await asyncio.gather(*(service.channel.read(Place(name, 0)) for name in names(3))) == [None] * 3
        assert await service.channel.read(place) is None
        assert len(service.sent) == 1
        service.status = 200
        service.write("job")
        await asyncio.sleep(ASK_AGAIN - now())
        assert await service.channel.read(place) is None
        await asyncio.sleep(1)
        assert await service.read("job") == LINE
        await service.channel.close()

    run(main())


def test_a_job_of_two_readers_is_read_alone_by_the_second() -> None:
    async def main() -> None:
        service = Service()
        first = asyncio.create_task(service.read("job"))
        for pause in (0, 1):
            await asyncio.sleep(pause)
            assert await service.channel.read(Place("job", 0)) is None
        service.write("job")
        assert await first == LINE
        await service.channel.close()

    run(main())


def test_requests_are_sent_in_a_context_of_their_own() -> None:
    """Airflow takes what is logged in the context of a trigger for lines of its task."""

    async def main() -> None:
        service = Service()

        async def read(name: str) -> None:
            ASKED.set(name)
            await service.read(name)

        reads = [asyncio.create_task(read(name)) for name in names(3)]
        await asyncio.sleep(1)
        for name in names(3):
            service.write(name)
        await asyncio.gather(*reads)
        assert service.contexts == {"nobody"}
        await service.channel.close()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(main())


WHOLE = entry("a", 5, LINE) + entry("b", 0) + entry("c", 0, LINE * 3)


@pytest.mark.parametrize(
    "body",
    [
        WHOLE[:-1],
        WHOLE + b"x",
        b"\n" + WHOLE,
        WHOLE.replace(b'"a"', b'"z"'),
        WHOLE + entry("a", 5),
        WHOLE.replace(b'"next_offset": 0', b'"next_offset": -1'),
        WHOLE.replace(b'"size": 0', b'"size": true'),
        WHOLE.replace(b'"length": 0', b'"length": "0"'),
        b"[" * 100_000,
        b'["a"]\n',
        json.dumps({"job": "a", "problem": {"status": 200}, "length": 0}).encode() + b"\n",
        json.dumps({"job": "a", "problem": "gone", "length": 0}).encode() + b"\n",
    ],
)
def test_an_answer_that_cannot_be_true_is_a_broken_contract(body: bytes) -> None:
    assert follow_many.read_entries(answered(WHOLE), ["a", "b", "c"]).keys() == {"a", "b", "c"}
    with pytest.raises(BrokenContract):
        follow_many.read_entries(answered(body), ["a", "b", "c"])


@given(st.binary(max_size=300), st.integers(0, len(WHOLE)))
def test_any_answer_is_read_or_refused(noise: bytes, cut: int) -> None:
    try:
        follow_many.read_entries(answered(WHOLE[:cut] + noise), ["a", "b", "c"])
    except BrokenContract:
        pass


def test_a_problem_is_read_as_the_answer_of_the_jobs_own_route() -> None:
    problem = {"type": "/problems/offset", "title": "No.", "status": 416, "detail": "There is none.", "size": 77}
    body = json.dumps({"job": "a", "problem": problem, "length": 0}).encode() + b"\n" + entry("b", 3, LINE)
    read = follow_many.read_entries(answered(body), ["a", "b"])
    assert (read["a"].status, json.loads(read["a"].body)) == (416, problem)
    assert contract.read_size(read["a"]) == 77
    assert contract.read_log_page(read["b"], 3).next_offset == 3 + len(LINE)
