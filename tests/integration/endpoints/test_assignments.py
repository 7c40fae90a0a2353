from contextlib import AsyncExitStack

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from meterline.catalog.v1 import plans_pb2
from meterline.endpoints.v1 import assignments_pb2, endpoints_pb2
from services.common.clock import DAY_MS
from services.common.errors import (
    AbortedError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    UnavailableError,
)
from services.common.ids import new_id
from services.endpoints import peers
from services.endpoints.domain.assignments import ADDONS_MAX
from tests.integration.endpoints.world import NOW_MS, Client, World, account, plan_id

PENDING, ACTIVE, REMOVED = 1, 2, 3
BASE, ADDON = 1, 2


def moment(ms: int) -> Timestamp:
    time = Timestamp()
    time.FromMilliseconds(ms)
    return time


async def change_plan(client: Client, endpoint_id: str, plan: str) -> endpoints_pb2.Endpoint:
    request = endpoints_pb2.ChangePlanRequest(endpoint_id=endpoint_id, plan_id=plan)
    return await client.call(client.endpoints.ChangePlan, request)


async def in_force(client: Client, endpoint_id: str) -> set[str]:
    return {one.id for one in await client.assigned(endpoint_id=endpoint_id)}


@pytest.mark.requirement("R065", "R069", "R108", "R262", "R055")
async def test_a_new_base_plan_replaces_the_one_before_and_add_ons_stay(world):
    silver = world.catalog.add("silver", "enterprise", version=3)
    extra = world.catalog.add("extra", "enterprise", addon=True)
    endpoint = await world.active_endpoint()
    enterprise = world.as_("enterprise")
    addon = await enterprise.addon(endpoint.id, extra)
    changed = await change_plan(enterprise, endpoint.id, silver)
    assert (changed.id, changed.state) == (endpoint.id, endpoint.state)
    assert (changed.base_assignment.plan_id, changed.base_assignment.plan_version) == (silver, 3)
    assert await in_force(enterprise, endpoint.id) == {addon.id, changed.base_assignment.id}
    assert (await enterprise.assignment(endpoint.base_assignment.id)).state == REMOVED
    assert await change_plan(enterprise, endpoint.id, silver) == changed  # nothing to do, nothing is lost
    world.catalog.add("silver", "enterprise", version=4)
    newer = await change_plan(enterprise, endpoint.id, silver)
    assert newer.base_assignment.plan_version == 4
    assert newer.base_assignment.id != changed.base_assignment.id


async def test_a_base_plan_does_not_turn_the_money_of_an_endpoint_into_another_currency(world):
    add, enterprise = world.catalog.add, world.as_("enterprise")  # of an enterprise in EUR
    yen, other_yen = add("yen", "enterprise", currency="JPY"), add("other yen", "enterprise", currency="JPY")
    francs, euro, free = (
        add("francs", "enterprise", currency="CHF"),
        add("euro", "enterprise", currency="EUR"),
        add("free", "enterprise"),
    )
    endpoint = await world.active_endpoint(plan_id=yen)
    for plan in (francs, euro, free):  # what names no currency is in the enterprise's
        with pytest.raises(FailedPreconditionError, match="CURRENCY_MISMATCH") as refused:
            await change_plan(enterprise, endpoint.id, plan)
        would_be = "CHF" if plan == francs else "EUR"
        assert refused.value.metadata == {"plan_currency": would_be, "endpoint_currency": "JPY"}
        assert "is in JPY" in refused.value.message
        assert f"would be in {would_be}" in refused.value.message
        assert "Take a plan in JPY, or give this one to a new endpoint." in refused.value.message
    assert await enterprise.endpoint(endpoint.id) == endpoint
    assert (await change_plan(enterprise, endpoint.id, other_yen)).base_assignment.plan_id == other_yen
    other = await world.active_endpoint(plan_id=francs)
    assert other.base_assignment.plan_id == francs  # a new one has no money yet


@pytest.mark.requirement("R314")
async def test_a_plan_that_grows_with_its_endpoints_is_not_for_accounts(small_world):
    world = small_world
    grows = world.catalog.add("grows", "reseller", product_kind=plans_pb2.PRODUCT_KIND_SUBSCRIPTION_DYNAMIC_POOL)
    fixed = world.catalog.add("fixed", "reseller", product_kind=plans_pb2.PRODUCT_KIND_SUBSCRIPTION_STATIC_POOL)
    with pytest.raises(FailedPreconditionError, match="PLAN_OF_ENDPOINTS"):
        await world.as_("reseller").price("enterprise", grows)
    assert (await world.as_("reseller").price("enterprise", fixed)).plan_id == fixed


