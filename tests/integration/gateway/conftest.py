"""The world that the tests of a file share; each test has a client of its own and sees only its own requests."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest_asyncio

from tests.integration.gateway.world import World, client, running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def started() -> AsyncIterator[World]:
    async with running() as world:
        yield world


@pytest_asyncio.fixture(loop_scope="module")
async def world(started: World) -> AsyncIterator[World]:
    started.seen.requests.clear()
    started.seen.metadata.clear()
    async with client(started.port) as http:
        yield replace(started, http=http)
