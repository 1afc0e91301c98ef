# SPDX-License-Identifier: Apache-2.0
"""Send requests to ModelArts as the connection's user. keystoneauth1 logs in at IAM and caches the project's token.

All threads and followed jobs of a process share one login: a token is valid for a day, and IAM asks clients to cache
it. keystoneauth1 is synchronous, so the triggerer calls from threads.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_provider_jobapi.exceptions import BrokenContract, ConnectionProblem, ServiceUnavailable, TrainingError
from airflow_provider_jobapi.services import settings
from airflow_provider_jobapi.services.answer import Answer, sentence
from airflow_provider_jobapi.services.modelarts.calls import Call
from airflow_provider_jobapi.services.modelarts.connection import ModelArtsConnection
from airflow_provider_jobapi.services.modelarts.errors import code_of, error_of, is_token_expired, succeeded

if TYPE_CHECKING:
    from keystoneauth1.identity.v3 import Password
    from keystoneauth1.session import Session as Keystone
    from requests import Response

Mask = Callable[[str], None]
"""Receives each secret, or the part of it that must be hidden, so that logs can mask it."""

MASKED_CHARACTERS = 256
"""Characters at a token's end that are masked in logs; the rest is worthless without them. A whole token has some
6,000, and Airflow's masker rebuilds one pattern of all secrets for each new one, which took 5 s after a year."""

SOCKETS = 32
"""Connections that are kept open, one for each thread that may send a request at the same time."""

MAX_SESSIONS = 64
"""Sessions that a process keeps. A connection that was edited leaves its session behind."""


