# SPDX-License-Identifier: Apache-2.0
"""The way to IAM and to ModelArts: keystoneauth1 logs in, keeps the token of a project, and logs in again once.

One login serves every worker thread and every followed job of a process; a token is good for a day and IAM asks that
it be kept. keystoneauth1 is synchronous, so the triggerer calls from threads.
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
from airflow_provider_jobapi.services.modelarts.connection import ModelArtsConnection
from airflow_provider_jobapi.services.modelarts.refusals import (
    is_stale,
    refusal,
    succeeded,
)
from airflow_provider_jobapi.services.modelarts.wire import Call

if TYPE_CHECKING:
    from keystoneauth1.identity.v3 import Password
    from keystoneauth1.session import Session as Keystone
    from requests import Response

Mask = Callable[[str], None]
"""Told each secret, or what of it must not be known, so that logs can hide it."""

MASKED = 256
"""How many characters of a token's end are hidden in logs; without them the rest is worth nothing. A whole one has some
6,000, and Airflow's masker keeps all secrets in one pattern that each new one makes anew: that of a year took 5 s."""

SOCKETS = 32
"""Connections that are kept open, one for each thread that may ask at a time."""


class Session:
    """Sends calls as the connection's user. Safe for threads, but not for signal handlers: see :meth:`apart`."""

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
        """The id of the connection's project, which comes with the token.

        :raises ConnectionProblem: when IAM refuses the user, or there is no such project.
        """
        return self._access()[1]

    def send(self, call: Call, accept: Callable[[Answer], bool] = succeeded) -> Answer:
        """Send a call once, with one more login where the token has ended.

        :param accept: Whether an answer is one that the caller reads.
        :raises TrainingError: whatever else comes, as the error that it means.
        """
        answer, token = self._once(call)
        if is_stale(answer):
            self._renew(token)
            answer, _ = self._once(call)
        if not accept(answer):
            raise refusal(answer, call)
        return answer

    def fetch(self, url: str, begin: int, most: int) -> tuple[int, bytes]:
        """Read an object of OBS behind a link, which needs no token.

        :param begin: The byte to begin at; where the store sends the whole, what is before is left out.
        :param most: Bytes after which the rest is left where it is.
        :returns: The byte at which the read part begins, and the part.
        """
        import requests

        connection, (link, _, signature) = (
            self._connection,
            (requests.Request("GET", url).prepare().url or url).partition("?"),
        )
        proxy = connection.proxy_for(url)
        if logging.getLogger("urllib3").isEnabledFor(logging.DEBUG):
            self._mask(signature)  # urllib3 tells every path then; the link is good for some minutes
        with _errors_of_the_link(link), requests.Session() as store:
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
                    raise ServiceUnavailable(f"OBS answers {answer.status_code} to {link}, the log of the job.")
                return _some(answer, begin, most)

    def apart(self, timeout: float) -> Session:
        """A session with the same token and locks of its own, for a signal handler.

        It hides no token that it gets: Airflow's masker asks the supervisor, for which the interrupted thread may be
        waiting itself.

        :param timeout: The most seconds for an answer.
        """
        kept = None if self._keystone is None else self._keystone[1].get_auth_state()
        connection = replace(self._connection, timeout=min(timeout, self._connection.timeout))
        return Session(connection, lambda _: None, login=kept)

    def close(self) -> None:
        """Close what is open."""
        if self._keystone is not None:
            self._keystone[0].session.close()

    def _access(self) -> tuple[str, str]:
        """A token, and the id of the project that it is of."""
        session, password = self._open()
        with _errors(self._connection):
            try:
                access = password.get_access(session)
            except AssertionError:  # another thread's call has just been refused this very token
                access = password.get_access(session)
        if access.auth_token and access.auth_token != self._masked:
            self._masked = access.auth_token
            self._mask(access.auth_token[-MASKED:])
        if not access.project_id:
            raise BrokenContract(
                f"IAM at {self._connection.iam_url} gave a token that is not of a project; check the connection's "
                "project and iam_url."
            )
        return access.auth_token or "", access.project_id

    def _renew(self, token: str) -> None:
        """Let the next call log in, unless another thread has done so since this token was refused."""
        _, password = self._open()
        with self._lock:
            if password.auth_ref is not None and password.auth_ref.auth_token == token:
                password.invalidate()

    def _once(self, call: Call) -> tuple[Answer, str]:
        """The answer, and the token that the call was sent with."""
        token, project = self._access()
        session, _ = self._open()
        asked = datetime.now(UTC)
        with _errors(self._connection):
            response = session.request(
                f"{self._connection.url}/{call.version}/{project}{call.path}",
                call.method,
                json=None if call.body is None else dict(call.body),
                params=dict(call.params),
                headers={"Accept": "application/json", "X-Project-Id": project, "X-Auth-Token": token},
                # keystoneauth1 would log in anew on every 401, and those that mean a permission are not cured by it.
                authenticated=False,
                raise_exc=False,
                redirect=False,
                # Bodies hold variables of jobs, and links of OBS that are signed.
                log=False,
            )
        now = datetime.now(UTC)
        headers = {name.lower(): value for name, value in response.headers.items()}
        return Answer(response.status_code, headers, response.content, asked + (now - asked) / 2), token

    def _open(self) -> tuple[Keystone, Password]:
        with self._lock:
            if self._keystone is None:
                self._keystone = _keystone(self._connection)
                self._keystone[1].set_auth_state(self._login)
            return self._keystone


