"""The kinds of products of [004] through the doors that a customer has."""

from dataclasses import replace

import pytest

from meterline.rating.v1.charging_pb2 import Outcome, Reason
from tests.system.market import DE, GB, MB, Market, account, default_of, eur, plan, service_profile, usage
from tests.system.stranger import Json, Stranger, fresh


async def new_enterprise(market: Market) -> Market:
    """The market with another enterprise, which nobody has sold anything yet."""
    enterprise = await account(market.reseller, "ENTERPRISE")
    cover = {"country_codes": ["BE", "DE"]}
    await market.reseller.post(f"/v1/accounts/{enterprise.account_id}/coverage:add", cover)
    return replace(market, enterprise=enterprise)


async def unlimited(owner: Stranger) -> str:
    """A published base plan of endpoints without limits and without tariff."""
    return await plan(
        owner, type="PLAN_TYPE_BASE", charging_mode="CHARGING_MODE_POSTPAID",
        product_kind="PRODUCT_KIND_SUBSCRIPTION_UNLIMITED",
        service_profile_id=(await default_of(owner, "service-profiles", "DEFAULT"))["id"],
        roaming_profile_id=(await default_of(owner, "roaming-profiles", "DEFAULT"))["id"],
    )  # fmt: skip


async def wallet(market: Market) -> int:
    """What is left in the enterprise's wallet, micros."""
    listed = (await market.enterprise.get("/v1/balances", account_id=market.enterprise.account_id))["balances"]
    return int(listed[-1]["remaining"])


@pytest.mark.requirement("R316", "R321", "R323", "R325", "R328", "R329", "R330", "R331", "R324")
async def test_paygo_takes_each_use_from_the_wallet_at_once_by_country(market: Market):
    market = await new_enterprise(market)
    reseller, enterprise = market.reseller, market.enterprise

    def per_mb(price: Json, *countries: str) -> Json:
        return {"services": ["SERVICE_DATA"], "price": price, "per_quantity": str(MB), "country_codes": list(countries)}

    rates = [per_mb(eur(1), "BE"), per_mb(eur(3), "DE")]
    made = await reseller.post("/v1/tariffs", {"name": fresh("tariff"), "currency": "EUR", "rates": rates})
    await reseller.post(f"/v1/tariffs/{made['id']}:publish")
    paygo = await plan(
        reseller, type="PLAN_TYPE_BASE", charging_mode="CHARGING_MODE_PREPAID", product_kind="PRODUCT_KIND_PAYGO",
        service_profile_id=await service_profile(reseller), tariff_id=made["id"],
    )  # fmt: skip
    await reseller.post(f"/v1/accounts/{enterprise.account_id}/plans", {"plan_id": paygo})
    device = await market.endpoint(await unlimited(enterprise))

    broke = await market.operator.charge_one(usage(device, MB))
    assert (broke.outcome, broke.reason, broke.refused_step) == (
        Outcome.OUTCOME_REFUSED, Reason.REASON_BALANCE_DEPLETED, 1
    )  # fmt: skip
    top_up = {"account_id": enterprise.account_id, "amount": eur(10), "request_id": fresh("topup")}
    await reseller.post("/v1/topups", top_up)
    used = await market.operator.charge_one(usage(device, MB))
    assert list(used.amounts_micros[:2]) == [0, 1_000_000]
    assert await wallet(market) == 9_000_000
    abroad = await market.operator.charge_one(usage(device, 2 * MB, network_id=DE))
    assert abroad.amounts_micros[1] == 6_000_000
    assert await wallet(market) == 3_000_000
    last = await market.operator.charge_one(usage(device, 4 * MB))
    assert (last.outcome, last.reason) == (Outcome.OUTCOME_REFUSED, Reason.REASON_BALANCE_DEPLETED)
    assert (await market.operator.charge_one(usage(device, 3 * MB))).outcome == Outcome.OUTCOME_CHARGED
    assert await wallet(market) == 0
    assert (await market.operator.charge_one(usage(device, 1))).outcome == Outcome.OUTCOME_REFUSED


@pytest.mark.requirement("R313")
async def test_endpoints_share_a_static_pool_however_many_they_are(market: Market):
    enterprise = market.enterprise
    pool = await plan(
        enterprise, type="PLAN_TYPE_BASE", charging_mode="CHARGING_MODE_POSTPAID",
        product_kind="PRODUCT_KIND_SUBSCRIPTION_STATIC_POOL",
        service_profile_id=(await default_of(enterprise, "service-profiles", "DEFAULT"))["id"],
        roaming_profile_id=(await default_of(enterprise, "roaming-profiles", "DEFAULT"))["id"],
        benefits=[{"services": ["SERVICE_DATA"], "quantity": str(GB), "recurrence": "RECURRENCE_RECURRING"}],
    )  # fmt: skip
    first, second, third = await market.endpoints(3, pool)
    assert (await market.operator.charge_one(usage(first, 600 * MB))).outcome == Outcome.OUTCOME_CHARGED
    assert (await market.operator.charge_one(usage(second, 500 * MB))).outcome == Outcome.OUTCOME_REFUSED
    assert (await market.operator.charge_one(usage(third, 400 * MB))).outcome == Outcome.OUTCOME_CHARGED
