# SPDX-License-Identifier: Apache-2.0
"""Read the log streams of all instances of a job, once, from one cursor to the next.

The cursor holds everything that is known, so a read that failed or was cancelled can be repeated without loss.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from airflow_provider_jobapi.exceptions import ServiceUnavailable
from airflow_provider_jobapi.services.polling import DEFAULT_LIMITS, ReadLimits, RequestPace
from airflow_provider_jobapi.services.sagemaker_ack import names
from airflow_provider_jobapi.services.sagemaker_ack.errors import error_code, error_of_aws
from airflow_provider_jobapi.services.sagemaker_ack.handles import JobHandle
from airflow_provider_jobapi.services.sagemaker_ack.log_events import PAGE_EVENTS, PositionReader, StreamName, lines
from airflow_provider_jobapi.training.logs import LogLine

REQUESTS_A_SECOND = 10.0
"""Requests for logs that a process sends to a region, of the 25 a second that an account has for each kind ("CloudWatch
Logs quotas"). A job with 500 instances is so read once in 50 seconds."""

ANSWER_SECONDS = 15.0
"""Seconds after which a request without an answer has failed; the client's own limits are minutes."""

STREAMS_A_PAGE = 50
"""The most that DescribeLogStreams returns (API reference)."""

MOST_EMPTY_PAGES = 3
"""Pages in a row without a new event after which a stream has no more. "This operation can return empty results while
there are more log events available through the token" (GetLogEvents, API reference)."""

_NOT_THERE_YET = "ResourceNotFoundException"
_SUBJECT = "read the log"


class JobLogs:
    """One read of the logs of a job.

    All streams are read one after the other, which is a round. A round that reaches the limits of one read, or an error
    that passes, goes on with the next read.

    :param cursor: Where the last read ended; empty for the beginning.
    :ivar lines: The new lines.
    :ivar in_round: Whether the read goes on with a round.
    :ivar behind: Whether the logs continue, so that the next read need not wait.
    :ivar whole: Whether every log was read up to its end.
    :ivar trouble: The last error, if there was one. Lines that could be read are available nevertheless.
    """

    def __init__(
        self,
        handle: JobHandle,
        cursor: Mapping[str, Any],
        *,
        limits: ReadLimits = DEFAULT_LIMITS,
        pace: RequestPace | None = None,
    ) -> None:
        self.lines: list[LogLine] = []
        self.behind = False
        self.whole = True
        self.trouble: Exception | None = None
        self._client: Any = None
        self._follow = False
        self._handle, self._limits = handle, limits
        self._pace = pace or pace_of(handle.region)
        self._streams: dict[str, Any] = dict(cursor.get("streams", {}))
        self._begin = str(cursor.get("begin", ""))
        self._unfinished = bool(cursor.get("unfinished", False))
        self.in_round = self._begin in self._streams
        self._until = float("inf")

    @property
    def streams(self) -> int:
        """How many streams are known."""
        return len(self._streams)

    def cursor(self) -> dict[str, Any]:
        """Return where this read ended."""
        return {"streams": self._streams, "begin": self._begin, "unfinished": self._unfinished}

    async def read(self, client: Any, *, find: bool, follow: bool = False) -> None:
        """Read. An error is kept in :attr:`trouble` and not raised: the job's state does not depend on its logs.

        :param client: An aiobotocore client of CloudWatch Logs.
        :param find: Whether new streams are looked for before.
        :param follow: Whether pages are followed to the end also behind one whose events are all known, which costs
            another request for each stream.
        """
        self._follow = follow
        self._client, self._until = client, time.monotonic() + self._limits.seconds
        try:
            if find:
                await self._find()
            await self._read_all()
        except Exception as error:  # noqa: BLE001 -- reported by the caller
            self.fail(error)
        # Streams are read one after the other, and each is sorted but for its late lines.
        self.lines.sort(key=lambda line: line.time)

    def fail(self, error: Exception) -> None:
        """Note that the logs cannot be read."""
        self.trouble, self.whole = error_of_aws(error, _SUBJECT), False
        if not isinstance(self.trouble, ServiceUnavailable):
            self._begin = ""

    async def _find(self) -> None:
        """Look for streams. Those of an instance that starts late, or again, come while the others are read."""
        token: str | None = None
        while True:
            more = {"nextToken": token} if token else {}
            answer = await self._send(
                "describe_log_streams",
                logStreamNamePrefix=names.log_stream_prefix(self._handle.name),
                orderBy="LogStreamName",
                limit=STREAMS_A_PAGE,
                **more,
            )
            for each in answer.get("logStreams", ()):
                self._streams.setdefault(str(each["logStreamName"]), [])
            token = answer.get("nextToken")
            if not token:
                return

    async def _read_all(self) -> None:
        order = sorted(map(StreamName.of, self._streams), key=lambda each: each.order)
        first = next((position for position, each in enumerate(order) if each.name == self._begin), 0)
        for position, stream in enumerate(order[first:]):
            self._begin = stream.name
            if position and self._limit_reached():
                self.behind, self.whole = True, False
                return
            if not await self._read(stream):
                self._unfinished = True  # the others come first
        self.behind, self._unfinished, self._begin = self._unfinished, False, ""
        self.whole = not self.behind

    async def _read(self, stream: StreamName) -> bool:
        """Read one stream; returns whether to its end."""
        reader = PositionReader(self._streams[stream.name])
        streams = max(1, self._handle.instances)
        token, pages_left = "", self._limits.pages
        empty_left = MOST_EMPTY_PAGES
        while reader.more or empty_left > 0:
            if token and (pages_left <= 0 or self._limit_reached()):
                return False
            answer = await self._page(stream.name, reader.start, token)
            events = answer.get("events", ())
            self.lines += lines(reader.take(events), stream, streams)
            follow = not events or self._follow
            empty_left = MOST_EMPTY_PAGES if reader.more else empty_left - 1 if follow else 0
            self._streams[stream.name] = reader.position()
            pages_left -= bool(token)
            before, token = token, str(answer.get("nextForwardToken") or "")
            if token in {"", before}:
                return True
        return True

    async def _page(self, name: str, start: int | None, token: str) -> Mapping[str, Any]:
        arguments: dict[str, Any] = {"logStreamName": name, "startFromHead": True, "limit": PAGE_EVENTS}
        arguments |= {} if start is None else {"startTime": start}
        return await self._send("get_log_events", **arguments | ({"nextToken": token} if token else {}))

    async def _send(self, method: str, **arguments: Any) -> Mapping[str, Any]:
        """Send a request; the answer is empty where the group or the stream is not there yet."""
        await self._pace.step()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                answer: Mapping[str, Any] = await getattr(self._client, method)(
                    logGroupName=names.LOG_GROUP, **arguments
                )
        except TimeoutError:
            raise ServiceUnavailable(f"CloudWatch did not answer within {ANSWER_SECONDS:g} seconds.") from None
        except Exception as error:
            if error_code(error) == _NOT_THERE_YET:
                return {}
            raise
        return answer

    def _limit_reached(self) -> bool:
        return len(self.lines) >= self._limits.lines or time.monotonic() > self._until


@lru_cache(16)
def pace_of(region: str) -> RequestPace:  # noqa: ARG001 -- one for each region
    """Return the pace of the requests of this process to a region."""
    return RequestPace(REQUESTS_A_SECOND)
