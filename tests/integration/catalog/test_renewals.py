"""What a plan may say of money, recurring subscriptions, roll-over, pools and bundles."""

import pytest
from google.protobuf import json_format
from google.protobuf.duration_pb2 import Duration

from meterline.catalog.v1 import plans_pb2, tariffs_pb2
from meterline.type.v1 import service_pb2 as types
from tests.integration.catalog.test_plans import PREPAID, base, data
from tests.integration.catalog.world import refused

RECURRING = plans_pb2.RECURRENCE_RECURRING
WEEK = Duration(seconds=7 * 86_400)


@pytest.mark.requirement("R080", "R085")
async def test_an_addon_recurs_as_often_and_when_it_says(world):
    made = await world.covered()
    enterprise = world.as_("enterprise")
    plain = await enterprise.new_addon(made.service_profile_id, benefits=[data()])
    assert (plain.recurrence, plain.resubscribe_on, plain.account_scope) == (
        plans_pb2.RECURRENCE_ONE_TIME, 0, plans_pb2.ACCOUNT_SCOPE_OWN_STEP
    )  # fmt: skip
    weekly = await enterprise.new_addon(
        made.service_profile_id, name="Weekly", benefits=[data()], recurrence=RECURRING, validity=WEEK,
        max_subscriptions=4, account_scope=plans_pb2.ACCOUNT_SCOPE_ENDPOINTS,
    )  # fmt: skip
    assert (weekly.resubscribe_on, weekly.max_subscriptions) == (plans_pb2.RESUBSCRIBE_ON_EXPIRY, 4)
    assert await enterprise.publish_plan(weekly.id) == await enterprise.plan(weekly.id)


async def test_recurrence_that_contradicts_itself_is_refused(small_world):
    made = await small_world.covered()
    enterprise = small_world.as_("enterprise")

    async def addon(**fields: object) -> plans_pb2.Plan:
        added: plans_pb2.Plan = await enterprise.new_addon(made.service_profile_id, **{"benefits": [data()], **fields})
        return added

    async with refused("INVALID_ARGUMENT", "VALIDITY_REQUIRED", "plan.validity"):
        await addon(recurrence=RECURRING)
    await addon(recurrence=RECURRING, resubscribe_on=plans_pb2.RESUBSCRIBE_ON_EXPIRY_OR_EXHAUSTION)
    async with refused("INVALID_ARGUMENT", "NOT_RECURRING", "plan.max_subscriptions"):
        await addon(max_subscriptions=2)
    async with refused("INVALID_ARGUMENT", "NOT_RECURRING", "plan.resubscribe_on"):
        await addon(resubscribe_on=plans_pb2.RESUBSCRIBE_ON_EXPIRY)
    async with refused("INVALID_ARGUMENT", "RECURRENCE_TWICE", "plan.benefits[0].recurrence"):
        await addon(recurrence=RECURRING, validity=WEEK, benefits=[data(recurrence=RECURRING)])
    async with refused("INVALID_ARGUMENT", "NOT_RECURRING", "plan.benefits[0].roll_over_cycles"):
        await addon(benefits=[data(roll_over_cycles=1)])
    newest = plans_pb2.ROLL_OVER_ORDER_NEWEST_FIRST
    async with refused("INVALID_ARGUMENT", "NO_ROLL_OVER", "plan.benefits[0].roll_over_order"):
        await addon(benefits=[data(recurrence=RECURRING, roll_over_order=newest)])
    rolls = await addon(name="Rolls", benefits=[data(recurrence=RECURRING, roll_over_cycles=1, roll_over_order=newest)])
    assert rolls.benefits[0].roll_over_order == newest
    usual = await addon(name="Usual", benefits=[data(recurrence=RECURRING, roll_over_cycles=1)])
    assert usual.benefits[0].roll_over_order == plans_pb2.ROLL_OVER_ORDER_OLDEST_FIRST
    async with refused("INVALID_ARGUMENT", "RECURRENCE_NOT_PERMITTED", "plan.recurrence"):
        await addon(recurrence=plans_pb2.RECURRENCE_DAILY)
    async with refused("INVALID_ARGUMENT", "RECURRENCE_TWICE", "plan.benefits[0].recurrence"):
        daily = data(recurrence=plans_pb2.RECURRENCE_DAILY)
        await addon(recurrence=RECURRING, validity=WEEK, benefits=[daily])
    for cycles in (-1, 13):
        with pytest.raises(Exception, match="roll_over_cycles"):
            await addon(benefits=[data(recurrence=RECURRING, roll_over_cycles=cycles)])
    for field, value in [
        ("recurrence", RECURRING),
        ("max_subscriptions", 1),
        ("resubscribe_on", plans_pb2.RESUBSCRIBE_ON_EXPIRY),
        ("account_scope", plans_pb2.ACCOUNT_SCOPE_ENDPOINTS),
    ]:
        async with refused("INVALID_ARGUMENT", "FIELD_NOT_FOR_BASE_PLAN", f"plan.{field}"):
            await enterprise.new_plan(**base(made, **{field: value}))


