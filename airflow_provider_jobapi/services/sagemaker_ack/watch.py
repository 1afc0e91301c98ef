# SPDX-License-Identifier: Apache-2.0
"""Watch one ``TrainingJob`` object from the triggerer: its controller's changes arrive at once, without polling."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, aclosing, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow_provider_jobapi.exceptions import BrokenContract, ServiceUnavailable, TrainingError
from airflow_provider_jobapi.services import retry
from airflow_provider_jobapi.services.clients import Kubernetes
from airflow_provider_jobapi.services.sagemaker_ack.errors import Expired, ObjectMissing, error_of_kubernetes
from airflow_provider_jobapi.services.sagemaker_ack.objects import REQUEST_TIMEOUT, Seen, place, seen_of

WATCH_SECONDS = 40
"""Seconds after which the API server ends a watch, and another one begins; a fourth more or less each time."""

SILENT_SECONDS = 10.0
"""Seconds after the end that a watch should have had, after which the API server does not answer any more."""

SHORTEST_WATCH = 1.0
"""Seconds between the beginnings of two watches, at the least: a proxy may end each one at once."""

_SUBJECT = "watch the job's object"
_MOST_BYTES = 4 * 1024**2
"""Bytes of one event; etcd stores objects of at most 1.5 MiB."""


class ObjectWatch:
    """The newest state of one object. It connects when it is used first.

    A request that fails ends the watch, and :meth:`wait` raises its error; the next call watches again.

    :param seconds: How long one watch lasts.
    :param silent: How much longer an answer is waited for.
    :ivar seen: The object as it was seen last; None before that.
    :ivar gone: Whether it was deleted.
    """

    def __init__(
        self,
        kubernetes: Kubernetes,
        namespace: str,
        name: str,
        *,
        seconds: float = WATCH_SECONDS,
        silent: float = SILENT_SECONDS,
    ) -> None:
        self._kubernetes = kubernetes
        self._namespace, self._name = namespace, name
        self._seconds, self._silent = seconds, silent
        self._stack = AsyncExitStack()
        self._api: Any = None
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._skew = timedelta()
        self._version = ""
        self._busy: ServiceUnavailable | None = None
        self._busy_until = 0.0
        self.seen: Seen | None = None
        self.gone = False

    @property
    def running(self) -> bool:
        """Whether the object is watched now."""
        return self._task is not None and not self._task.done()

    def check_busy(self) -> None:
        """Raise an error while the API server wants no request, by the ``Retry-After`` of an earlier one.

        :raises ServiceUnavailable: with the seconds that are left.
        """
        left = self._busy_until - time.monotonic()
        if self._busy is not None and left > 0:
            raise ServiceUnavailable(str(self._busy), retry_after=left)

    async def close(self) -> None:
        """End the watch, and close the client."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await self._task
        await self._stack.aclose()

    async def restart(self) -> None:
        """Follow the object of this name that is there now, and no longer the one that was seen."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await self._task
        self._task, self._version = None, ""
        self.seen, self.gone = None, False

    async def wait(self, seconds: float, other: asyncio.Task[None] | None = None) -> None:
        """Wait until the object has changed, or some seconds have passed, or another task is done.

        :raises TrainingError: when the API server refuses the watch or does not answer.
        """
        if self._task is None and not self.gone:
            self._task = asyncio.create_task(self._run())
        news = asyncio.create_task(self._news.wait())
        tasks = {task for task in (news, None if self.gone else self._task, other) if task is not None}
        try:
            await asyncio.wait(tasks, timeout=max(0.0, seconds), return_when=asyncio.FIRST_COMPLETED)
        finally:
            news.cancel()
        self._news.clear()
        if self._task is not None and self._task.done():
            ended, self._task = self._task, None
            ended.result()

    async def fetch(self) -> Seen:
        """Read the object now.

        :raises ObjectMissing: when there is none.
        """
        seen = await self._send("read the job's object", "get")
        self._skew = seen.skew
        return seen

    async def delete(self) -> None:
        """Delete the object, by which its controller stops the job.

        :raises ObjectMissing: when there is none.
        """
        await self._send("delete the job's object", "delete")

    async def _run(self) -> None:
        """Follow the object until it is gone."""
        while True:
            began = time.monotonic()
            try:
                if not self._version:
                    self._see(await self.fetch())
                async with aclosing(self._events()) as events:
                    async for event in events:
                        self._take(event)
                        if self.gone:
                            return
            except Expired:
                self._version = ""
            except ObjectMissing:
                self.gone = True
                self._news.set()
                return
            await retry.sleep_async(began + SHORTEST_WATCH - time.monotonic())

    def _take(self, event: Mapping[str, Any]) -> None:
        kind, found = event.get("type"), event.get("object")
        if not isinstance(found, Mapping):
            raise BrokenContract(f"The cluster sent an event of a watch without an object: {str(event)[:80]}")
        if kind == "ERROR":
            raise error_of_kubernetes(_Refusal(found.get("code"), json.dumps(found)), _SUBJECT)
        seen = Seen(found, self._skew)
        if kind == "BOOKMARK":
            self._version = seen.version
            return
        self.gone = kind == "DELETED"
        self._see(seen)

    def _see(self, seen: Seen) -> None:
        self.seen, self._version = seen, seen.version
        self._news.set()

    async def _events(self) -> AsyncGenerator[Mapping[str, Any]]:
        """Yield the events of one watch, which the API server ends after some time.

        The client's own ``Watch`` ends at an event that is longer than a line of aiohttp may be.
        """
        seconds = max(1, round(self._seconds * random.uniform(0.75, 1.25)))  # noqa: S311 -- spreads load
        try:
            answer = await self._objects().list_namespaced_custom_object(
                **place(self._namespace),
                watch=True,
                field_selector=f"metadata.name={self._name}",
                resource_version=self._version,
                timeout_seconds=seconds,
                allow_watch_bookmarks=True,
                _preload_content=False,
                _request_timeout=seconds + self._silent,
            )
            try:
                if answer.status >= 300:  # without _preload_content the client raises nothing
                    raise _Refusal(answer.status, await answer.text(errors="replace"), answer.headers)
                rest = b""
                async for part in answer.content.iter_any():
                    *lines, rest = (rest + part).split(b"\n")
                    for line in lines:
                        yield _event(line)
                    if len(rest) > _MOST_BYTES:
                        raise BrokenContract("The cluster sent an event of a watch without an end.")
            finally:
                answer.close()
        except Exception as error:  # noqa: BLE001 -- whatever the client raises is translated
            raise self._noted(error_of_kubernetes(error, _SUBJECT)) from None

    async def _send(self, subject: str, verb: str) -> Seen:
        try:
            await self._open()
            asked = datetime.now(UTC)
            method = getattr(self._objects(), f"{verb}_namespaced_custom_object_with_http_info")
            content, _, headers = await method(
                **place(self._namespace), name=self._name, _request_timeout=REQUEST_TIMEOUT
            )
        except Exception as error:  # noqa: BLE001 -- whatever the client raises is translated
            raise self._noted(error_of_kubernetes(error, subject)) from None
        return seen_of(content, headers, asked)

    def _noted(self, error: TrainingError) -> TrainingError:
        """Return an error, after noting until when the API server wants no other request."""
        if isinstance(error, ServiceUnavailable) and error.retry_after is not None:
            self._busy, self._busy_until = error, time.monotonic() + error.retry_after
        return error

    async def _open(self) -> None:
        if self._api is None:
            self._api = await self._stack.enter_async_context(self._kubernetes.async_api())

    def _objects(self) -> Any:
        from kubernetes_asyncio.client import CustomObjectsApi

        return CustomObjectsApi(self._api)


class _Refusal(Exception):
    """What the API server sent in place of a watch or of an event, with the attributes of an ``ApiException``.

    :ivar body: A ``Status`` object, as JSON.
    """

    def __init__(self, status: object, body: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(body)
        self.status, self.body, self.headers = status, body, headers
        self.reason: str | None = None


def _event(line: bytes) -> Mapping[str, Any]:
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        event = None
    if not isinstance(event, Mapping):
        raise BrokenContract(f"The cluster sent something else than events of a watch: {line[:80]!r}")
    return event
