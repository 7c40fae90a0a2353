"""Pools, recurring add-ons, refills and events through the doors that a customer has."""

import asyncio
from datetime import datetime, timedelta

import pytest

from meterline.rating.v1.charging_pb2 import Outcome, Reason, UsageMode
from tests.system.market import EU, GB, MB, Market, addon, default_of, plan, service_profile, tariff, usage, zone
from tests.system.stranger import Json, Stranger, fresh

SETTLE_S = 20


async def happened(caller: Stranger, count: int, **query: str) -> list[Json]:
    """Events, oldest first, once there are so many."""
    async with asyncio.timeout(SETTLE_S):
        while True:
            listed: list[Json] = (await caller.get("/v1/events", **query))["events"]
            if len(listed) >= count:
                return listed[::-1]
            await asyncio.sleep(0.1)


@pytest.mark.requirement("R313")
async def test_a_pool_is_shared_listed_and_announced(market: Market):
    reseller, enterprise = market.reseller, market.enterprise
    profile = await service_profile(reseller)
    shared = await addon(reseller, profile, await zone(reseller, EU), 3 * MB, account_scope="ACCOUNT_SCOPE_ENDPOINTS")
    given = await reseller.post(f"/v1/accounts/{enterprise.account_id}/plans", {"plan_id": shared})
    endpoints = await market.endpoints(5)
    answers = await asyncio.gather(*(market.operator.charge_one(usage(name, MB)) for name in endpoints))
    assert [answer.outcome for answer in answers].count(Outcome.OUTCOME_CHARGED) == 3
    listed = (await enterprise.get("/v1/balances", account_id=enterprise.account_id))["balances"]
    (pool,) = (balance for balance in listed if balance.get("pool_id"))
    assert (pool["assignment_id"], pool["remaining"], pool["state"]) == (given["id"], "0", "BALANCE_STATE_DEPLETED")
    found = await happened(enterprise, 2, resource_id=pool["id"])
    assert [event["type"] for event in found] == ["balance.threshold_reached", "balance.depleted"]
    assert found[0]["account_id"] == enterprise.account_id
    assert (await enterprise.get(f"/v1/balances/{pool['id']}"))["pool_id"] == pool["pool_id"]
    assert (await market.reseller.get("/v1/events", resource_id=pool["id"]))["events"] == found[::-1]


@pytest.mark.requirement("R314")
async def test_endpoints_bring_their_part_to_a_dynamic_pool_and_take_it_along(market: Market):
    enterprise = market.enterprise
    profile = (await default_of(enterprise, "service-profiles", "DEFAULT"))["id"]
    roaming = (await default_of(enterprise, "roaming-profiles", "DEFAULT"))["id"]
    pool_plan = await plan(
        enterprise, type="PLAN_TYPE_BASE", charging_mode="CHARGING_MODE_POSTPAID",
        product_kind="PRODUCT_KIND_SUBSCRIPTION_DYNAMIC_POOL", service_profile_id=profile, roaming_profile_id=roaming,
        benefits=[{"services": ["SERVICE_DATA"], "quantity": str(MB), "recurrence": "RECURRENCE_RECURRING"}],
    )  # fmt: skip

    async def pool() -> tuple[str, str]:
        listed = (await enterprise.get("/v1/balances", account_id=enterprise.account_id))["balances"]
        (found,) = (balance for balance in listed if balance["plan_id"] == pool_plan)
        assert not found["assignment_id"]
        return found["remaining"], found["granted"]

    first, second = await market.endpoints(2, pool_plan)
    assert (await market.operator.charge_one(usage(first, 1_500_000))).outcome == Outcome.OUTCOME_CHARGED
    assert await pool() == ("500000", "2000000")
    assert (await market.operator.charge_one(usage(second, MB))).outcome == Outcome.OUTCOME_REFUSED
    third = await market.endpoint(pool_plan)  # and at once there is enough
    assert (await market.operator.charge_one(usage(second, MB))).outcome == Outcome.OUTCOME_CHARGED
    assert await pool() == ("500000", "3000000")
    await enterprise.post(f"/v1/endpoints/{third}:changePlan", {"plan_id": market.prepaid_plan})
    assert await pool() == ("0", "2000000")
    await enterprise.post(f"/v1/endpoints/{third}:changePlan", {"plan_id": pool_plan})
    assert await pool() == ("500000", "3000000")  # what was used of its part is not brought twice
    refused = await market.reseller.problem(
        "POST", f"/v1/accounts/{enterprise.account_id}/plans", {"plan_id": await _dynamic(market)}
    )
    assert refused["code"] == "PLAN_OF_ENDPOINTS"