async def test_a_benefit_of_money_needs_a_currency_and_may_serve_all_services(small_world):
    made = await small_world.covered()
    enterprise = small_world.as_("enterprise")
    services = [types.SERVICE_DATA, types.SERVICE_SMS_MO]
    money = plans_pb2.Benefit(services=services, quantity=5_000_000, unit=types.UNIT_MONEY)
    async with refused("INVALID_ARGUMENT", "CURRENCY_REQUIRED", "plan.currency"):
        await enterprise.new_addon(made.service_profile_id, benefits=[money])
    plan = await enterprise.new_addon(made.service_profile_id, currency="EUR", benefits=[money, data()])
    assert [benefit.unit for benefit in plan.benefits] == [types.UNIT_MONEY, types.UNIT_BYTES]
    for unit in (types.UNIT_MESSAGES, types.UNIT_SECONDS):
        async with refused("INVALID_ARGUMENT", "UNIT_OF_SERVICES", "plan.benefits[0].unit"):
            await enterprise.new_addon(made.service_profile_id, name="x", benefits=[data(unit=unit)])


@pytest.mark.requirement("R304")
async def test_a_prepaid_bundle_has_a_term(small_world):
    made = await small_world.covered()
    enterprise = small_world.as_("enterprise")
    bundle = {"charging_mode": PREPAID, "product_kind": plans_pb2.PRODUCT_KIND_PREPAID_BUNDLE, "validity": WEEK}
    assert (await enterprise.new_plan(**base(made, **bundle))).validity == WEEK
    async with refused("INVALID_ARGUMENT", "FIELD_NOT_FOR_BASE_PLAN", "plan.validity"):
        await enterprise.new_plan(**base(made, name="other", validity=WEEK))


async def test_what_members_bring_to_a_dynamic_pool_does_not_roll_over(small_world):
    made = await small_world.covered()
    enterprise = small_world.as_("enterprise")
    rolls = {
        "charging_mode": plans_pb2.CHARGING_MODE_POSTPAID,
        "benefits": [data(recurrence=RECURRING, roll_over_cycles=1)],
    }
    static, dynamic = (
        plans_pb2.ProductKind.Value(f"PRODUCT_KIND_SUBSCRIPTION_{kind}_POOL") for kind in ("STATIC", "DYNAMIC")
    )
    async with refused("INVALID_ARGUMENT", "RECURRENCE_NOT_PERMITTED", "plan.benefits[0].recurrence"):
        weekly = rolls | {"benefits": [data(recurrence=plans_pb2.RECURRENCE_WEEKLY)]}
        await enterprise.new_plan(**base(made, name="dynamic", product_kind=dynamic, **weekly))
    async with refused("INVALID_ARGUMENT", "ROLL_OVER_OF_DYNAMIC_POOL", "plan.benefits[0].roll_over_cycles"):
        await enterprise.new_plan(**base(made, name="dynamic", product_kind=dynamic, **rolls))
    await enterprise.new_plan(**base(made, name="static", product_kind=static, **rolls))


