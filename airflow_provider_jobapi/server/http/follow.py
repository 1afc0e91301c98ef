# SPDX-License-Identifier: Apache-2.0
"""Follow many jobs by one request: find those with news, and divide the room of the answer fairly among them.

The answer is a sequence of entries, one for each job with news: a line of JSON, and then as many bytes of whole log
records as its ``length`` says.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi.concurrency import run_in_threadpool
from starlette.requests import Request

from airflow_provider_jobapi.server.errors import DeletedJob, UnknownJob
from airflow_provider_jobapi.server.http.log_reader import CHUNK_LIMIT, LogPart, read_part, size_of
from airflow_provider_jobapi.server.http.log_watcher import LogWatcher
from airflow_provider_jobapi.server.http.problems import Problem, internal_problem, problem_of
from airflow_provider_jobapi.server.http.watched_jobs import Waiter, WatchedJob
from airflow_provider_jobapi.server.store.clients import ClientRegistry
from airflow_provider_jobapi.server.store.job_record import JobKey
from airflow_provider_jobapi.server.store.jobs import JobRegistry
from airflow_provider_jobapi.server.store.layout import job_directory
from airflow_provider_jobapi.training.status import JobState

ANSWER_LIMIT = 4 * 2**20
"""The most bytes of records of one answer."""

_LEAST_SHARE = 512
"""The bytes a job for which the rest of an answer is not divided again among those that have more records."""

_TURN = 128
"""Logs that are read before the event loop does something else."""


class FollowedJob:
    """A job of a request, and its entry in the answer.

    :ivar known: The state that the client knows; by default the state when the request came.
    :ivar has_scalars: Whether the client knows that the job has scalars.
    :ivar watch: The watch of its files, for a job that exists.
    :ivar problem: Why it cannot be followed.
    :ivar parts: The pieces of the log for the answer.
    """

    __slots__ = ("has_scalars", "key", "known", "length", "offset", "parts", "problem", "watch")

    def __init__(self, key: JobKey, offset: int, known: JobState | None, *, has_scalars: bool) -> None:
        self.key = key
        self.offset = offset
        self.known = known
        self.has_scalars = has_scalars
        self.watch: WatchedJob | None = None
        self.problem: Problem | None = None
        self.parts: Sequence[LogPart] = ()
        self.length = 0

    def may_have_news(self, state: JobState | None) -> bool:
        """Whether the files of the job are to be read, from what is known without reading them."""
        watch = self.watch
        if watch is None or state is None or state.ended or watch.changed or self.offset != watch.size:
            return True
        self.known = self.known or state
        return state is not self.known or (watch.scalars > 0 and not self.has_scalars)

    def read(self, state: JobState, limit: int, room: int) -> bool:
        """Read records after those that were read; returns whether there are more.

        :param state: The state of the job, read before.
        :param limit: The most bytes; of a job of which nothing was read, one record may be longer.
        :param room: The bytes that are left in the answer.
        :raises Problem: when no record begins at the offset.
        """
        watch = self.watch
        assert watch is not None  # noqa: S101 -- for the type checker
        self.known = self.known or state
        watch.changed = True  # also where the read fails
        part = read_part(watch.log, self.parts[-1].next_offset if self.parts else self.offset, limit, state)
        watch.size, watch.scalars, watch.changed = part.size, size_of(watch.scalars_file), False
        if len(part.body) > (limit if self.parts else room):
            return False
        self.parts = (*self.parts, part)
        self.length += len(part.body)
        return part.next_offset < part.size and self.length < CHUNK_LIMIT

    @property
    def has_news(self) -> bool:
        """Whether what was read is news for the client."""
        if self.problem is not None:
            return True
        if not self.parts or self.watch is None:
            return False
        last = self.parts[-1]
        first_scalars = self.watch.scalars > 0 and not self.has_scalars
        return bool(self.length) or last.complete or last.state is not self.known or first_scalars

    def entry(self) -> Iterable[bytes]:
        """Return the entry in pieces."""
        if self.problem is not None:
            content = self.problem.body()
            if size := self.problem.headers.get("Job-Log-Size"):
                content["size"] = int(size)
            yield json.dumps({"job": self.key.job_id, "problem": content, "length": 0}).encode() + b"\n"
            return
        last, scalars = self.parts[-1], self.watch.scalars if self.watch else 0
        yield (
            f'{{"job": "{self.key.job_id}", "state": "{last.state.value}", "next_offset": {last.next_offset}, '
            f'"size": {last.size}, "complete": {"true" if last.complete else "false"}, "scalars": {scalars}, '
            f'"length": {self.length}}}\n'
        ).encode()
        for part in self.parts:
            yield part.body


class Follow:
    """Answers the requests that follow many jobs.

    :param root: The root directory of the server.
    :param most: The most bytes of records of one answer.
    """

    def __init__(
        self,
        root: Path,
        registry: JobRegistry,
        clients: ClientRegistry,
        watcher: LogWatcher,
        most: int = ANSWER_LIMIT,
    ) -> None:
        self._root = root
        self._registry = registry
        self._clients = clients
        self._watcher = watcher
        self._most = most

    async def news(self, request: Request, jobs: Sequence[FollowedJob], wait: float) -> bytes:
        """Return the entries of the jobs with news, as soon as there are any; nothing when the time is over.

        :param request: The request, whose body was read. The wait ends when its client closes the connection.
        :param wait: The most seconds to wait.
        """
        deadline = asyncio.get_running_loop().time() + wait
        await self._find(jobs)
        answer = await self._answer(jobs)
        if answer or wait <= 0:
            return answer
        places = {each.watch: place for place, each in enumerate(jobs) if each.watch is not None}
        with self._watcher.waiting(places) as waiter:
            async with _closed_with(request, waiter):
                # Once more all of them: a job may have changed between the first look and the beginning of the wait.
                due = jobs
                while not (answer := await self._answer(due)) and not waiter.closed:
                    changed = await waiter.wait(deadline)
                    if not changed:
                        break
                    due = [jobs[place] for place in sorted(places[each] for each in changed)]
        return answer

    async def _find(self, jobs: Sequence[FollowedJob]) -> None:
        """Find the watch of each job, or the problem of one that does not exist."""
        changes, doubtful = self._clients.changes(), []
        for each in jobs:
            watch = self._watcher.jobs.get(each.key)
            if watch is None or watch.checked != changes or self._registry.state(each.key) is None:
                doubtful.append(each)
            else:
                each.watch = self._watcher.jobs.watch(each.key, watch.home)
        if not doubtful:
            return
        await run_in_threadpool(self._look_up, doubtful)
        for each in doubtful:
            if each.problem is None:
                each.watch = self._watcher.jobs.watch(each.key, self._home(each.key))
                each.watch.checked = changes

    def _look_up(self, jobs: Sequence[FollowedJob]) -> None:
        """Look up jobs in the database, except those that run for sure: their state is known and their log is there."""
        for each in jobs:
            if self._registry.state(each.key) is None or not (self._home(each.key) / "log").exists():
                try:
                    self._registry.get(*each.key)
                except (UnknownJob, DeletedJob) as error:
                    each.problem = problem_of(error)

    def _home(self, key: JobKey) -> Path:
        return job_directory(self._root, *key)

    async def _answer(self, jobs: Sequence[FollowedJob]) -> bytes:
        """Read what jobs have, each a share of the answer, and divide what is left among those that have more."""
        room, turn = self._most, 0
        read = hungry = [each for each in jobs if each.may_have_news(self._registry.state(each.key))]
        for each in read:
            each.parts, each.length = (), 0
        share = max(1, room // max(1, len(hungry)))
        while hungry and share:
            more = []
            for each in hungry:
                turn += 1
                if turn % _TURN == 0:
                    await asyncio.sleep(0)
                before = each.length
                if self._read(each, min(share, CHUNK_LIMIT - before), room):
                    more.append(each)
                room -= each.length - before
            hungry = more
            share = room // len(hungry) if hungry and room // len(hungry) >= _LEAST_SHARE else 0
        return b"".join(piece for each in read if each.has_news for piece in each.entry())

    def _read(self, job: FollowedJob, limit: int, room: int) -> bool:
        """Read records of a job, or find why that is not possible; returns whether there are more."""
        if job.problem is not None:
            return False
        state = self._registry.state(job.key)
        try:
            if state is None:
                raise DeletedJob(job.key.job_id)
            return job.read(state, limit, room)
        except Problem as problem:
            job.problem = problem
        except DeletedJob as error:
            job.problem = problem_of(error)
        except OSError as error:
            job.problem = internal_problem(f"the log of the job {job.key.job_id}", error)
        return False


@asynccontextmanager
async def _closed_with(request: Request, waiter: Waiter) -> AsyncIterator[None]:
    """Close a waiter when the client closes the connection, so that nothing wakes for a client that has gone."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        waiter.close()

    task = asyncio.create_task(gone())
    try:
        yield
    finally:
        task.cancel()