async def test_an_endpoint_without_a_currency_of_its_own_has_its_money_in_the_enterprises(small_world):
    world, add = small_world, small_world.catalog.add
    del world.catalog.plans[plan_id("default of enterprise")]
    euro, yen, free = (
        add("euro", "enterprise", currency="EUR"),
        add("yen", "enterprise", currency="JPY"),
        add("free", "enterprise"),
    )
    enterprise = world.as_("enterprise")
    bare, of_free = await enterprise.create(), await enterprise.create(plan_id=free)
    of_sub = await world.as_("sub").create(plan_id=free)
    assert not bare.HasField("base_assignment")
    add("free", "enterprise", version=2, currency="JPY")  # the version that an endpoint has says what its money is
    for endpoint_id in (bare.id, of_free.id, of_sub.id):
        for plan in (yen, free):
            with pytest.raises(FailedPreconditionError, match="CURRENCY_MISMATCH"):
                await change_plan(enterprise, endpoint_id, plan)
        assert (await change_plan(enterprise, endpoint_id, euro)).base_assignment.plan_id == euro


@pytest.mark.requirement("R068", "R074", "R075", "R086", "R087", "R088", "R090", "R109", "R115")
async def test_each_assignment_of_an_add_on_has_its_own_id_in_the_answer(world):
    extra = world.catalog.add("extra", "enterprise", addon=True, priority=5)
    other = world.catalog.add("other", "enterprise", addon=True, priority=1)
    endpoint = await world.active_endpoint()
    enterprise = world.as_("enterprise")
    given = [await enterprise.addon(endpoint.id, plan) for plan in (extra, extra, other)]
    assert len({one.id for one in given}) == 3
    assert all(one.id.startswith("asg_") for one in given)
    assert [(one.role, one.priority) for one in given] == [(ADDON, 5), (ADDON, 5), (ADDON, 1)]
    assert await in_force(enterprise, endpoint.id) == {one.id for one in (endpoint.base_assignment, *given)}
    again = await enterprise.addon(endpoint.id, extra, request_id="once")
    assert await enterprise.addon(endpoint.id, extra, request_id="once") == again
    assert len(await enterprise.assigned(endpoint_id=endpoint.id)) == 5


@pytest.mark.requirement("R077", "R078")
async def test_validity_runs_from_assignment_or_waits_for_the_first_use(world):
    at_once = world.catalog.add("at once", "enterprise", addon=True, days=7)
    on_usage = world.catalog.add("on usage", "enterprise", addon=True, days=7, activation=plans_pb2.ACTIVATION_ON_USAGE)
    endless = world.catalog.add("endless", "enterprise", addon=True)
    endpoint = await world.active_endpoint()
    enterprise = world.as_("enterprise")
    given = await enterprise.addon(endpoint.id, at_once)
    assert (given.state, given.expire_time.ToMilliseconds()) == (ACTIVE, NOW_MS + 7 * DAY_MS)
    waiting = await enterprise.addon(endpoint.id, on_usage)
    assert (waiting.state, waiting.HasField("expire_time")) == (PENDING, False)
    lasting = await enterprise.addon(endpoint.id, endless)
    assert (lasting.state, lasting.HasField("expire_time")) == (ACTIVE, False)