async def test_a_benefit_that_versions_of_a_pool_plan_share_stays_of_its_sort(small_world):
    made = await small_world.covered()
    enterprise = small_world.as_("enterprise")
    kind = plans_pb2.PRODUCT_KIND_SUBSCRIPTION_DYNAMIC_POOL
    monthly = data(recurrence=RECURRING)
    plan = await enterprise.new_plan(
        **base(made, product_kind=kind, charging_mode=plans_pb2.CHARGING_MODE_POSTPAID, benefits=[monthly])
    )
    await enterprise.publish_plan(plan.id)

    async def update(*benefits: plans_pb2.Benefit) -> int:
        return int((await enterprise.change_plan(plan.id, "benefits", benefits=benefits)).version)

    messages = plans_pb2.Benefit(services=[types.SERVICE_SMS_MO], quantity=10, recurrence=RECURRING)
    for other in (messages, data()):
        async with refused("INVALID_ARGUMENT", "BENEFIT_OF_POOL", "plan.benefits[0].benefit_id"):
            await update(other)
    larger = data(recurrence=RECURRING, quantity=2 * monthly.quantity, benefit_id="b1")
    messages.benefit_id = "texts"
    assert await update(messages, larger) == 2
    long = data(recurrence=RECURRING, benefit_id="x" * 32)
    async with refused("INVALID_ARGUMENT", "BENEFIT_ID_TOO_LONG", "plan.benefits[0].benefit_id"):
        await update(long)


@pytest.mark.requirement("R030")
async def test_an_addon_counts_nothing(small_world):
    made = await small_world.covered()
    counter = plans_pb2.Counter(name="data", services=[types.SERVICE_DATA], limit=1)
    async with refused("INVALID_ARGUMENT", "FIELD_NOT_FOR_ADDON_PLAN", "plan.counters"):
        await small_world.as_("enterprise").new_addon(made.service_profile_id, benefits=[data()], counters=[counter])


async def test_a_benefit_says_how_use_is_measured_and_what_it_draws(small_world):
    made = await small_world.covered()
    enterprise = small_world.as_("enterprise")
    zone = await enterprise.new_zone("Far", "net_20610")
    step = tariffs_pb2.UseRounding(scope=tariffs_pb2.PRICE_SCOPE_SESSION, minimum=50, increment=10_000)
    weights = [
        plans_pb2.BenefitWeight(rate_zone_ids=[zone], services=[types.SERVICE_DATA], quantity=3, per_quantity=2),
        plans_pb2.BenefitWeight(quantity=2),
    ]
    stated = data(use_rounding=step, weights=weights)
    addon = await enterprise.new_addon(made.service_profile_id, name="Steps", benefits=[stated])
    (kept,) = (await enterprise.plan(addon.id)).benefits
    assert (kept.use_rounding, kept.weights[0], kept.weights[1].per_quantity) == (step, weights[0], 1)
    async with refused("FAILED_PRECONDITION", "RATE_ZONE_IN_USE"):
        await enterprise.call(enterprise.tariffs.DeleteRateZone, tariffs_pb2.DeleteRateZoneRequest(rate_zone_id=zone))
    plain = await enterprise.new_addon(made.service_profile_id, name="Plain", benefits=[data()])
    assert not plain.benefits[0].HasField("use_rounding")


@pytest.mark.parametrize(
    ("fields", "reason", "field"),
    [
        ({"use_rounding": {"scope": "PRICE_SCOPE_DAY", "increment": 9}}, "ROUNDING_SCOPE", ".use_rounding.scope"),
        ({"use_rounding": {"maximum": 9}}, "ROUNDING_MAXIMUM", ".use_rounding.maximum"),
        ({"use_rounding": {"increment": -1}}, "FIELD_INVALID", ".use_rounding.increment"),
        ({"weights": [{"per_quantity": 2}]}, "FIELD_REQUIRED", ".weights[0].quantity"),
        ({"weights": [{"quantity": 1001}]}, "FIELD_INVALID", ".weights[0].quantity"),
        ({"weights": [{"quantity": 2, "services": ["SERVICE_SMS_MO"]}]}, "SERVICE_NOT_OF_BENEFIT", ".weights[0].services"),
        ({"weights": [{"quantity": 2, "rate_zone_ids": ["zon_01h00000000000000000000000"]}]}, "REFERENCE_NOT_FOUND", ".weights[0].rate_zone_ids"),
        ({"unit": "UNIT_MONEY", "use_rounding": {"increment": 9}}, "ROUNDING_OF_MONEY", ".use_rounding"),
        ({"unit": "UNIT_MONEY", "weights": [{"quantity": 2}]}, "WEIGHT_OF_MONEY", ".weights"),
    ],
)  # fmt: skip
async def test_what_use_cannot_draw_is_refused(fields, reason, field, small_world):
    made = await small_world.covered()
    stated = json_format.ParseDict(fields, data())
    async with refused("INVALID_ARGUMENT", reason, f"plan.benefits[0]{field}"):
        await small_world.as_("enterprise").new_addon(made.service_profile_id, currency="EUR", benefits=[stated])
