# SPDX-License-Identifier: Apache-2.0
"""The HTTP client of the triggerer: one session and one login for all followers of a connection in an event loop."""

from __future__ import annotations

import asyncio
import resource
from datetime import UTC, datetime
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from airflow_provider_jobapi.exceptions import BrokenContract
from airflow_provider_jobapi.services.answer import Answer
from airflow_provider_jobapi.services.jobapi import contract, follow_many
from airflow_provider_jobapi.services.jobapi.channel import Channel
from airflow_provider_jobapi.services.jobapi.client import Mask, lowered
from airflow_provider_jobapi.services.jobapi.connection import CONNECT_TIMEOUT, JobApiConnection
from airflow_provider_jobapi.services.jobapi.contract import Request
from airflow_provider_jobapi.services.jobapi.errors import error_of_answer, error_of_fault
from airflow_provider_jobapi.services.jobapi.tokens import TokenSource

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession

    from airflow_provider_jobapi.services.jobapi.follow_many import Place


FEWEST_TOGETHER = 2
"""Followers of a connection from which on their jobs are read by one request."""


class AsyncClient:
    """Sends requests to one jobAPI from one event loop; opened by :func:`join`, closed when its last user leaves."""

    def __init__(self, connection: JobApiConnection, tokens: TokenSource) -> None:
        self.connection = connection
        self.users = 0
        self._tokens = tokens
        self._session: ClientSession | None = None
        self._proxy: str | None = None
        self._opening = asyncio.Lock()
        self._login: asyncio.Task[str] | None = None
        self._masked: str | None = None
        self._channel: Channel | None = None

    async def prepare(self, mask: Mask) -> None:
        """Fetch the token and open the session, so that the next request is sent at once."""
        await self._token(mask)
        await self._opened()

    async def send(
        self,
        request: Request,
        mask: Mask,
        *,
        wait: float = 0.0,
        accept: frozenset[int] = frozenset(),
        limit: int = contract.LARGEST_ANSWER,
    ) -> Answer:
        """Send a request once; where the token is refused, once more with a new one.

        :param wait: Seconds for which the service may hold the request, on top of the connection's timeout.
        :param limit: The most bytes of the answer.
        :raises TrainingError: for every answer that is not a success, by what it asks of the user.
        """
        token = await self._token(mask)
        answer = await self._exchange(request, token, wait, limit)
        if answer.status == 401:
            token = await self._token(mask, refused=token)
            answer = await self._exchange(request, token, wait, limit)
        return self.checked(request, answer, accept)

    def checked(self, request: Request, answer: Answer, accept: frozenset[int] = frozenset()) -> Answer:
        """Return the answer to a request.

        :raises TrainingError: where it is not a success.
        """
        if not 200 <= answer.status < 300 and answer.status not in accept:
            secrets = (self._tokens.cached() or "", self.connection.client_secret)
            raise error_of_answer(request, answer, self.connection.base_url, secrets)
        return answer

    async def read_log(self, place: Place, mask: Mask) -> Answer | None:
        """Wait for what is new of a job, with the other jobs that are followed over this connection.

        :returns: As :meth:`Channel.read`; None also where no other job is followed.
        :raises TrainingError: when the request failed.
        """
        if self.users < FEWEST_TOGETHER:
            return None
        if self._channel is None:
            self._channel = Channel(partial(self._follow, mask))
        return await self._channel.read(place)

    async def _follow(self, mask: Mask, request: Request) -> Answer:
        accept, limit = follow_many.WITHOUT_ROUTE, follow_many.LARGEST_ANSWER
        return await self.send(request, mask, wait=contract.LONGEST_WAIT, accept=accept, limit=limit)

    async def close(self) -> None:
        """End the requests and close the session."""
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close()
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _token(self, mask: Mask, refused: str | None = None) -> str:
        token = self._tokens.cached()
        if token is None or token == refused:
            # One login for all followers that wait for it; one that is cancelled does not cancel it for the others.
            if self._login is None or self._login.done():
                self._login = asyncio.create_task(asyncio.to_thread(self._tokens.token, refused))
                self._login.add_done_callback(_retrieve_error)
            token = await asyncio.shield(self._login)
        if token != self._masked:
            from asgiref.sync import sync_to_async

            # Airflow's masker may call its supervisor, which works from this kind of thread only.
            await sync_to_async(mask)(token)
            self._masked = token
        return token

    async def _exchange(self, request: Request, token: str, wait: float, limit: int) -> Answer:
        session = await self._opened()
        import aiohttp
        from yarl import URL

        connection = self.connection
        url = URL(connection.api_url + request.path, encoded=True).with_query(dict(request.params))
        timeout = aiohttp.ClientTimeout(
            total=wait + connection.timeout + CONNECT_TIMEOUT,
            sock_connect=CONNECT_TIMEOUT,
            sock_read=wait + connection.timeout,
        )
        headers = {"Accept": "application/json", "Authorization": f"Bearer {token}", **request.headers}
        sent = datetime.now(UTC)
        try:
            async with session.request(
                request.method,
                url,
                headers=headers,
                data=request.body,
                proxy=self._proxy,
                timeout=timeout,
                allow_redirects=False,
            ) as response:
                at = sent + (datetime.now(UTC) - sent) / 2
                body = await self._body(response, limit)
                return Answer(response.status, lowered(response.headers), body, at)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise error_of_fault(error, connection.base_url) from None

    async def _body(self, response: ClientResponse, limit: int) -> bytes:
        address = self.connection.base_url
        if response.headers.get("Content-Encoding", "identity").lower() not in {"", "identity"}:
            raise BrokenContract(
                f"{address} sends compressed answers that were not requested; a proxy in between may compress them."
            )
        parts: list[bytes] = []
        total = 0
        async for part in response.content.iter_any():
            parts.append(part)
            total += len(part)
            if total > limit:
                raise BrokenContract(f"{address} sent more than {limit:,} bytes in one answer.")
        return b"".join(parts)

    async def _opened(self) -> ClientSession:
        async with self._opening:
            if self._session is None:
                # In a thread: the first import takes a third of a second, which would block every trigger.
                aiohttp = await asyncio.to_thread(import_module, "aiohttp")
                context = await asyncio.to_thread(self.connection.ssl_context)
                self._proxy = await asyncio.to_thread(self.connection.proxy_for, self.connection.base_url)
                # Every long poll holds a socket; beyond half of the process's limit of open files, polls queue.
                files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
                session: ClientSession = aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(ssl=context, limit=max(64, files // 2)),
                    cookie_jar=aiohttp.DummyCookieJar(),
                    headers={"Accept-Encoding": "identity", "User-Agent": "airflow-provider-jobapi"},
                    auto_decompress=False,
                )
                self._session = session
            return self._session


def _retrieve_error(login: asyncio.Task[str]) -> None:
    """Retrieve a login's error where no caller waits for it any more; asyncio reports one that is not retrieved."""
    if not login.cancelled():
        login.exception()  # noqa: LOG004 -- a task, not a logger


_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[JobApiConnection, AsyncClient]] = WeakKeyDictionary()


def join(connection: JobApiConnection, tokens: TokenSource) -> AsyncClient:
    """The client of this connection in the running event loop; each :func:`join` needs a :func:`leave`."""
    clients = _clients.setdefault(asyncio.get_running_loop(), {})
    client = clients.setdefault(connection, AsyncClient(connection, tokens))
    client.users += 1
    return client


async def leave(client: AsyncClient) -> None:
    """Give a client back; the last user closes it."""
    client.users -= 1
    if client.users == 0:
        clients = _clients.get(asyncio.get_running_loop(), {})
        if clients.get(client.connection) is client:
            del clients[client.connection]
        await client.close()
