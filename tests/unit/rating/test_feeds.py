"""How rating follows the changes of other services."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from services.common.errors import UnavailableError
from services.rating import peers
from services.rating.peers import Feed


@dataclass
class Change:
    cursor: int


async def test_a_feed_goes_on_after_one_that_breaks_and_one_that_falls_silent(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(peers, "STALE_SECONDS", 0.05)
    monkeypatch.setattr(peers, "RETRY_SECONDS", 0.01)
    asked: list[int] = []
    applied: list[int] = []
    done = asyncio.Event()

    async def watch(cursor: int) -> AsyncIterator[Change]:
        asked.append(cursor)
        if len(asked) == 1:
            yield Change(7)
            raise UnavailableError("AWAY", "away")
        if len(asked) == 2:
            yield Change(8)
            await asyncio.Event().wait()  # the connection stands, but nothing comes
        yield Change(9)
        done.set()
        await asyncio.Event().wait()

    feed = Feed("accounts", watch, lambda change: applied.append(change.cursor))
    task = asyncio.create_task(feed.run())
    async with asyncio.timeout(5):
        await done.wait()
    task.cancel()
    assert (asked, applied) == ([-1, 7, 8], [7, 8, 9])
    assert feed.silent_seconds < 5
