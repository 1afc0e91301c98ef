# SPDX-License-Identifier: Apache-2.0
"""OAuth2 tokens by client credentials: one source for each connection and process, for workers and triggerers.

Authlib fetches them. It is synchronous, so the triggerer calls it in a thread.
"""

from __future__ import annotations

import json
import logging
import re
import threading
import time
from base64 import b64encode
from copy import copy
from datetime import UTC, datetime
from functools import partial
from typing import Any
from urllib.parse import quote_plus

from airflow_provider_jobapi.exceptions import BrokenContract, ConnectionProblem, ServiceUnavailable, TrainingError
from airflow_provider_jobapi.services.answer import Answer, sentence
from airflow_provider_jobapi.services.jobapi.connection import CONNECT_TIMEOUT, JobApiConnection, TokenMethod
from airflow_provider_jobapi.services.jobapi.transport import TIMES
from airflow_provider_jobapi.training.masking import Masker

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
        self._failure: TrainingError | None = None
        self._failed_at = 0.0
        self._encoded = True

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._connection!r})"

    def cached(self) -> str | None:
        """Return the token if it is valid, without a request; None otherwise."""
        return self._token if time.monotonic() < self._good_until else None

    def token(self, refused: str | None = None) -> str:
        """Return a valid token.

        :param refused: The token that the service has just refused, which is not returned again. One login serves all
            followers that were refused at the same time, and so does one that fails.
        :raises ConnectionProblem: when the token server refuses this client, or is not where the connection says.
        :raises ServiceUnavailable: when it cannot be reached.
        """
        began = time.monotonic()
        with self._lock:
            token = self.cached()
            if token is None or token == refused:
                if self._failure is not None and self._failed_at > began:
                    # Another thread has waited for the token server meanwhile, and in vain.
                    raise copy(self._failure) from None
                token, lifetime = self._fetch()
                self._good_until = time.monotonic() + lifetime - min(LEEWAY, lifetime / 4)
                self._token = token
            return token

    def _fetch(self) -> tuple[str, float]:
        try:
            found = _read(self._login(), self._connection.token_server)
        except TrainingError as error:
            self._failure, self._failed_at = error, time.monotonic()
            raise
        self._failure = None
        return found

    def _login(self) -> dict[str, Any]:
        """Log in. RFC 6749 has the credentials form-encoded in HTTP Basic; some servers take them only as they are."""
        connection = self._connection
        try:
            return _login(connection, encoded=self._encoded)
        except RefusedClient:
            if connection.token_method is TokenMethod.POST_FORM or not _differs(connection):
                raise
            content = _login(connection, encoded=not self._encoded)
        self._encoded = not self._encoded
        how = "form-encoded, as RFC 6749 says" if self._encoded else "without the form-encoding of RFC 6749"
        logging.getLogger(__name__).info(f"{connection.token_server} takes login and password {how}.")
        return content


class RefusedClient(ConnectionProblem):
    """The token server does not know this client, or its secret is another."""


def _login(connection: JobApiConnection, *, encoded: bool) -> dict[str, Any]:
    from authlib.integrations.base_client import OAuthError
    from authlib.integrations.requests_client import OAuth2Session

    from airflow_provider_jobapi.services.jobapi.transport import configure

    method = _http_method(connection)
    form = connection.token_method is TokenMethod.POST_FORM
    # A session of its own each time: logins are rare, and a session that is shared would need a lock of its own.
    with OAuth2Session(
        connection.client_id,
        connection.client_secret,
        token_endpoint_auth_method="client_secret_post" if form else "basic",
        scope=connection.scope,
    ) as session:
        session.register_client_auth_method(("basic", partial(_basic, connection, encoded)))
        configure(session, connection, connection.token_url)
        session.register_compliance_hook("access_token_response", lambda response: _checked(response, connection))
        more = {"audience": connection.audience, "resource": connection.resource}
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
                    **{name: value for name, value in more.items() if value},
                )
            )
        except OSError as error:  # every error of requests is one
            raise connection.error_of_fault(error, connection.token_server) from None
        except OAuthError as error:
            raise _refusal(connection, str(error.error), str(error.description or "")) from None
        except (ValueError, TypeError, OverflowError):
            raise _no_token(connection.token_server) from None


def _http_method(connection: JobApiConnection) -> str:
    return "GET" if connection.token_method is TokenMethod.GET_BASIC else "POST"


def _basic(
    connection: JobApiConnection,
    encoded: bool,
    _client: Any,
    _method: str,
    uri: str,
    headers: Any,
    body: Any,
) -> tuple[str, Any, Any]:
    """Write login and password into the request as HTTP Basic, in UTF-8."""
    code = quote_plus if encoded else str
    pair = f"{code(connection.client_id)}:{code(connection.client_secret)}"
    headers["Authorization"] = f"Basic {b64encode(pair.encode('utf-8', 'surrogatepass')).decode()}"
    return uri, headers, body


