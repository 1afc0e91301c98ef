# SPDX-License-Identifier: Apache-2.0
"""OAuth2 tokens by client credentials: one source for each connection and process, for workers and triggerers.

Authlib fetches them. It is synchronous, so the triggerer calls it in a thread.
"""

from __future__ import annotations

import json
import re
import threading
import time
from datetime import UTC, datetime
from typing import Any

from airflow_provider_jobapi.exceptions import BrokenContract, ConnectionProblem, ServiceUnavailable
from airflow_provider_jobapi.services.answer import Answer, sentence
from airflow_provider_jobapi.services.jobapi.connection import CONNECT_TIMEOUT, JobApiConnection, TokenMethod
from airflow_provider_jobapi.services.jobapi.errors import error_of_fault
from airflow_provider_jobapi.services.jobapi.transport import TIMES

LEEWAY = 60.0
"""Seconds before its expiry from which a token is no longer used; a quarter of its lifetime, where that is less."""

_LARGEST = 64 * 1024


class TokenSource:
    """Keeps the token of one connection, and fetches a new one where it has expired. Safe for threads.

    The lock is reentrant: ``on_kill`` runs in a signal handler, which may interrupt the thread that holds it.
    """

    def __init__(self, connection: JobApiConnection) -> None:
        self._connection = connection
        self._lock = threading.RLock()
        self._token: str | None = None
        self._good_until = 0.0

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._connection!r})"

    def cached(self) -> str | None:
        """Return the token if it is valid, without a request; None otherwise."""
        return self._token if time.monotonic() < self._good_until else None

    def token(self, refused: str | None = None) -> str:
        """Return a valid token.

        :param refused: The token that the service has just refused, which is not returned again. One login serves all
            followers that were refused at the same time.
        :raises ConnectionProblem: when the token server refuses this client, or is not where the connection says.
        :raises ServiceUnavailable: when it cannot be reached.
        """
        with self._lock:
            token = self.cached()
            if token is None or token == refused:
                token, lifetime = self._fetch()
                self._good_until = time.monotonic() + lifetime - min(LEEWAY, lifetime / 4)
                self._token = token
            return token

    def _fetch(self) -> tuple[str, float]:
        from authlib.integrations.base_client import OAuthError

        connection = self._connection
        try:
            content = _login(connection)
        except OAuthError as error:
            said = sentence(f"{error.error}: {error.description}" if error.description else error.error)
            raise ConnectionProblem(
                f"The token server {connection.token_url} refuses the client {connection.client_id!r} "
                f"({said.replace(connection.client_secret, '***').rstrip(' .')}); check the connection's login, "
                "password and token_method."
            ) from None
        except (ValueError, TypeError, OverflowError):
            raise _no_token(connection.token_url) from None
        return _read(content, connection.token_url)


def _login(connection: JobApiConnection) -> dict[str, Any]:
    from authlib.integrations.requests_client import OAuth2Session

    from airflow_provider_jobapi.services.jobapi.transport import configure

    method = "GET" if connection.token_method is TokenMethod.GET_BASIC else "POST"
    form = connection.token_method is TokenMethod.POST_FORM
    # A session of its own each time: logins are rare, and a session that is shared would need a lock of its own.
    with OAuth2Session(
        connection.client_id,
        connection.client_secret,
        token_endpoint_auth_method="client_secret_post" if form else "client_secret_basic",
        scope=connection.scope,
    ) as session:
        configure(session, connection, connection.token_url)
        session.register_compliance_hook("access_token_response", lambda response: _checked(response, connection))
        try:
            return dict(
                session.fetch_token(
                    connection.token_url,
                    method=method,
                    grant_type="client_credentials",
                    timeout=(min(CONNECT_TIMEOUT, connection.timeout), connection.timeout),
                    verify=session.verify,
                    allow_redirects=False,
                    stream=True,
                )
            )
        except OSError as error:  # every error of requests is one
            raise error_of_fault(error, connection.token_url) from None


def _checked(response: Any, connection: JobApiConnection) -> Any:
    """Read the answer of the token server with a limit, and raise the errors that Authlib does not distinguish."""
    from airflow_provider_jobapi.services.jobapi.transport import read_bounded

    body = read_bounded(response, _LARGEST, connection.token_url, TIMES * connection.timeout)
    response._content = body  # noqa: SLF001 -- what requests does itself, without a bound
    status, url = response.status_code, connection.token_url
    if status == 429 or status >= 500:
        answer = Answer(status, {key.lower(): value for key, value in response.headers.items()}, b"", datetime.now(UTC))
        raise ServiceUnavailable(
            f"The token server {url} is unavailable (HTTP {status}).", retry_after=answer.retry_after()
        )
    if 300 <= status < 400:
        raise ConnectionProblem(f"{url} redirects; set the connection's token_url to the final address.")
    if status in {404, 405}:
        raise ConnectionProblem(
            f"There is no token server at {url} for {connection.token_method}; check the connection's host, "
            "token_url and token_method."
        )
    if not _is_object(body):
        if status in {401, 403}:
            raise ConnectionProblem(f"{url} refuses the client {connection.client_id!r}; check the login and password.")
        raise _no_token(url)
    return response


def _is_object(body: bytes) -> bool:
    try:
        return isinstance(json.loads(body), dict)
    except (ValueError, RecursionError):
        return False


def _no_token(url: str) -> BrokenContract:
    return BrokenContract(f"The answer of {url} is not an OAuth2 token; check the connection's token_url.")


def _read(content: dict[str, Any], url: str) -> tuple[str, float]:
    token, kind, lifetime = (content.get(name) for name in ("access_token", "token_type", "expires_in"))
    # A token becomes a header; a line break in it would become a header of its own.
    if not isinstance(token, str) or not re.fullmatch(r"[\x21-\x7e]{1,16384}", token):
        raise BrokenContract(f"The answer of {url} has no valid access_token.")
    if str(kind or "bearer").lower() != "bearer":
        raise BrokenContract(f"{url} issues tokens of the type {sentence(kind, 40)!r}; expected Bearer.")
    try:
        seconds = 300.0 if lifetime is None else float(lifetime)
    except (TypeError, ValueError, OverflowError):
        seconds = float("nan")
    if not 0 < seconds < 10**9:
        raise BrokenContract(f"{url} issues tokens with the invalid expires_in {sentence(lifetime, 40)!r}.")
    return token, seconds


_sources: dict[JobApiConnection, TokenSource] = {}
_sources_lock = threading.RLock()


def tokens_of(connection: JobApiConnection) -> TokenSource:
    """Return the source of this connection in this process; an edited connection has a new one."""
    with _sources_lock:
        if connection not in _sources:
            while len(_sources) >= 64:  # connections that were edited leave their sources behind
                del _sources[next(iter(_sources))]
            _sources[connection] = TokenSource(connection)
        return _sources[connection]