@pytest.mark.requirement("R089", "R091", "R092", "R093")
async def test_one_assignment_is_changed_or_removed_without_touching_the_others(world):
    extra = world.catalog.add("extra", "enterprise", addon=True, days=7, priority=5)
    endpoint = await world.active_endpoint()
    enterprise = world.as_("enterprise")
    first, second, third = [await enterprise.addon(endpoint.id, extra) for _ in range(3)]
    update = assignments_pb2.UpdateAssignmentRequest(
        assignment=assignments_pb2.PlanAssignment(
            id=second.id, priority=1, expire_time=moment(NOW_MS + DAY_MS), etag=second.etag
        )
    )
    changed = await enterprise.call(enterprise.assignments.UpdateAssignment, update)
    assert (changed.priority, changed.expire_time.ToMilliseconds()) == (1, NOW_MS + DAY_MS)
    world.clock.advance(5000)
    ended = await enterprise.remove(third.id)
    assert (ended.state, ended.remove_time.ToMilliseconds()) == (REMOVED, NOW_MS + 5000)
    assert await enterprise.remove(third.id) == ended
    assert await enterprise.assignment(first.id) == first
    assert await enterprise.assignment(second.id) == changed
    assert await in_force(enterprise, endpoint.id) == {endpoint.base_assignment.id, first.id, second.id}
    with pytest.raises(AbortedError, match="ETAG_MISMATCH"):
        await enterprise.call(enterprise.assignments.UpdateAssignment, update)
    update.assignment.ClearField("etag")
    update.assignment.ClearField("expire_time")
    update.update_mask.CopyFrom(FieldMask(paths=["expire_time"]))
    assert not (await enterprise.call(enterprise.assignments.UpdateAssignment, update)).HasField("expire_time")


async def test_a_wrong_change_of_an_assignment_is_refused(small_world):
    extra = small_world.catalog.add("extra", "enterprise", addon=True)
    endpoint = await small_world.active_endpoint()
    enterprise = small_world.as_("enterprise")
    addon = await enterprise.addon(endpoint.id, extra)

    async def update(assignment_id: str, *paths: str, **fields: object) -> None:
        request = assignments_pb2.UpdateAssignmentRequest(
            assignment=assignments_pb2.PlanAssignment(id=assignment_id, **fields),  # type: ignore[arg-type]
            update_mask=FieldMask(paths=paths),
        )
        await enterprise.call(enterprise.assignments.UpdateAssignment, request)

    with pytest.raises(InvalidArgumentError):
        await update(addon.id, priority=-1)
    with pytest.raises(InvalidArgumentError):
        await update(addon.id, expire_time=moment(NOW_MS - 1))
    with pytest.raises(InvalidArgumentError):
        await update(addon.id, "colour")
    with pytest.raises(InvalidArgumentError):
        await update(addon.id, expire_time=Timestamp(seconds=2**60))
    with pytest.raises(NotFoundError):
        await update(new_id("asg"), priority=1)
    with pytest.raises(InvalidArgumentError):
        await update("", priority=1)
    with pytest.raises(FailedPreconditionError, match="ASSIGNMENT_NOT_ADDON"):
        await update(endpoint.base_assignment.id, priority=1)
    with pytest.raises(FailedPreconditionError, match="ASSIGNMENT_NOT_ADDON"):
        await enterprise.remove(endpoint.base_assignment.id)
    await enterprise.remove(addon.id)
    with pytest.raises(FailedPreconditionError, match="ASSIGNMENT_REMOVED"):
        await update(addon.id, priority=1)


@pytest.mark.requirement("R070")
async def test_an_add_on_needs_a_base_plan(small_world):
    small_world.catalog.plans.clear()
    extra = small_world.catalog.add("extra", "enterprise", addon=True)
    enterprise = small_world.as_("enterprise")
    endpoint = await enterprise.create()
    with pytest.raises(FailedPreconditionError, match="NO_BASE_PLAN"):
        await enterprise.addon(endpoint.id, extra)
    with pytest.raises(FailedPreconditionError, match="NO_BASE_PLAN"):
        await enterprise.create(addon_plan_ids=[extra])


async def test_add_ons_are_bounded_and_expired_ones_make_room(small_world):
    day = small_world.catalog.add("day", "enterprise", addon=True, days=1)
    enterprise = small_world.as_("enterprise")
    endpoint = await enterprise.create(addon_plan_ids=[day] * 50)
    for _ in range(ADDONS_MAX - 50):
        await enterprise.addon(endpoint.id, day)
    with pytest.raises(FailedPreconditionError, match="TOO_MANY_ADDONS"):
        await enterprise.addon(endpoint.id, day)
    small_world.clock.advance(DAY_MS)
    assert (await enterprise.addon(endpoint.id, day)).id


