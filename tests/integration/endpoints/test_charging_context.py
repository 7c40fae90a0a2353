import asyncio
import time
from collections.abc import Iterable

import pytest

from meterline.catalog.v1 import plans_pb2
from meterline.endpoints.v1 import assignments_pb2, charging_context_pb2, endpoints_pb2
from services.common.clock import DAY_MS
from services.common.errors import InvalidArgumentError
from services.common.ids import new_id
from services.runtime import settling
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


async def test_base_plans_that_were_replaced_are_told_for_a_while_the_last_four(world):
    plans = [world.catalog.add(f"plan-{number}", "enterprise") for number in range(6)]
    made = await world.active_endpoint(plan_id=plans[0])
    other = await world.active_endpoint(plan_id=plans[0])
    retail, newer = world.catalog.add("retail", "reseller"), world.catalog.add("newer", "reseller")
    reseller, enterprise, rating = world.as_("reseller"), world.as_("enterprise"), world.as_service()
    await reseller.price("sibling", retail)
    for name in plans[1:]:
        world.clock.advance(DAY_MS)
        await change_plan(enterprise, made.id, name)
    await reseller.price("sibling", newer)

    async def told() -> dict[str, list[tuple[str, int]]]:
        request = charging_context_pb2.BatchGetEndpointContextsRequest(endpoint_ids=[made.id, other.id])
        found = (await rating.call(rating.contexts.BatchGetEndpointContexts, request)).contexts
        asked = charging_context_pb2.BatchGetAccountAssignmentsRequest(
            account_ids=[account("enterprise"), account("sibling")]
        )
        accounts = (await rating.call(rating.contexts.BatchGetAccountAssignments, asked)).accounts
        return {
            **{each.endpoint_id: _replaced(each.former_base_assignments) for each in found},
            **{each.account_id: _replaced(each.former_base_assignments) for each in accounts},
        }

    last_ms = world.clock.now_ms()
    replaced = [(name, last_ms - (4 - number) * DAY_MS) for number, name in enumerate(plans[:5])]
    present = {made.id: replaced[1:], account("sibling"): [(retail, last_ms)]}
    nobody: dict[str, list[tuple[str, int]]] = {other.id: [], account("enterprise"): []}
    assert await told() == {**nobody, **present}
    world.clock.advance(98 * DAY_MS)
    assert await told() == {**nobody, **present, made.id: replaced[2:]}
    world.clock.advance(3 * DAY_MS)
    assert await told() == {**nobody, made.id: [], account("sibling"): []}


def _replaced(former: Iterable[assignments_pb2.PlanAssignment]) -> list[tuple[str, int]]:
    return [(each.plan_id, each.remove_time.ToMilliseconds()) for each in former]


QUARTER_MS = 900_000


def quarter(at_ms: int) -> int:
    """Begin of the quarter of an hour."""
    return at_ms // QUARTER_MS * QUARTER_MS


async def members(
    world: World, name: str = "enterprise"
) -> tuple[int, dict[tuple[str, int], tuple[int, list[tuple[int, int, int]]]]]:
    """The version of an account's assignments; since when a plan version is shared, and by whom: count, stretch, sum."""
    rating = world.as_service()
    request = charging_context_pb2.BatchGetAccountAssignmentsRequest(account_ids=[account("sibling"), account(name)])
    nobody, found = (await rating.call(rating.contexts.BatchGetAccountAssignments, request)).accounts
    assert not nobody.members
    of_plans = {
        (each.plan_id, each.plan_version): (
            each.since_ms,
            [(j.count, j.since_ms, j.sum_of_times_ms) for j in each.joined],
        )
        for each in found.members
    }
    return found.version, of_plans


