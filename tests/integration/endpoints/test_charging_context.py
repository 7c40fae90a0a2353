import asyncio
import time

import pytest

from meterline.endpoints.v1 import charging_context_pb2, endpoints_pb2
from services.common.errors import InvalidArgumentError
from services.common.ids import new_id
from services.endpoints import peers
from tests.integration.endpoints.world import Client, World, account


async def context(world: World, endpoint_id: str) -> charging_context_pb2.EndpointContext:
    rating = world.as_service()
    request = charging_context_pb2.BatchGetEndpointContextsRequest(endpoint_ids=[endpoint_id, new_id("ep")])
    (found,) = (await rating.call(rating.contexts.BatchGetEndpointContexts, request)).contexts
    return found


@pytest.mark.requirement("R076", "R095", "R113", "R115", "R268")
async def test_a_context_says_what_charging_needs_and_its_version_grows_with_every_change(world):
    extra = world.catalog.add("extra", "enterprise", addon=True)
    silver = world.catalog.add("silver", "enterprise")
    endpoint = await world.active_endpoint(endpoint={"barred_services": [3]})
    enterprise = world.as_("enterprise")
    first = await context(world, endpoint.id)
    assert (first.account_id, first.enterprise_id) == (account("enterprise"), account("enterprise"))
    assert (first.state, list(first.barred_services)) == (2, [3])
    assert first.base_assignment == endpoint.base_assignment
    versions = [first.version]

    async def grown() -> charging_context_pb2.EndpointContext:
        found = await context(world, endpoint.id)
        assert found.version > versions[-1]
        versions.append(found.version)
        return found

    addons = []
    for _ in range(2):
        world.clock.advance(1)
        addons.append(await enterprise.addon(endpoint.id, extra))
        assert list((await grown()).addon_assignments) == addons
    await enterprise.remove(addons[0].id)
    assert list((await grown()).addon_assignments) == addons[1:]
    request = endpoints_pb2.ChangePlanRequest(endpoint_id=endpoint.id, plan_id=silver)
    await enterprise.call(enterprise.endpoints.ChangePlan, request)
    assert (await grown()).base_assignment.plan_id == silver
    await enterprise.move("SuspendEndpoint", endpoint.id)
    assert (await grown()).state == 3
    await enterprise.move("DeactivateEndpoint", endpoint.id)
    await grown()
    delete = endpoints_pb2.DeleteEndpointRequest(endpoint_id=endpoint.id)
    await enterprise.call(enterprise.endpoints.DeleteEndpoint, delete)
    gone = await grown()
    assert (gone.state, gone.HasField("base_assignment"), len(gone.addon_assignments)) == (5, False, 0)


@pytest.mark.requirement("R262", "R283")
async def test_the_prices_of_accounts_come_in_the_order_asked_for(world):
    extra = world.catalog.add("extra", "reseller", addon=True)
    retail, newer = world.catalog.add("retail", "reseller"), world.catalog.add("newer", "reseller")
    await world.active_endpoint()
    reseller, rating = world.as_("reseller"), world.as_service()
    base, addon = await reseller.price("sibling", retail), await reseller.price("sibling", extra)
    request = charging_context_pb2.BatchGetAccountAssignmentsRequest(
        account_ids=[account("enterprise"), account("sibling")]
    )
    none, some = (await rating.call(rating.contexts.BatchGetAccountAssignments, request)).accounts
    assert (none.account_id, none.HasField("base_assignment"), none.version) == (account("enterprise"), False, 0)
    assert (some.base_assignment, list(some.addon_assignments)) == (base, [addon])
    await reseller.price("sibling", newer)
    _, changed = (await rating.call(rating.contexts.BatchGetAccountAssignments, request)).accounts
    assert changed.base_assignment.plan_id == newer
    assert changed.version > some.version > 0


async def changes(client: Client, from_cursor: int, count: int) -> list[tuple[str, str]]:
    """The next changes, without heartbeats and cursors of other things."""
    seen: list[tuple[str, str]] = []
    request = charging_context_pb2.WatchEndpointChangesRequest(from_cursor=from_cursor)
    stream = client.contexts.WatchEndpointChanges(request, metadata=client.metadata)
    async with asyncio.timeout(10):
        async for change in stream:
            if change.endpoint_id or change.account_id:
                seen.append((change.endpoint_id, change.account_id))
                if len(seen) == count:
                    break
    stream.cancel()
    return seen


async def test_a_watch_tells_of_every_endpoint_and_account_whose_context_changed(world):
    endpoint = await world.active_endpoint()
    retail = world.catalog.add("retail", "reseller")
    rating = world.as_service()
    assert set(await changes(rating, 0, 1)) == {(endpoint.id, "")}
    watching = asyncio.create_task(changes(rating, -1, 2))
    await asyncio.sleep(0.5)
    await world.as_("enterprise").move("SuspendEndpoint", endpoint.id)
    await world.as_("reseller").price("enterprise", retail)
    assert await watching == [(endpoint.id, ""), ("", account("enterprise"))]


async def test_rating_is_waited_for_after_a_write_that_matters_to_charging(world):
    endpoint = await world.active_endpoint()
    (newest,) = world.rating.cursors
    rating = world.as_service()
    stream = rating.contexts.WatchEndpointChanges(
        charging_context_pb2.WatchEndpointChangesRequest(from_cursor=0), metadata=rating.metadata
    )
    async with asyncio.timeout(5):
        while (await stream.read()).cursor < newest:
            pass  # what rating is asked to wait for does come, and not only with a heartbeat
    stream.cancel()
    await world.as_("enterprise").move("SuspendEndpoint", endpoint.id)
    assert world.rating.cursors[-1] > newest
    asked = len(world.rating.cursors)
    await world.sims(1)
    assert len(world.rating.cursors) == asked


async def test_writes_go_on_while_rating_is_away_and_ask_it_once_a_second(small_world, monkeypatch):
    endpoint = await small_world.active_endpoint()
    enterprise = small_world.as_("enterprise")
    monkeypatch.setattr(peers, "SEEN_SECONDS", 0.2)
    attempts: list[float] = []

    async def hang() -> None:
        attempts.append(time.monotonic())
        await asyncio.sleep(5)

    small_world.rating.hang = hang
    started = time.monotonic()
    for verb in ("SuspendEndpoint", "ResumeEndpoint") * 5:
        await enterprise.move(verb, endpoint.id)
    assert time.monotonic() - started < 1
    assert len(attempts) == 1


async def test_a_batch_of_contexts_is_bounded(small_world):
    rating = small_world.as_service()
    for ids in ([], [new_id("ep")] * 1001):
        with pytest.raises(InvalidArgumentError):
            await rating.call(
                rating.contexts.BatchGetEndpointContexts,
                charging_context_pb2.BatchGetEndpointContextsRequest(endpoint_ids=ids),
            )
