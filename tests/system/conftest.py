"""The running system that the system tests knock at: once on the embedded stores, once on PostgreSQL with four cells."""

import contextlib
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from tests.system.launching import System, launched, postgres_stores
from tests.system.market import Market, build_market
from tests.system.stranger import Stranger


@pytest.fixture(scope="session", params=["embedded", "postgresql"])
def system(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A Meterline that all tests share; each builds customers of its own in it."""
    with contextlib.ExitStack() as stack:
        stores: dict[str, str] = {}
        if request.param == "postgresql":
            stores = stack.enter_context(postgres_stores(request.getfixturevalue("postgres_server")))
            stores = {**stores, "METERLINE_RATING_CELLS": "4"}
        yield stack.enter_context(launched(request.param, tmp_path_factory.mktemp(request.param), stores))


@pytest_asyncio.fixture
async def operator(system: System) -> AsyncIterator[Stranger]:
    """Whoever holds the operator's API key."""
    async with Stranger.connected(system.description) as stranger:
        yield stranger


@pytest_asyncio.fixture
async def market(operator: Stranger) -> Market:
    """Operator, reseller and enterprise of the worked example, with prices, plans and one endpoint."""
    return await build_market(operator)
