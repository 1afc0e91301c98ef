# SPDX-License-Identifier: Apache-2.0
"""One long poll for all jobs that are followed over a connection in one event loop.

The channel only fetches. Each follower asks it for what is new of one job, and asks again when it has taken that; so a
follower that is slow or is cancelled holds no other. Nothing is read ahead.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextvars import Context
from typing import TYPE_CHECKING, Any

from airflow_provider_jobapi.services.jobapi import contract, follow_many
from airflow_provider_jobapi.services.jobapi.follow_many import MOST_JOBS, Place

if TYPE_CHECKING:
    from airflow_provider_jobapi.services.answer import Answer
    from airflow_provider_jobapi.services.jobapi.contract import Request

Send = Callable[["Request"], Coroutine[Any, Any, "Answer"]]
"""Sends a request, whose answer is a success or says that there is no such route.

:raises TrainingError: for any other answer, and where there is none."""

LEAST_INTERVAL = 0.2
"""Seconds between two requests, at the least; the second one is for all that was asked for meanwhile."""

QUIET_INTERVAL = 1.0
"""Seconds between two requests, at the least, while the service answers at once without news."""

MOST_POLLS = 2
"""The most requests at a time, beside those that are not ended early: for as many jobs as one may have, or for a job
that has waited for long. What is asked for while a request waits goes into another one, so that the long list is not
sent again for each job."""

ASK_AGAIN = 600.0
"""Seconds after which a service without the route is asked for it again; it may have been replaced by a newer one."""


class _Asked:
    """What one follower waits for.

    :ivar since: When it asked.
    """

    __slots__ = ("answer", "place", "since")

    def __init__(self, place: Place, since: float) -> None:
        self.place = place
        self.since = since
        self.answer: asyncio.Future[Answer | None] = asyncio.get_running_loop().create_future()


class _Poll:
    """A request that is under way, and what is asked for with it.

    :ivar oldest: When the first of its followers asked.
    """

    __slots__ = ("asked", "oldest", "sent")

    def __init__(self, asked: dict[str, _Asked], sent: float) -> None:
        self.asked = asked
        self.sent = sent
        self.oldest = min(each.since for each in asked.values())


class Channel:
    """Follows the jobs of one connection by few requests.

    Its tasks run in a context of their own, so that nothing that they log is taken for a line of a task.

    :param send: Sends a request.
    :param clock: Seconds, from any start.
    """

    def __init__(self, send: Send, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._send = send
        self._clock = clock
        self._idle: dict[str, _Asked] = {}
        self._polls: dict[asyncio.Task[Answer], _Poll] = {}
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._next = float("-inf")
        self._no_route_until = float("-inf")

    async def read(self, place: Place) -> Answer | None:
        """Wait for what is new of a job: what the route of its log would answer, in 50 seconds or little more.

        :returns: None where the job has to be read by its own route: the service cannot follow many jobs at once, or
            another follower waits for the same job.
        :raises TrainingError: when the request failed.
        """
        if self._clock() < self._no_route_until or self._is_asked_for(place.job_id):
            return None
        asked = _Asked(place, self._clock())
        self._put(asked)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), context=Context())
        try:
            return await asked.answer
        finally:
            if self._idle.get(place.job_id) is asked:
                del self._idle[place.job_id]

    async def close(self) -> None:
        """End the requests."""
        tasks = [task for task in (self._task, *self._polls) if task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _is_asked_for(self, job_id: str) -> bool:
        polled = (poll.asked.get(job_id) for poll in self._polls.values())
        return job_id in self._idle or any(each is not None and not each.answer.done() for each in polled)

    def _put(self, asked: _Asked) -> None:
        """Ask for a job with the next request."""
        self._idle[asked.place.job_id] = asked
        self._news.set()

    async def _run(self) -> None:
        """Send requests for what is asked for, one after another."""
        while True:
            await self._news.wait()
            await asyncio.sleep(self._next - self._clock())
            self._news.clear()
            await self._end_shortest()
            asked = self._take()
            if asked:
                self._next = self._clock() + LEAST_INTERVAL
                request = follow_many.follow((each.place for each in asked.values()), contract.LONGEST_WAIT)
                task = asyncio.create_task(self._send(request))
                self._polls[task] = _Poll(asked, self._clock())
                task.add_done_callback(self._done)

    async def _end_shortest(self) -> None:
        """Where there are too many requests, end the one for the fewest jobs; the next one is for these, too.

        One with a job that has waited for as long as a request may take stays: were it ended for each that comes
        later, that job's follower would have no answer, and take the service for one that is away.
        """
        overdue = self._clock() - contract.LONGEST_WAIT
        open_ones = [
            task for task, poll in self._polls.items() if len(poll.asked) < MOST_JOBS and poll.oldest > overdue
        ]
        if len(open_ones) >= MOST_POLLS:
            task = min(open_ones, key=lambda each: len(self._polls[each].asked))
            task.cancel()
            await asyncio.wait([task])
            await asyncio.sleep(0)  # until its callback has put its jobs back

    def _take(self) -> dict[str, _Asked]:
        """Take the jobs that have waited longest: those for which an answer has no room come first in the next one."""
        ordered = sorted(self._idle.values(), key=lambda each: each.since)
        taken = {each.place.job_id: each for each in ordered[:MOST_JOBS]}
        for job_id in taken:
            del self._idle[job_id]
        if self._idle:
            self._news.set()
        return taken

    def _done(self, task: asyncio.Task[Answer]) -> None:
        """Give each follower what a request brought for it, and ask again for the jobs without news."""
        poll = self._polls.pop(task)
        waiting = [each for each in poll.asked.values() if not each.answer.done()]
        if task.cancelled():
            for each in waiting:
                self._put(each)
            return
        try:
            answer = task.result()
            if follow_many.is_without_route(answer):
                self._no_route_until = self._clock() + ASK_AGAIN
                for each in waiting:
                    each.answer.set_result(None)
                return
            entries = follow_many.read_entries(answer, poll.asked)
        except Exception as error:  # noqa: BLE001 -- each follower raises it
            for each in waiting:
                each.answer.set_exception(error)
            return
        if not entries and self._clock() - poll.sent < QUIET_INTERVAL:
            self._next = max(self._next, poll.sent + QUIET_INTERVAL)
        self._give(waiting, entries, answer)

    def _give(self, waiting: Iterable[_Asked], entries: Mapping[str, Answer], answer: Answer) -> None:
        overdue = self._clock() - contract.LONGEST_WAIT
        for each in waiting:
            if entry := entries.get(each.place.job_id):
                each.answer.set_result(entry)
            elif each.since <= overdue:
                each.answer.set_result(follow_many.no_news(each.place, answer))
            else:
                self._put(each)
