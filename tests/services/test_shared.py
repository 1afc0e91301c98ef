# SPDX-License-Identifier: Apache-2.0
"""One client for all followers of a connection in an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import pytest

from airflow_provider_jobapi.services.shared import shared


class Opened:
    """What was opened and closed, in this order."""

    def __init__(self, failures: int = 0) -> None:
        self.events = list[str]()
        self.failures = failures
        self.go_on = asyncio.Event()
        self.go_on.set()

    @asynccontextmanager
    async def make(self) -> AsyncIterator[object]:
        self.events.append("open")
        await self.go_on.wait()
        if self.failures:
            self.failures -= 1
            raise OSError("no")
        yield object()
        self.events.append("close")


def test_the_first_user_opens_and_the_last_one_closes() -> None:
    async def use() -> list[str]:
        opened = Opened()
        async with AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(shared("a", opened.make)) for _ in range(50)]
            assert len(set(clients)) == 1
            async with shared("b", opened.make) as other:
                assert other not in clients
        async with shared("a", opened.make) as later:
            assert later not in clients
        return opened.events

    assert asyncio.run(use()) == ["open", "open", "close", "close", "open", "close"]
    assert asyncio.run(use()) == ["open", "open", "close", "close", "open", "close"]


def test_users_that_come_at_once_wait_for_one_client() -> None:
    async def use() -> list[str]:
        opened = Opened()
        opened.go_on.clear()

        async def one() -> object:
            async with shared("a", opened.make) as client:
                await asyncio.sleep(0)
                return client

        users = [asyncio.create_task(one()) for _ in range(10)]
        await asyncio.sleep(0)
        opened.go_on.set()
        assert len(set(await asyncio.gather(*users))) == 1
        return opened.events

    assert asyncio.run(use()) == ["open", "close"]


def test_a_user_that_is_cancelled_while_it_opens_leaves_the_client_to_the_others() -> None:
    async def use() -> list[str]:
        opened = Opened()
        opened.go_on.clear()

        async def one() -> None:
            async with shared("a", opened.make):
                pass

        first, second = asyncio.create_task(one()), asyncio.create_task(one())
        await asyncio.sleep(0)
        first.cancel()
        with suppress(asyncio.CancelledError):
            await first
        opened.go_on.set()
        await second
        return opened.events

    assert asyncio.run(use()) == ["open", "open", "close"]


def test_a_client_that_cannot_be_opened_is_tried_again_by_the_next_user() -> None:
    async def use() -> list[str]:
        opened = Opened(failures=1)
        with pytest.raises(OSError, match="no"):
            async with shared("a", opened.make):
                pass
        async with shared("a", opened.make):
            pass
        return opened.events

    assert asyncio.run(use()) == ["open", "open", "close"]