class ApiSession:
    """Sends requests as the connection's user.

    Safe for threads, but not for signal handlers; see :meth:`separate`.

    :param mask: Receives each token.
    :param login: A login of another session, as keystoneauth1 serialises it.
    """

    def __init__(self, connection: ModelArtsConnection, mask: Mask, *, login: str | None = None) -> None:
        self._connection = connection
        self._mask = mask
        self._lock = threading.Lock()
        self._keystone: tuple[Keystone, Password] | None = None
        self._login = login
        self._masked = ""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._connection!r})"

    def project_id(self) -> str:
        """Return the id of the connection's project, which is part of the token.

        :raises ConnectionProblem: if IAM refuses the user or has no such project.
        """
        return self._access()[1]

    def send(self, call: Call, accept: Callable[[Answer], bool] = succeeded) -> Answer:
        """Send a request once, or twice with a new login between if the token has expired.

        :param accept: Whether the caller reads an answer.
        :raises TrainingError: for every other answer.
        """
        answer, token = self._once(call)
        renewed = is_token_expired(answer)
        if renewed:
            self._discard_token(token)
            answer, _ = self._once(call)
        if accept(answer):
            return answer
        error = error_of(answer, call)
        if renewed and answer.status == 401 and not code_of(answer):
            known = self._connection
            raise ConnectionProblem(
                f"{error} A new token was refused, too: the gateway at {known.url} takes tokens of its own region; "
                f"check that the host, {known.iam_url} and the project {known.project!r} belong to one region."
            )
        raise error

    def fetch(self, url: str, begin: int, most: int) -> tuple[int, bytes]:
        """Read a part of an OBS object from a signed link, which needs no token.

        :param begin: The byte to begin at.
        :param most: The most bytes.
        :returns: The byte at which the part begins, and the part.
        """
        import requests

        connection, (link, _, signature) = (
            self._connection,
            (requests.Request("GET", url).prepare().url or url).partition("?"),
        )
        proxy = connection.proxy_for(url)
        if logging.getLogger("urllib3").isEnabledFor(logging.DEBUG):
            self._mask(signature)  # urllib3 logs every path then; the link is valid for some minutes
        with _convert_link_errors(link), requests.Session() as store:
            store.trust_env = False
            with store.get(
                url,
                headers={"Range": f"bytes={begin}-{begin + most - 1}", "Accept-Encoding": "identity"},
                stream=True,
                timeout=connection.timeout,
                proxies={urlsplit(url).scheme: proxy} if proxy else None,
                verify=settings.roots(connection.ca_bundle) if connection.verify else False,
            ) as answer:
                if answer.status_code == 416:
                    return begin, b""
                if answer.status_code not in {200, 206}:
                    raise ServiceUnavailable(f"OBS answered HTTP {answer.status_code} for {link}, the log of the job.")
                return _read_part(answer, begin, most)

    def separate(self, timeout: float) -> ApiSession:
        """Return a session with the same token and its own locks, for a signal handler.

        It masks no new token: Airflow's masker sends a request to the supervisor, for whose answer the interrupted
        thread may be waiting.

        :param timeout: The most seconds for an answer.
        """
        kept = None if self._keystone is None else self._keystone[1].get_auth_state()
        connection = replace(self._connection, timeout=min(timeout, self._connection.timeout))
        return ApiSession(connection, lambda _: None, login=kept)

    def close(self) -> None:
        """Close the connections; a session that is used again opens new ones."""
        if self._keystone is not None:
            self._keystone[0].session.close()

    def _access(self) -> tuple[str, str]:
        """Return a token and the id of its project."""
        session, password = self._open()
        with _convert_errors(self._connection):
            try:
                access = password.get_access(session)
            except AssertionError:  # another thread's request was just refused with this token
                access = password.get_access(session)
        if access.auth_token and access.auth_token != self._masked:
            self._masked = access.auth_token
            self._mask(access.auth_token[-MASKED_CHARACTERS:])
        if not access.project_id:
            raise BrokenContract(
                f"IAM at {self._connection.iam_url} issued a token without a project; check the connection's "
                "project and iam_url."
            )
        return access.auth_token or "", access.project_id

    def _discard_token(self, token: str) -> None:
        """Make the next request log in, unless another thread has done so since this token was refused."""
        _, password = self._open()
        with self._lock:
            if password.auth_ref is not None and password.auth_ref.auth_token == token:
                password.invalidate()

    def _once(self, call: Call) -> tuple[Answer, str]:
        """Return the answer, and the token of the request."""
        token, project = self._access()
        session, _ = self._open()
        sent = datetime.now(UTC)
        with _convert_errors(self._connection):
            response = session.request(
                f"{self._connection.url}/{call.version}/{project}{call.path}",
                call.method,
                json=None if call.body is None else dict(call.body),
                params=dict(call.params),
                headers={"Accept": "application/json", "X-Project-Id": project, "X-Auth-Token": token},
                # keystoneauth1 would log in again after every 401, also after those that mean a missing permission.
                authenticated=False,
                raise_exc=False,
                redirect=False,
                # Bodies contain variables of jobs and signed links of OBS.
                log=False,
            )
        now = datetime.now(UTC)
        headers = {name.lower(): value for name, value in response.headers.items()}
        return Answer(response.status_code, headers, response.content, sent + (now - sent) / 2), token

    def _open(self) -> tuple[Keystone, Password]:
        with self._lock:
            if self._keystone is None:
                self._keystone = _keystone(self._connection)
                self._keystone[1].set_auth_state(self._login)
            return self._keystone


def _read_part(answer: Response, begin: int, most: int) -> tuple[int, bytes]:
    """Read the requested part of an object; a store that ignores Range sends the whole object."""
    skip = 0 if answer.status_code == 206 else begin
    body = bytearray()
    for piece in answer.iter_content(64 * 1024):
        body += piece[skip:]
        skip = max(0, skip - len(piece))
        if len(body) >= most:
            break
    return begin, bytes(body[:most])


