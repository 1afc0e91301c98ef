# SPDX-License-Identifier: Apache-2.0
"""A bound on the time of a whole answer: the timeouts of sockets count from byte to byte only.

A service that sends one byte a second, or ``100 Continue`` without end, would hold a worker for ever.
"""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from functools import cache
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from requests.adapters import HTTPAdapter

TIMES = 4
"""So many times the connection's timeout is given to the head of an answer, and again to a body that is no file's."""


class Watchdog:
    """Ends a connection when the time is over; a context manager.

    :param connection: The socket, or None where there is none to watch.
    :param seconds: The time.
    :raises TimeoutError: at the end of the context, when it was over.
    """

    def __init__(self, connection: socket.socket | None, seconds: float) -> None:
        self._connection = connection
        self._bitten = False
        self._timer = threading.Timer(seconds, self._bite)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        if self._connection is not None:
            self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        if self._bitten and (kind is None or issubclass(kind, Exception)):
            raise TimeoutError("timed out") from None

    def _bite(self) -> None:
        self._bitten = True
        with suppress(OSError):
            assert self._connection is not None  # noqa: S101 -- for the type checker
            self._connection.shutdown(socket.SHUT_RDWR)


def socket_of(raw: Any) -> socket.socket | None:
    """The socket from which the body of an answer comes.

    :param raw: ``Response.raw`` of requests.
    """
    known = getattr(raw, "watched", None) or getattr(getattr(raw, "_original_response", None), "watched", None)
    return known if isinstance(known, socket.socket) else None


@cache
def watched_adapter() -> type[HTTPAdapter]:
    """The adapter for sessions whose answers are watched. Made late, since requests is not for the import of a DAG."""
    from requests.adapters import HTTPAdapter
    from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

    pools = {"http": _watched(HTTPConnectionPool), "https": _watched(HTTPSConnectionPool)}

    class Adapter(HTTPAdapter):
        def init_poolmanager(self, *arguments: Any, **more: Any) -> None:
            super().init_poolmanager(*arguments, **more)
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