async def test_a_catalogue_that_is_away_refuses_what_needs_it_and_nothing_else(small_world, monkeypatch):
    extra = small_world.catalog.add("extra", "enterprise", addon=True)
    endpoint = await small_world.active_endpoint()
    enterprise = small_world.as_("enterprise")
    monkeypatch.setattr(peers, "CATALOG_SECONDS", 0.1)
    small_world.catalog.delay_seconds = 5
    with pytest.raises(UnavailableError, match="CATALOG_UNAVAILABLE"):
        await enterprise.addon(endpoint.id, extra, request_id="again")
    assert (await enterprise.move("SuspendEndpoint", endpoint.id)).state == endpoints_pb2.ENDPOINT_STATE_SUSPENDED
    small_world.catalog.delay_seconds = 0
    assert (await enterprise.addon(endpoint.id, extra, request_id="again")).plan_id == extra


async def refusal(world: World, plan: str, endpoint_id: str) -> str:
    with pytest.raises((FailedPreconditionError, NotFoundError)) as refused:
        await world.as_("enterprise").addon(endpoint_id, plan)
    return refused.value.reason


async def test_only_published_add_ons_of_the_enterprise_or_designated_to_it_can_be_assigned(small_world):
    catalog, world = small_world.catalog, small_world
    endpoint = await world.active_endpoint()
    add = catalog.add
    assert await refusal(world, add("draft", "enterprise", addon=True, state=1), endpoint.id) == "PLAN_NOT_PUBLISHED"
    assert await refusal(world, add("retired", "enterprise", addon=True, state=3), endpoint.id) == "PLAN_NOT_PUBLISHED"
    assert await refusal(world, add("base", "enterprise"), endpoint.id) == "PLAN_NOT_ADDON"
    assert await refusal(world, new_id("pln"), endpoint.id) == "PLAN_NOT_FOUND"
    assert await refusal(world, add("reseller's", "reseller", addon=True), endpoint.id) == "PLAN_NOT_FOUND"
    assert await refusal(world, add("sub's", "sub", addon=True), endpoint.id) == "PLAN_NOT_AVAILABLE"
    to_sibling = add("to sibling", "reseller", addon=True, designated_account_ids=[account("sibling")])
    assert await refusal(world, to_sibling, endpoint.id) == "PLAN_NOT_FOUND"
    to_us = add("to us", "reseller", addon=True, designated_account_ids=[account("enterprise")])
    assert (await world.as_("enterprise").addon(endpoint.id, to_us)).plan_id == to_us
    with pytest.raises(FailedPreconditionError, match="PLAN_NOT_BASE"):
        await change_plan(world.as_("enterprise"), endpoint.id, to_us)
    with pytest.raises(FailedPreconditionError, match="PLAN_NOT_BASE"):
        await world.as_("enterprise").create(plan_id=to_us)
    of_sub = await world.as_("sub").create()
    assert (await world.as_("sub").addon(of_sub.id, to_us)).account_id == account("enterprise")


@pytest.mark.requirement("R283", "R055", "R247")
async def test_a_parent_sets_the_price_of_its_child_and_gives_it_add_ons(world):
    first, second = world.catalog.add("first", "reseller"), world.catalog.add("second", "reseller")
    extra = world.catalog.add("extra", "reseller", addon=True, days=1)
    reseller = world.as_("reseller")
    with pytest.raises(FailedPreconditionError, match="NO_BASE_PLAN"):
        await reseller.price("enterprise", extra)
    base = await reseller.price("enterprise", first)
    assert (base.account_id, base.endpoint_id, base.role) == (account("enterprise"), "", BASE)
    addons = [await reseller.price("enterprise", extra) for _ in range(2)]
    replaced = await reseller.price("enterprise", second)
    assert await reseller.price("enterprise", second) == replaced
    listed = await reseller.assigned(account_id=account("enterprise"))
    assert {one.id for one in listed} == {replaced.id, *(one.id for one in addons)}
    assert (await reseller.assignment(base.id)).state == REMOVED
    assert (await reseller.remove(addons[0].id)).state == REMOVED
    enterprise = world.as_("enterprise")
    assert (await enterprise.assignment(replaced.id)).plan_id == second  # it sees its own price
    for attempt in (
        lambda: enterprise.price("enterprise", second),
        lambda: enterprise.remove(addons[1].id),
    ):
        with pytest.raises(PermissionDeniedError, match="OWN_PRICE_NOT_PERMITTED"):
            await attempt()
    with pytest.raises(NotFoundError):
        await world.as_("sibling").assignment(replaced.id)