def _keystone(connection: ModelArtsConnection) -> tuple[Keystone, Password]:
    import requests
    from requests.adapters import HTTPAdapter

    try:
        from keystoneauth1.identity.v3 import Password
        from keystoneauth1.session import Session as Keystone
    except ModuleNotFoundError as error:
        raise ConnectionProblem(
            f"ModelArts needs keystoneauth1 ({error.name} is not installed): install "
            "airflow-provider-jobapi[modelarts] on workers and triggerers."
        ) from None

    inner = requests.Session()
    # Otherwise .netrc would add an Authorization header; proxies and authorities are set below.
    inner.trust_env = False
    for url in (connection.url, connection.iam_url):
        if proxy := connection.proxy_for(url):
            parts = urlsplit(url)
            # The key that requests looks up has no port and no path.
            inner.proxies[f"{parts.scheme}://{parts.hostname}"] = proxy
    for scheme in ("https://", "http://"):
        inner.mount(scheme, HTTPAdapter(pool_maxsize=SOCKETS))
    password = Password(
        connection.iam_url,
        username=connection.user,
        password=connection.password,
        user_domain_name=connection.domain,
        project_name=connection.project,
        project_domain_name=connection.domain,
    )
    verify = settings.roots(connection.ca_bundle) if connection.verify else False
    keystone = Keystone(password, session=inner, verify=verify, timeout=connection.timeout, user_agent="jobapi")
    return keystone, password


@contextmanager
def _convert_link_errors(link: str) -> Iterator[None]:
    from requests import RequestException
    from requests.exceptions import SSLError

    try:
        yield
    except SSLError:
        raise ConnectionProblem(
            f"The certificate of OBS at {link} is not trusted; set the connection's ca_bundle to the authority that "
            "signed it."
        ) from None
    except RequestException as error:
        raise ServiceUnavailable(f"OBS cannot be reached at {link}: {type(error).__name__}.") from None


@contextmanager
def _convert_errors(connection: ModelArtsConnection) -> Iterator[None]:
    """Convert errors of keystoneauth1 and requests. HTTP errors come from the login only."""
    from keystoneauth1 import exceptions
    from requests import RequestException

    try:
        yield
    except exceptions.HttpError as error:
        raise _login_refused(error, connection) from None
    except exceptions.SSLError:
        raise ConnectionProblem(
            f"The certificate of {connection.url} or of its IAM is not trusted; set the connection's ca_bundle to the "
            "authority that signed it."
        ) from None
    except (exceptions.ConnectFailure, exceptions.ConnectionError, RequestException) as error:
        raise ServiceUnavailable(
            f"ModelArts at {connection.url} or its IAM cannot be reached: {type(error).__name__}."
        ) from None
    except (exceptions.ClientException, KeyError) as error:  # KeyError: the header with the token is missing
        raise ConnectionProblem(
            f"{connection.iam_url} is not an IAM endpoint ({sentence(error, 200)}); check the connection's iam_url."
        ) from None


def _login_refused(error: Any, connection: ModelArtsConnection) -> TrainingError:
    status = int(error.http_status or 0)
    response = getattr(error, "response", None)
    headers = {} if response is None else {name.lower(): value for name, value in response.headers.items()}
    message = sentence(error.message or "", 200).removesuffix(f"(HTTP {status})").rstrip(" .")
    message = message.replace(connection.password, "***")
    words = f"HTTP {status}: {message}" if message else f"HTTP {status}"
    if status in {408, 429} or status >= 500:
        answer = Answer(status, headers, b"", datetime.now(UTC))
        return ServiceUnavailable(
            f"IAM at {connection.iam_url} is temporarily unavailable ({words}).", retry_after=answer.retry_after()
        )
    if status in {404, 405} and "roject" not in message:
        return ConnectionProblem(
            f"{connection.iam_url} is not an IAM endpoint ({words}); check the connection's iam_url."
        )
    return ConnectionProblem(
        f"IAM refused user {connection.user!r} of domain {connection.domain!r} access to project "
        f"{connection.project!r} ({words}); check the connection's login, password, domain and project."
    )


_sessions: dict[ModelArtsConnection, ApiSession] = {}
_sessions_lock = threading.RLock()


def session_of(connection: ModelArtsConnection, mask: Mask) -> ApiSession:
    """Return the session of a connection, one for each process."""
    with _sessions_lock:
        if connection not in _sessions:
            while len(_sessions) >= MAX_SESSIONS:
                _sessions.pop(next(iter(_sessions))).close()
            _sessions[connection] = ApiSession(connection, mask)
        return _sessions[connection]