@pytest.mark.requirement("R030", "R111")
async def test_the_default_plan_gets_a_counter_and_use_ends_at_its_limit(market: Market):
    enterprise = market.enterprise
    default = await default_of(enterprise, "plans", "DEFAULT POSTPAID PLAN")
    counter = {"name": "fair use", "services": ["SERVICE_DATA"], "limit": str(3 * MB)}
    await enterprise.patch(f"/v1/plans/{default['id']}", {"counters": [counter]})
    endpoint_id = await market.endpoint(default["id"])
    own = await addon(enterprise, default["service_profile_id"], await zone(enterprise, EU), GB)
    await enterprise.post(f"/v1/endpoints/{endpoint_id}/addons", {"plan_id": own})
    assert (await market.operator.charge_one(usage(endpoint_id, 2 * MB))).outcome == Outcome.OUTCOME_CHARGED
    over = await market.operator.charge_one(usage(endpoint_id, 2 * MB))
    assert (over.outcome, over.reason) == (Outcome.OUTCOME_REFUSED, Reason.REASON_USAGE_LIMIT)
    assert (await market.operator.charge_one(usage(endpoint_id, MB))).outcome == Outcome.OUTCOME_CHARGED
    (shown,) = (await enterprise.get("/v1/counters", endpoint_id=endpoint_id))["counters"]
    assert (shown["name"], shown["used"], shown["limit"]) == ("fair use", str(3 * MB), str(3 * MB))
    (event,) = await happened(enterprise, 1, resource_id=shown["id"])
    assert (event["type"], event["payload"]["counter"]) == ("counter.threshold_reached", "fair use")
    begins = datetime.fromisoformat(shown["reset_time"]) - datetime.fromisoformat(shown["start_time"])
    assert timedelta(days=28) <= begins <= timedelta(days=31, hours=1)


async def test_late_use_is_charged_by_the_plan_that_was_replaced_since(market: Market):
    enterprise = market.enterprise
    profile = (await default_of(enterprise, "service-profiles", "DEFAULT"))["id"]
    roaming = (await default_of(enterprise, "roaming-profiles", "DEFAULT"))["id"]
    both = {"type": "PLAN_TYPE_BASE", "service_profile_id": profile, "roaming_profile_id": roaming}
    bundle = await plan(
        enterprise, **both, product_kind="PRODUCT_KIND_PREPAID_BUNDLE", charging_mode="CHARGING_MODE_PREPAID",
        validity="864000s", benefits=[{"services": ["SERVICE_DATA"], "quantity": str(10 * MB)}],
    )  # fmt: skip
    three_a_gigabyte = await tariff(enterprise, await zone(enterprise, EU), 3)
    priced = await plan(enterprise, **both, charging_mode="CHARGING_MODE_POSTPAID", tariff_id=three_a_gigabyte)
    endpoint_id = await market.endpoint(bundle)
    before = usage(endpoint_id, 4 * MB)
    assert (await market.operator.charge_one(before)).outcome == Outcome.OUTCOME_CHARGED
    await enterprise.post(f"/v1/endpoints/{endpoint_id}:changePlan", {"plan_id": priced})
    after = await market.operator.charge_one(usage(endpoint_id, GB))
    assert after.amounts_micros[0] == 3_000_000
    then = {"usage_time_ms": before.usage_time_ms, "mode": UsageMode.USAGE_MODE_OFFLINE}
    late = [await market.operator.charge_one(usage(endpoint_id, 5 * MB, **then)) for _ in range(2)]
    assert [(each.amounts_micros[0], each.uncovered_quantity) for each in late] == [(0, 0), (0, 4 * MB)]
    listed = (await enterprise.get("/v1/balances", endpoint_id=endpoint_id))["balances"]
    assert [(each["state"], each["remaining"]) for each in listed if each["assignment_id"]] == [
        ("BALANCE_STATE_EXPIRED", "0")
    ]