async def test_an_account_pays_only_in_its_own_currency(world):
    add, reseller = world.catalog.add, world.as_("reseller")  # whose child is in EUR
    yen, credit = add("yen", "reseller", currency="JPY"), add("credit", "reseller", addon=True, currency="JPY")
    base = await reseller.price("enterprise", add("euro", "reseller", currency="EUR"))
    for plan in (yen, credit):
        with pytest.raises(FailedPreconditionError, match="CURRENCY_MISMATCH") as refused:
            await reseller.price("enterprise", plan)
        assert refused.value.metadata == {"plan_currency": "JPY", "account_currency": "EUR"}
        assert "is charged in EUR. Take a plan in EUR, or a new account in JPY." in refused.value.message
    given = await reseller.assigned(account_id=account("enterprise"))
    assert [one.id for one in given] == [base.id]
    shared = add("shared", "reseller", addon=True, currency="JPY", account_scope=plans_pb2.ACCOUNT_SCOPE_ENDPOINTS)
    volume = add("volume", "reseller", addon=True)
    for plan in (shared, volume):  # its endpoints may pay in JPY, and a volume is no money
        assert (await reseller.price("enterprise", plan)).plan_id == plan
    free = add("free", "reseller")
    assert (await reseller.price("enterprise", free)).plan_id == free


@pytest.mark.requirement("R283", "R285")
async def test_only_the_payees_own_plans_price_an_account_and_only_from_above(small_world):
    world = small_world
    wholesale = world.catalog.add("wholesale", "operator")
    retail = world.catalog.add("retail", "reseller")
    for_sibling = world.catalog.add("for sibling", "reseller", designated_account_ids=[account("sibling")])
    operator, reseller = world.as_("operator"), world.as_("reseller")
    to_reseller = await operator.price("reseller", wholesale)
    with pytest.raises(NotFoundError, match="ACCOUNT_NOT_FOUND"):
        await reseller.price("far", retail)
    with pytest.raises(PermissionDeniedError):
        await reseller.price("reseller", retail)
    with pytest.raises(NotFoundError, match="PLAN_NOT_FOUND"):
        await reseller.price("enterprise", wholesale)
    with pytest.raises(FailedPreconditionError, match="PLAN_NOT_AVAILABLE"):
        await operator.price("enterprise", wholesale)
    with pytest.raises(FailedPreconditionError, match="PLAN_NOT_AVAILABLE"):
        await reseller.price("enterprise", for_sibling)
    with pytest.raises(FailedPreconditionError, match="own: it says what others pay to it"):
        await operator.price("reseller", retail)
    assert (await reseller.price("sibling", for_sibling)).plan_id == for_sibling
    assert (await operator.price("enterprise", retail)).plan_id == retail  # on behalf of the reseller
    with pytest.raises(FailedPreconditionError, match="ACCOUNT_NOT_CHARGED"):
        await reseller.price("sub", retail)
    with pytest.raises(PermissionDeniedError):
        await operator.price("operator", wholesale)
    assert (await reseller.assignment(to_reseller.id)).plan_id == wholesale
    with pytest.raises(NotFoundError):
        await world.as_("enterprise").assignment(to_reseller.id)
    with pytest.raises(PermissionDeniedError):
        await reseller.addon((await world.active_endpoint()).id, retail)


@pytest.mark.parametrize("cells", [1, 8])
async def test_a_reseller_has_add_ons_only_where_one_cell_charges_all_its_enterprises(cells, sqlite_url):
    async with AsyncExitStack() as stack:
        world = World()
        await world.start(stack, sqlite_url, cells)
        operator, reseller = world.as_("operator"), world.as_("reseller")
        await operator.price("reseller", world.catalog.add("wholesale", "operator"))
        await reseller.price("enterprise", world.catalog.add("retail", "reseller"))
        volume = world.catalog.add("volume", "operator", addon=True)
        if cells == 1:
            assert (await operator.price("reseller", volume)).plan_id == volume
        else:
            with pytest.raises(FailedPreconditionError, match="ADDON_NEEDS_ONE_CELL"):
                await operator.price("reseller", volume)
        own = world.catalog.add("own volume", "reseller", addon=True)
        assert (await reseller.price("enterprise", own)).plan_id == own  # an enterprise lives in one cell
