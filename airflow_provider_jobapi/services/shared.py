# SPDX-License-Identifier: Apache-2.0
"""Clients that all followers of a connection share in an event loop.

A client of its own for each of a thousand jobs would cost a triggerer a gigabyte, and minutes in which its event loop
does nothing else: each reads its certificates and the description of its service by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

Client = TypeVar("Client")


class _Shared:
    """A client, and how many use it."""

    def __init__(self) -> None:
        self.users = 0
        self.client: Any = None
        self.opening = asyncio.Lock()
        self.stack = AsyncExitStack()


_of_loops: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Hashable, _Shared]] = WeakKeyDictionary()


@asynccontextmanager
async def shared(key: Hashable, make: Callable[[], AbstractAsyncContextManager[Client]]) -> AsyncIterator[Client]:
    """Use the client of this key in the running event loop. The first user opens it, the last one closes it.

    :param key: Everything that makes two clients differ.
    :param make: Makes the client. Where it fails, the next user tries again.
    """
    clients = _of_loops.setdefault(asyncio.get_running_loop(), {})
    entry = clients.setdefault(key, _Shared())
    entry.users += 1
    try:
        async with entry.opening:
            if entry.client is None:
                entry.client = await entry.stack.enter_async_context(make())
        yield entry.client
    finally:
        entry.users -= 1
        if entry.users == 0:
            if clients.get(key) is entry:
                del clients[key]
            await entry.stack.aclose()