async def _dynamic(market: Market) -> str:
    profile = await service_profile(market.reseller)
    return await plan(
        market.reseller, type="PLAN_TYPE_BASE", charging_mode="CHARGING_MODE_POSTPAID",
        product_kind="PRODUCT_KIND_SUBSCRIPTION_DYNAMIC_POOL", service_profile_id=profile,
        benefits=[{"services": ["SERVICE_DATA"], "quantity": str(MB)}],
    )  # fmt: skip


async def test_a_recurring_addon_goes_on_in_its_next_subscription(market: Market):
    enterprise = market.enterprise
    profile = (await default_of(enterprise, "service-profiles", "DEFAULT"))["id"]
    again = await addon(
        enterprise, profile, await zone(enterprise, EU), 10 * MB, recurrence="RECURRENCE_RECURRING",
        resubscribe_on="RESUBSCRIBE_ON_EXPIRY_OR_EXHAUSTION", max_subscriptions=2, validity="86400s",
    )  # fmt: skip
    endpoint_id = await market.endpoint(addons=[again])
    assert (await market.operator.charge_one(usage(endpoint_id, 15 * MB))).outcome == Outcome.OUTCOME_CHARGED
    (balance, *_) = (await enterprise.get("/v1/balances", endpoint_id=endpoint_id))["balances"]
    assert (balance["remaining"], balance["occurrence"]) == (str(5 * MB), 2)
    (event,) = await happened(enterprise, 1, endpoint_id=endpoint_id, type="addon.renewed")
    assert str(event["payload"]["occurrence"]) == "2", "a whole number"


async def bundled_endpoint(market: Market) -> str:
    """An endpoint with a prepaid bundle of 100 MB for 30 days."""
    enterprise = market.enterprise
    profile = (await default_of(enterprise, "service-profiles", "DEFAULT"))["id"]
    roaming = (await default_of(enterprise, "roaming-profiles", "DEFAULT"))["id"]
    bundle = await plan(
        enterprise, type="PLAN_TYPE_BASE", charging_mode="CHARGING_MODE_PREPAID",
        product_kind="PRODUCT_KIND_PREPAID_BUNDLE", validity=f"{30 * 86_400}s", service_profile_id=profile,
        roaming_profile_id=roaming, benefits=[{"services": ["SERVICE_DATA"], "quantity": str(100 * MB)}],
    )  # fmt: skip
    return await market.endpoint(plan_id=bundle)


@pytest.mark.requirement("R293", "R296", "R306")
async def test_a_bundle_is_refilled_once_and_the_refill_is_audited(market: Market):
    enterprise = market.enterprise
    endpoint_id = await bundled_endpoint(market)
    assert (await market.operator.charge_one(usage(endpoint_id, 100 * MB))).outcome == Outcome.OUTCOME_CHARGED
    (balance, *_) = (await enterprise.get("/v1/balances", endpoint_id=endpoint_id))["balances"]
    await happened(enterprise, 2, resource_id=balance["id"])
    body = {"quantity": str(GB), "validity": f"{365 * 86_400}s", "request_id": fresh("refill")}
    refilled = await enterprise.post(f"/v1/balances/{balance['id']}:refill", body)
    assert refilled == await enterprise.post(f"/v1/balances/{balance['id']}:refill", body)
    assert refilled["remaining"] == str(GB)
    gained = datetime.fromisoformat(refilled["expire_time"]) - datetime.fromisoformat(balance["expire_time"])
    assert timedelta(days=334) < gained < timedelta(days=336)
    other = await enterprise.problem("POST", f"/v1/balances/{balance['id']}:refill", {**body, "quantity": "1"})
    assert other["code"] == "REQUEST_ID_REUSED"
    async with asyncio.timeout(SETTLE_S):
        while not (
            found := (await enterprise.get("/v1/audit-logs/rating", resource_id=balance["id"]))["audit_entries"]
        ):
            await asyncio.sleep(0.1)
    assert [entry["request_id"] for entry in found] == [body["request_id"]]
