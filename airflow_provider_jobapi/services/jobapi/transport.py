# SPDX-License-Identifier: Apache-2.0
"""The HTTP sessions of a worker: TLS, proxy, and limits of time and size."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from functools import cache
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from airflow_provider_jobapi.exceptions import BrokenContract
from airflow_provider_jobapi.services.jobapi.errors import error_of_fault

if TYPE_CHECKING:
    from requests import Response, Session
    from requests.adapters import HTTPAdapter

    from airflow_provider_jobapi.services.jobapi.connection import JobApiConnection

CHUNK = 1024 * 1024
"""Bytes that are held at a time where a body is streamed."""

SENT_AT_ONCE = 256 * 1024
"""Bytes of an upload that are read and sent at a time; the 16 KiB of urllib3 cost a large file a fifth of its time."""

TIMES = 4
"""The most time for the head of an answer, and again for a body in memory, in units of the connection's timeout.

The timeouts of sockets count from byte to byte only: a service that sends one byte a second, or ``100 Continue``
without end, would hold a worker for ever.
"""


def configure(session: Session, connection: JobApiConnection, url: str, threads: int = 1) -> None:
    """Configure a session from the connection.

    ``trust_env`` is off: a netrc file would replace the token, and REQUESTS_CA_BUNDLE the connection's own bundle.
    """
    from http.cookiejar import DefaultCookiePolicy

    session.trust_env = False
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    session.headers.update({"Accept-Encoding": "identity", "User-Agent": "airflow-provider-jobapi"})
    session.verify = connection.roots() if connection.verify else False
    if connection.client_cert:
        session.cert = (
            (connection.client_cert, connection.client_key) if connection.client_key else connection.client_cert
        )
    if proxy := connection.proxy_for(url):
        session.proxies = {"http": proxy, "https": proxy}
    adapter = watched_adapter()(pool_connections=2, pool_maxsize=threads, max_retries=0)
    session.mount("http://", adapter)
    session.mount("https://", adapter)


def read_bounded(response: Response, limit: int, address: str, seconds: float) -> bytes:
    """Read a body with a limit of bytes and of seconds.

    :raises BrokenContract: when it is longer, or compressed without a request for that.
    """
    if response.headers.get("Content-Encoding", "identity").lower() not in {"", "identity"}:
        response.close()
        raise BrokenContract(
            f"{address} sends compressed answers that were not requested; a proxy in between may compress them."
        )
    parts: list[bytes] = []
    total = 0
    try:
        with Watchdog(socket_of(response.raw), seconds):
            while part := response.raw.read(min(CHUNK, limit + 1 - total)):
                parts.append(part)
                total += len(part)
                if total > limit:
                    raise BrokenContract(f"{address} sent more than {limit:,} bytes in one answer.")
    except Exception as error:  # noqa: BLE001 -- urllib3's, http.client's and ssl's have nothing in common
        raise error_of_fault(error, address) from None
    finally:
        response.close()
    return b"".join(parts)


class Watchdog:
    """Shuts a connection down when the time is over; a context manager.

    :param connection: The socket, or None where there is none to watch.
    :param seconds: The time.
    :raises TimeoutError: at the end of the context, when it was over.
    """

    def __init__(self, connection: socket.socket | None, seconds: float) -> None:
        self._connection = connection
        self._expired = False
        self._timer = threading.Timer(seconds, self._expire)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        if self._connection is not None:
            self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        if self._expired and (kind is None or issubclass(kind, Exception)):
            raise TimeoutError("timed out") from None

    def _expire(self) -> None:
        self._expired = True
        with suppress(OSError):
            assert self._connection is not None  # noqa: S101 -- for the type checker
            self._connection.shutdown(socket.SHUT_RDWR)


def socket_of(raw: Any) -> socket.socket | None:
    """Return the socket of an answer.

    :param raw: ``Response.raw`` of requests.
    """
    known = getattr(raw, "watched", None) or getattr(getattr(raw, "_original_response", None), "watched", None)
    return known if isinstance(known, socket.socket) else None


@cache
def watched_adapter() -> type[HTTPAdapter]:
    """The requests adapter whose answers are watched; made when it is needed, since requests is slow to import."""
    from requests.adapters import HTTPAdapter
    from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

    pools = {"http": _watched(HTTPConnectionPool), "https": _watched(HTTPSConnectionPool)}

    class Adapter(HTTPAdapter):
        def init_poolmanager(self, *arguments: Any, **more: Any) -> None:
            super().init_poolmanager(*arguments, blocksize=SENT_AT_ONCE, **more)
            self.poolmanager.pool_classes_by_scheme = pools

        def proxy_manager_for(self, proxy: str, **more: Any) -> Any:
            manager = super().proxy_manager_for(proxy, **more)
            manager.pool_classes_by_scheme = pools
            return manager

    return Adapter


def _watched(pool: Any) -> Any:
    class Connection(pool.ConnectionCls):  # type: ignore[misc]
        def getresponse(self, *arguments: Any, **more: Any) -> Any:
            connection, answer = self.sock, None
            try:
                with Watchdog(connection, TIMES * (self.timeout or 30.0)):
                    answer = super().getresponse(*arguments, **more)
            except TimeoutError:
                if answer is not None:  # the head that was cut off looks like a whole one
                    answer.close()
                raise
            answer.watched = connection
            return answer

    return type(pool.__name__, (pool,), {"ConnectionCls": Connection})
