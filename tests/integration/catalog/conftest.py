from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest_asyncio

from tests.integration.catalog.world import World


@pytest_asyncio.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    """The catalog service over SQLite and over PostgreSQL."""
    async with AsyncExitStack() as stack:
        made = World()
        await made.start(stack, database_url)
        yield made


@pytest_asyncio.fixture
async def small_world(sqlite_url: str) -> AsyncIterator[World]:
    """The catalog service over SQLite: for what does not depend on the database."""
    async with AsyncExitStack() as stack:
        made = World()
        await made.start(stack, sqlite_url)
        yield made