def _differs(connection: JobApiConnection) -> bool:
    """Whether the form-encoding of login or password is another text."""
    return any(quote_plus(text) != text for text in (connection.client_id, connection.client_secret))


_ADVICE = {
    "invalid_scope": "check the connection's scope",
    "invalid_target": "check the connection's audience and resource",
    "unsupported_grant_type": "the token server does not offer client_credentials; check the connection's oauth_url",
    "invalid_request": "check the connection's token_method, scope, audience and resource",
    "unauthorized_client": "let the token server's operator allow client_credentials for this client",
}
"""What to do about an error of OAuth2, by its code."""


def _refusal(connection: JobApiConnection, code: str, description: str) -> ConnectionProblem:
    said = _safe(connection, f"{code}: {description}" if description else code)
    advice = _ADVICE.get(code, "check the connection's login, password and token_method")
    kind = ConnectionProblem if code in _ADVICE else RefusedClient
    return kind(
        f"The token server {connection.token_server} refuses the client {connection.client_id!r} ({said}); {advice}."
        f"{_white_space(connection) if kind is RefusedClient else ''}"
    )


def _white_space(connection: JobApiConnection) -> str:
    for name, text in (("login", connection.client_id), ("password", connection.client_secret)):
        if text != text.strip():
            return f" The {name} begins or ends with white space, such as a line break; remove it if it is not meant."
    return ""


def _safe(connection: JobApiConnection, said: str) -> str:
    """What the token server said, without the secret: some repeat the header, or the form, that they were sent."""
    secrets = {connection.client_secret, connection.client_secret.strip(), quote_plus(connection.client_secret)} - {""}
    return sentence(Masker(secrets).text(said)).rstrip(" .")


def _checked(response: Any, connection: JobApiConnection) -> Any:
    """Read the answer of the token server with a limit, and raise the errors that Authlib does not distinguish."""
    from airflow_provider_jobapi.services.jobapi.transport import read_bounded

    body = read_bounded(response, _LARGEST, connection.token_server, TIMES * connection.timeout)
    response._content = body  # noqa: SLF001 -- what requests does itself, without a bound
    status, url = response.status_code, connection.token_server
    said = _said(connection, body, response.headers.get("Content-Type", ""))
    if status == 429 or status >= 500:
        answer = Answer(status, {key.lower(): value for key, value in response.headers.items()}, b"", datetime.now(UTC))
        raise ServiceUnavailable(
            f"The token server {url} is unavailable (HTTP {status}{said}).", retry_after=answer.retry_after()
        )
    if 300 <= status < 400:
        raise ConnectionProblem(f"{url} redirects; set the connection's oauth_url to the final address.")
    if status in {404, 405}:
        raise ConnectionProblem(
            f"There is no token server at {url} for {_http_method(connection)}; check the connection's host, "
            "oauth_url and token_method."
        )
    if status >= 400 and not _names_an_error(body):
        kind = RefusedClient if status == 401 else ConnectionProblem
        raise kind(
            f"{url} refuses the client {connection.client_id!r} (HTTP {status}{said}); check the login and password, "
            f"oauth_url and token_method.{_white_space(connection)}"
        )
    if not _is_object(body):
        raise _no_token(url)
    return response


def _said(connection: JobApiConnection, body: bytes, kind: str) -> str:
    """The text of an answer that is no token, to be appended to its status; empty where it has none."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        text = "" if "html" in kind or body.lstrip()[:1] == b"<" else body[:2000].decode("utf-8", "replace")
    else:
        names = ("error_description", "detail", "message", "error", "title")
        texts = (content.get(name) for name in names) if isinstance(content, dict) else ()
        text = next((text for text in texts if isinstance(text, str)), "")
    text = sentence(_safe(connection, text), 200)
    return f": {text}" if text else ""


def _names_an_error(body: bytes) -> bool:
    return _is_object(body) and isinstance(json.loads(body).get("error"), str)


def _is_object(body: bytes) -> bool:
    try:
        return isinstance(json.loads(body), dict)
    except (ValueError, RecursionError):
        return False


def _no_token(url: str) -> BrokenContract:
    return BrokenContract(f"The answer of {url} is not an OAuth2 token; check the connection's oauth_url.")


def _read(content: dict[str, Any], url: str) -> tuple[str, float]:
    token, kind, lifetime = (content.get(name) for name in ("access_token", "token_type", "expires_in"))
    # A token becomes a header; a line break in it would become a header of its own.
    if not isinstance(token, str) or not re.fullmatch(r"[\x21-\x7e]{1,16384}", token):
        raise BrokenContract(f"The answer of {url} has no valid access_token.")
    # Apigee issues BearerToken.
    if re.sub(r"[\s_-]", "", str(kind or "bearer")).lower() not in {"bearer", "bearertoken"}:
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
