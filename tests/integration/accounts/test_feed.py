"""What other services follow: batches, changes in order, heartbeats."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

from meterline.accounts.v1 import accounts_pb2, accounts_pb2_grpc
from services.common.ids import new_id
from services.runtime.channels import Channel
from services.runtime.directory import AccountDirectory
from tests import factories
from tests.integration.accounts.world import ENTERPRISE, RESELLER, SUB_ACCOUNT, TOKENS, World


def watch(world: World, from_cursor: int) -> AsyncIterator[accounts_pb2.WatchAccountChangesResponse]:
    stub = accounts_pb2_grpc.AccountServiceStub(world.peer.grpc)
    request = accounts_pb2.WatchAccountChangesRequest(from_cursor=from_cursor)
    return world.peer.stream(stub.WatchAccountChanges, request)


async def changes(world: World, from_cursor: int, count: int) -> list[accounts_pb2.WatchAccountChangesResponse]:
    """The next changes after a cursor, without heartbeats."""
    found = []
    async for change in watch(world, from_cursor):
        if change.HasField("account") or change.api_key_id:
            found.append(change)
        if len(found) == count:
            return found
    raise AssertionError


async def test_a_batch_has_what_exists_with_whole_paths(world: World):
    operator, service = world.operator, world.as_service()
    reseller = await operator.create(RESELLER, operator.account_id)
    request = accounts_pb2.BatchGetAccountsRequest(account_ids=[reseller.id, new_id("acc"), operator.account_id])
    found = await service(service.accounts.BatchGetAccounts, request)
    paths = {account.id: list(account.path) for account in found.accounts}
    assert paths == {operator.account_id: [operator.account_id], reseller.id: [operator.account_id, reseller.id]}
    assert next(account for account in found.accounts if account.id == reseller.id).parent_id == operator.account_id
    many = accounts_pb2.BatchGetAccountsRequest(account_ids=[new_id("acc") for _ in range(1001)])
    assert await service.refused(service.accounts.BatchGetAccounts, many) == "INVALID_ARGUMENT FIELD_INVALID"


async def test_the_feed_tells_every_change_in_order_and_resumes_at_a_cursor(world: World):
    operator = world.operator
    start = (await anext(watch(world, -1))).cursor
    enterprise = await operator.create(ENTERPRISE, operator.account_id)
    sub = await operator.create(SUB_ACCOUNT, enterprise.id)
    caller = await world.as_(enterprise.id)
    await operator.do("suspend", enterprise.id)
    limit = factories.update_account(enterprise.id, credit_limit=factories.money(9))
    await operator(operator.accounts.UpdateAccount, limit)
    found = await changes(world, start, 7)
    told = [change.account.id or change.api_key_id for change in found]
    assert told == [enterprise.id, sub.id, caller.key_id, enterprise.id, sub.id, enterprise.id, sub.id]
    assert [change.cursor for change in found] == sorted({change.cursor for change in found})
    last = found[-1].account
    assert (last.credit_limit, list(last.path)) == (factories.money(9), [operator.account_id, enterprise.id, sub.id])
    assert last.suspension_cause == accounts_pb2.SUSPENSION_CAUSE_PARENT
    rest = await changes(world, found[4].cursor, 2)
    assert [change.account.id for change in rest] == [enterprise.id, sub.id]


async def test_a_directory_follows_the_tree(small_world: World):
    world, operator = small_world, small_world.operator
    enterprise = await operator.create(ENTERPRISE, operator.account_id)
    directory = AccountDirectory(world.peer)
    following = asyncio.create_task(directory.follow())
    try:
        await asyncio.sleep(0.2)  # the feed is open
        assert (await directory.get(enterprise.id)).active
        await operator.do("suspend", enterprise.id)
        async with asyncio.timeout(2):
            while (await directory.get(enterprise.id)).active:
                await asyncio.sleep(0.02)
    finally:
        following.cancel()


async def test_a_heartbeat_comes_in_time_with_the_newest_cursor(small_world: World):
    feed = watch(small_world, -1)
    first = await anext(feed)
    async with asyncio.timeout(5):
        heartbeat = await anext(feed)
    assert (heartbeat.cursor, heartbeat.HasField("account"), heartbeat.api_key_id) == (first.cursor, False, "")


async def test_a_service_that_is_watched_stops_at_once(small_world: World):
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack, AsyncExitStack() as process:
        server = await small_world.serve(process)
        peer = await stack.enter_async_context(Channel(f"127.0.0.1:{server.port}", "rating", TOKENS))
        stub = accounts_pb2_grpc.AccountServiceStub(peer.grpc)
        feed = peer.stream(stub.WatchAccountChanges, accounts_pb2.WatchAccountChangesRequest(from_cursor=-1))
        await anext(feed)
        started = loop.time()
        await process.aclose()
        assert loop.time() - started < 5  # the server's grace is ten seconds
        assert [change async for change in feed] == []
