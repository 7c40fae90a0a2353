"""The first start, the next ones, and another key in the environment."""

import asyncio
from contextlib import AsyncExitStack

import grpc
import pytest

from meterline.accounts.v1 import identity_pb2
from services.accounts.usecases.bootstrap import OPERATOR_ID
from services.common.ids import derived_id
from tests.integration.accounts.world import RESELLER, Caller, World, new_key

INVALID = "UNAUTHENTICATED CREDENTIAL_INVALID"


async def caller_of(stack: AsyncExitStack, port: int, key: str) -> Caller:
    channel = await stack.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{port}"))
    return Caller(channel, f"Bearer {key}")


async def test_two_first_starts_at_once_make_one_operator(database_url):
    world = World(database_url)
    async with AsyncExitStack() as stack:
        servers = await asyncio.gather(*(world.serve(stack) for _ in range(2)))
        for server in servers:
            caller = await caller_of(stack, server.port, world.key)
            me = await caller.me()
            assert me.account_id == OPERATOR_ID == derived_id("acc", "operator")
            assert me.role == identity_pb2.ROLE_ADMIN
            assert len(await caller.ids()) == 1


async def test_a_restart_keeps_the_tree_and_another_key_replaces_the_first(database_url):
    world = World(database_url)
    async with AsyncExitStack() as stack:
        server = await world.serve(stack, operator_name="Telco", operator_currency="USD")
        first = await caller_of(stack, server.port, world.key)
        account = await first.get((await first.me()).account_id)
        assert (account.name, account.currency) == ("Telco", "USD")
        reseller = await first.create(RESELLER, OPERATOR_ID)
    old, world.key = world.key, new_key()
    async with AsyncExitStack() as stack:
        server = await world.serve(stack, operator_name="Another")
        rotated = await caller_of(stack, server.port, world.key)
        assert sorted(await rotated.ids()) == sorted([OPERATOR_ID, reseller.id])
        assert (await rotated.get(OPERATOR_ID)).name == "Telco"
        gone = await caller_of(stack, server.port, old)
        assert await gone.refused(gone.identity.GetMe, identity_pb2.GetMeRequest()) == INVALID


async def test_a_start_does_not_bring_a_revoked_key_back(sqlite_url):
    world = World(sqlite_url)
    async with AsyncExitStack() as stack:
        server = await world.serve(stack)
        caller = await caller_of(stack, server.port, world.key)
        await caller(
            caller.identity.RevokeApiKey, identity_pb2.RevokeApiKeyRequest(api_key_id=(await caller.me()).actor)
        )
    async with AsyncExitStack() as stack:
        server = await world.serve(stack)
        caller = await caller_of(stack, server.port, world.key)
        assert await caller.refused(caller.identity.GetMe, identity_pb2.GetMeRequest()) == INVALID


async def test_the_same_key_id_with_another_secret_has_the_new_secret(sqlite_url):
    world = World(sqlite_url)
    async with AsyncExitStack() as stack:
        await world.serve(stack)
    old, world.key = world.key, world.key[:30] + new_key()[30:]
    async with AsyncExitStack() as stack:
        server = await world.serve(stack)
        assert (await (await caller_of(stack, server.port, world.key)).me()).account_id == OPERATOR_ID
        gone = await caller_of(stack, server.port, old)
        assert await gone.refused(gone.identity.GetMe, identity_pb2.GetMeRequest()) == INVALID


@pytest.mark.parametrize(
    ("told", "named"),
    [
        ({"bootstrap_operator_key": "secret"}, "METERLINE_BOOTSTRAP_OPERATOR_KEY"),
        ({"operator_currency": "euro"}, "METERLINE_OPERATOR_CURRENCY"),
    ],
)
async def test_a_wrong_setting_stops_the_start_and_is_named(sqlite_url, told, named):
    async with AsyncExitStack() as stack:
        with pytest.raises(SystemExit, match=named):
            await World(sqlite_url).serve(stack, **told)