@pytest.mark.requirement("R313", "R314")
@pytest.mark.parametrize("kind", ["STATIC", "DYNAMIC"])
async def test_an_enterprise_knows_who_shares_a_plan_and_since_when(world, kind):
    shares = {"product_kind": plans_pb2.ProductKind.Value(f"PRODUCT_KIND_SUBSCRIPTION_{kind}_POOL")}
    team, own = world.catalog.add("team", "enterprise", **shares), world.catalog.add("own", "enterprise")
    enterprise, first_ms = world.as_("enterprise"), world.clock.now_ms()
    first = await world.active_endpoint(plan_id=team)
    version, found = await members(world)
    assert found == {(team, 1): (first_ms, [(1, quarter(first_ms), first_ms)])}
    world.clock.advance(1)
    await world.as_("sub").create(plan_id=team)  # of a partition: the enterprise's
    await world.active_endpoint(plan_id=own)
    newer, found = await members(world)
    assert newer > version
    both = (first_ms, [(2, quarter(first_ms), 2 * first_ms + 1)])
    assert found == {(team, 1): both}
    world.clock.advance(QUARTER_MS)
    third_ms = world.clock.now_ms()
    world.catalog.add("team", "enterprise", version=2, **shares)
    third = await world.active_endpoint(plan_id=team)
    await world.active_endpoint(plan_id=team)
    _, found = await members(world)
    assert found == {(team, 1): both, (team, 2): (third_ms, [(2, quarter(third_ms), 2 * third_ms)])}
    newest, _ = await members(world)
    await change_plan(enterprise, third.id, own)
    await enterprise.move("DeactivateEndpoint", first.id)
    delete = endpoints_pb2.DeleteEndpointRequest(endpoint_id=first.id)
    await enterprise.call(enterprise.endpoints.DeleteEndpoint, delete)
    last, found = await members(world)
    assert last > newest
    assert found == {
        (team, 1): (first_ms, [(1, quarter(first_ms), first_ms + 1)]),
        (team, 2): (third_ms, [(1, quarter(third_ms), third_ms)]),
    }


async def change_plan(client: Client, endpoint_id: str, plan: str) -> None:
    await client.call(
        client.endpoints.ChangePlan, endpoints_pb2.ChangePlanRequest(endpoint_id=endpoint_id, plan_id=plan)
    )


async def test_who_joined_longer_ago_than_a_cycle_is_counted_together(world):
    kind = plans_pb2.PRODUCT_KIND_SUBSCRIPTION_DYNAMIC_POOL
    team, own = world.catalog.add("team", "enterprise", product_kind=kind), world.catalog.add("own", "enterprise")
    times, made = [], []
    for days in (0, 40, 5, 0):
        world.clock.advance(days * 86_400_000)
        times.append(world.clock.now_ms())
        made.append(await world.active_endpoint(plan_id=team))
    _, found = await members(world)
    recent = [(1, quarter(times[1]), times[1]), (2, quarter(times[2]), 2 * times[2])]
    assert found == {(team, 1): (times[0], [(1, 0, times[0]), *recent])}
    world.clock.advance(30 * 86_400_000)
    _, found = await members(world)
    assert found == {(team, 1): (times[0], [(2, 0, sum(times[:2])), recent[1]])}
    for endpoint in made:
        await change_plan(world.as_("enterprise"), endpoint.id, own)
    version, found = await members(world)
    assert found == {}
    await change_plan(world.as_("enterprise"), made[0].id, team)
    newer, found = await members(world)
    assert newer > version
    assert found == {(team, 1): (world.clock.now_ms(), [(1, quarter(world.clock.now_ms()), world.clock.now_ms())])}


async def test_many_who_join_and_leave_at_once_are_all_counted(world):
    kind = plans_pb2.PRODUCT_KIND_SUBSCRIPTION_DYNAMIC_POOL
    team, own = world.catalog.add("team", "enterprise", product_kind=kind), world.catalog.add("own", "enterprise")
    made = await asyncio.gather(*(world.active_endpoint(plan_id=team) for _ in range(12)))
    enterprise = world.as_("enterprise")
    await asyncio.gather(
        *(change_plan(enterprise, endpoint.id, own) for endpoint in made[:5]),
        *(world.active_endpoint(plan_id=team) for _ in range(3)),
    )
    now_ms = world.clock.now_ms()
    _, found = await members(world)
    assert found == {(team, 1): (now_ms, [(10, quarter(now_ms), 10 * now_ms)])}


async def test_a_watch_tells_of_the_enterprise_whose_endpoint_shares_a_plan(small_world):
    team = small_world.catalog.add("team", "enterprise", product_kind=plans_pb2.PRODUCT_KIND_SUBSCRIPTION_STATIC_POOL)
    endpoint = await small_world.active_endpoint(plan_id=team)
    seen = await changes(small_world.as_service(), 0, 2)
    assert seen == [(endpoint.id, ""), ("", account("enterprise"))]


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
    monkeypatch.setattr(settling, "SEEN_SECONDS", 0.2)
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