def _some(answer: Response, begin: int, most: int) -> tuple[int, bytes]:
    """A part of an object: the one that was asked for, or that part of the whole."""
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
    # Without it .netrc would add an Authorization header; proxies and authorities are given below.
    inner.trust_env = False
    for url in (connection.url, connection.iam_url):
        if proxy := connection.proxy_for(url):
            parts = urlsplit(url)
            inner.proxies[f"{parts.scheme}://{parts.hostname}"] = proxy  # requests looks for this, without port or path
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
def _errors_of_the_link(link: str) -> Iterator[None]:
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
def _errors(connection: ModelArtsConnection) -> Iterator[None]:
    """What went wrong on the way, as one of our errors; an HTTP error can only be the login's."""
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
    except (exceptions.ClientException, KeyError) as error:  # a KeyError is a token that is not in its header
        raise ConnectionProblem(
            f"{connection.iam_url} answers as no IAM does ({sentence(error, 200)}); check the connection's iam_url."
        ) from None


def _login_refused(error: Any, connection: ModelArtsConnection) -> TrainingError:
    status = int(error.http_status or 0)
    response = getattr(error, "response", None)
    headers = {} if response is None else {name.lower(): value for name, value in response.headers.items()}
    said = sentence(error.message or "", 200).removesuffix(f"(HTTP {status})").rstrip(" .")
    said = said.replace(connection.password, "***")
    words = f"HTTP {status}: {said}" if said else f"HTTP {status}"
    if status in {408, 429} or status >= 500:
        answer = Answer(status, headers, b"", datetime.now(UTC))
        return ServiceUnavailable(
            f"IAM at {connection.iam_url} cannot serve now ({words}).", retry_after=answer.retry_after()
        )
    if status in {404, 405} and "roject" not in said:
        return ConnectionProblem(f"There is no IAM at {connection.iam_url} ({words}); check the connection's iam_url.")
    return ConnectionProblem(
        f"IAM refuses the user {connection.user!r} of the domain {connection.domain!r} for the project "
        f"{connection.project!r} ({words}); check the connection's login, password, domain and project."
    )


_sessions: dict[ModelArtsConnection, Session] = {}
_sessions_lock = threading.RLock()


def session_of(connection: ModelArtsConnection, mask: Mask) -> Session:
    """The one session of this connection in this process. A changed connection is another one."""
    with _sessions_lock:
        if connection not in _sessions:
            while len(_sessions) >= 64:  # connections that were edited leave their sessions behind
                _sessions.pop(next(iter(_sessions))).close()  # whoever still has it opens it anew
            _sessions[connection] = Session(connection, mask)
        return _sessions[connection]
