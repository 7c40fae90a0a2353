"""The change feed: what changed in a service, in the order of commit, for those that keep a cached view of it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass

import sqlalchemy as sa

from services.runtime.database import Database
from services.runtime.writes import FollowedTables

HEARTBEAT_SECONDS = 2.0
POLL_SECONDS = 0.25
"""How soon a change is seen that another process of the service committed."""
BATCH = 1000


@dataclass(frozen=True, slots=True)
class Change:
    """A change, or a heartbeat (empty type and id) with the newest cursor."""

    cursor: int
    resource_type: str = ""
    resource_id: str = ""


class ChangeFeed:
    """Streams the change table of a service."""

    def __init__(self, database: Database, tables: FollowedTables) -> None:
        self._database = database
        self._changes = tables.changes
        self._wake = asyncio.Event()
        self._closed = False

    def wake(self) -> None:
        """Tell the watchers of this process that something was committed."""
        self._wake.set()
        self._wake = asyncio.Event()

    def close(self) -> None:
        """End all watches, so that a server with watchers drains at once."""
        self._closed = True
        self.wake()

    async def newest(self) -> int:
        """Cursor of the newest change; 0 if there is none."""
        async with self._database.reading() as connection:
            return await connection.scalar(sa.select(sa.func.max(self._changes.c.cursor))) or 0

    async def watch(self, from_cursor: int) -> AsyncIterator[Change]:
        """Yield the changes after a cursor (-1: after now) as they are committed, and heartbeats, until `close`."""
        cursor = await self.newest() if from_cursor < 0 else from_cursor
        yield Change(cursor)
        silent_since = asyncio.get_running_loop().time()
        while not self._closed:
            wake = self._wake
            rows = await self._after(cursor)
            for row in rows:
                cursor = row.cursor
                yield row
            now = asyncio.get_running_loop().time()
            if rows:
                silent_since = now
            elif now - silent_since >= HEARTBEAT_SECONDS:
                silent_since = now
                yield Change(cursor)
            if len(rows) < BATCH:
                with suppress(TimeoutError):
                    await asyncio.wait_for(wake.wait(), POLL_SECONDS)

    async def _after(self, cursor: int) -> list[Change]:
        changes = self._changes.c
        query = (
            sa.select(changes.cursor, changes.resource_type, changes.resource_id)
            .where(changes.cursor > cursor)
            .order_by(changes.cursor)
            .limit(BATCH)
        )
        async with self._database.reading() as connection:
            return [Change(*row) for row in await connection.execute(query)]
