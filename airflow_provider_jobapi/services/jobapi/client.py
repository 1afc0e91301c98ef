# SPDX-License-Identifier: Apache-2.0
"""The HTTP client of a worker: sends requests, repeats them, renews the token once, follows no redirect."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from airflow_provider_jobapi.exceptions import ConnectionProblem
from airflow_provider_jobapi.services.answer import Answer
from airflow_provider_jobapi.services.files.sources import VerifiedReader
from airflow_provider_jobapi.services.jobapi import contract
from airflow_provider_jobapi.services.jobapi.connection import CONNECT_TIMEOUT, JobApiConnection
from airflow_provider_jobapi.services.jobapi.contract import Request
from airflow_provider_jobapi.services.jobapi.errors import error_of_answer
from airflow_provider_jobapi.services.jobapi.tokens import TokenSource
from airflow_provider_jobapi.services.jobapi.transport import TIMES
from airflow_provider_jobapi.services.retry import Retry

if TYPE_CHECKING:
    from requests import Response, Session

THREADS = 8
"""Connections that are kept open for parallel transfers."""

Mask = Callable[[str], Any]
"""Called with each secret that is not in the connection, so that logs can mask it."""


class ClosableBody(Protocol):
    """A body of a known length that is sent piece by piece."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[bytes]: ...

    def close(self) -> None: ...


Body = Callable[[], VerifiedReader | ClosableBody | bytes]
"""Opens the body of a request."""


class Client:
    """Sends requests to one jobAPI. Safe for threads.

    :param tokens: The source of tokens.
    :param mask: Called with each new token.
    :param retry: How a request is repeated while the service is unavailable; every request of the contract may be.
    """

    def __init__(
        self,
        connection: JobApiConnection,
        tokens: TokenSource,
        mask: Mask,
        *,
        retry: Retry | None = None,
        log: logging.Logger | None = None,
    ) -> None:
        self.connection = connection
        self._tokens = tokens
        self._mask = mask
        self._retry = retry or Retry()
        self._log = log
        self._masked: str | None = None
        self._session: Session | None = None

    def send(self, request: Request) -> Answer:
        """Send a request, repeated while the service is unavailable, and read the whole answer.

        :raises TrainingError: for every answer that is not a success, by what it asks of the user.
        """
        return self._retry.call(lambda: self.send_once(request), self._log)

    def send_once(self, request: Request) -> Answer:
        """Send a request once; where the token is refused, once more with a new one."""
        with self.open(request) as response:
            return self._answer(response)

    @contextmanager
    def open(self, request: Request, body: Body | None = None, accept: Collection[int] = ()) -> Iterator[Response]:
        """Send a request once and leave the body of the answer to the caller.

        :param body: Opens the body; called for each time that the request is sent.
        :param accept: What counts as a success besides 200 to 299.
        """
        token = self.token()
        response = self._exchange(request, token, body)
        if response.status_code == 401:
            response.close()
            token = self.token(refused=token)
            response = self._exchange(request, token, body)
        try:
            if not 200 <= response.status_code < 300 and response.status_code not in accept:
                answer = self._answer(response)
                raise error_of_answer(request, answer, self.connection.base_url, (token, self.connection.client_secret))
            yield response
        finally:
            response.close()

    def token(self, refused: str | None = None) -> str:
        """Return a valid token, which the masker knows."""
        token = self._tokens.token(refused)
        if token != self._masked:
            self._mask(token)
            self._masked = token
        return token

    @contextmanager
    def isolated(self, retry: Retry) -> Iterator[Client]:
        """A copy of this client with sockets of its own, for signal handlers; a context manager.

        A signal handler may interrupt the main thread while it holds the lock of the connection pool; taking that lock
        in the handler would block for ever.
        """
        connection = replace(self.connection, timeout=min(self.connection.timeout, retry.total / 2))
        other = Client(connection, self._tokens, self._mask, retry=retry, log=self._log)
        other._masked = self._masked
        try:
            yield other
        finally:
            other.close()

    def close(self) -> None:
        """Close the sockets."""
        if self._session is not None:
            self._session.close()
            self._session = None

    def _exchange(self, request: Request, token: str, body: Body | None) -> Response:
        connection = self.connection
        session = self._opened()
        data = request.body if body is None else body()
        try:
            return session.request(
                request.method,
                connection.api_url + request.path,
                params=dict(request.params),
                headers=_headers(request, token),
                data=data,
                timeout=(min(CONNECT_TIMEOUT, connection.timeout), connection.timeout),
                verify=session.verify,
                allow_redirects=False,
                stream=True,
            )
        except OSError as error:
            raise connection.error_of_fault(error, connection.base_url) from None
        except UnicodeError:
            raise ConnectionProblem(
                f"{connection.base_url} is not a valid address; check the connection's host."
            ) from None
        finally:
            if data is not None and not isinstance(data, bytes):
                data.close()

    def _opened(self) -> Session:
        if self._session is None:
            from requests import Session

            from airflow_provider_jobapi.services.jobapi.transport import configure

            session = Session()
            configure(session, self.connection, self.connection.base_url, THREADS)
            self._session = session
        return self._session

    def _answer(self, response: Response) -> Answer:
        from airflow_provider_jobapi.services.jobapi.transport import read_bounded

        at = datetime.now(UTC) - response.elapsed / 2
        connection = self.connection
        body = read_bounded(response, contract.LARGEST_ANSWER, connection.base_url, TIMES * connection.timeout)
        return Answer(response.status_code, lowered(response.headers), body, at)


def lowered(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers by lower-case name."""
    return {name.lower(): value for name, value in headers.items()}


def _headers(request: Request, token: str) -> dict[str, str]:
    return {"Accept": "application/json", "Authorization": f"Bearer {token}", **request.headers}
