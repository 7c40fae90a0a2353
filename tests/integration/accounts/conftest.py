from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest_asyncio

from tests.integration.accounts.world import World


@pytest_asyncio.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    """The accounts service over SQLite and over PostgreSQL."""
    async with AsyncExitStack() as stack:
        yield await World(database_url).start(stack)


@pytest_asyncio.fixture
async def small_world(sqlite_url: str) -> AsyncIterator[World]:
    """The accounts service over SQLite: for what does not depend on the database."""
    async with AsyncExitStack() as stack:
        yield await World(sqlite_url).start(stack)
