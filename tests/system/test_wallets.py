"""Auto-refill through the doors that a customer has: a prepaid endpoint spends its money and goes on."""

import asyncio

import pytest

from meterline.rating.v1.charging_pb2 import Outcome
from tests.system.market import MB, Market, build_market, eur, usage
from tests.system.stranger import Json, fresh
from tests.system.test_operations import prepaid_endpoint
from tests.system.test_renewals import bundled_endpoint

SETTLE_S = 20


async def until_settled(market: Market, rule_id: str, count: int) -> list[Json]:
    """Payments of a rule, once there are so many and all are settled."""
    async with asyncio.timeout(SETTLE_S):
        while True:
            listed: list[Json] = (await market.enterprise.get("/v1/payments", auto_refill_rule_id=rule_id))["payments"]
            if len(listed) >= count and all("next_attempt_time" not in each for each in listed):
                return listed
            await asyncio.sleep(0.1)


@pytest.mark.requirement("R297", "R301", "R302")
async def test_an_endpoint_that_spends_its_money_is_refilled_and_goes_on(market: Market):
    enterprise = market.enterprise
    endpoint_id = await prepaid_endpoint(market, 1)
    method = await enterprise.post(
        "/v1/payment-methods", {"account_id": enterprise.account_id, "token": "tok_ok", "display_name": "Visa ...4242"}
    )
    assert method["provider"] == "sandbox"
    asked = {
        "endpoint_id": endpoint_id, "threshold": eur(1), "amount": eur(10), "cool_off": "1s",
        "source": "REFILL_SOURCE_PAYMENT_METHOD", "payment_method_id": method["id"],
    }  # fmt: skip
    rule = await enterprise.post("/v1/auto-refill-rules", asked)
    assert (rule["state"], rule["enabled"], rule["account_id"]) == (
        "REFILL_STATE_WATCHING",
        True,
        enterprise.account_id,
    )
    again = await enterprise.problem("POST", "/v1/auto-refill-rules", asked)
    assert (again["status"], again["code"]) == (409, "OWNER_HAS_RULE")
    assert (await market.operator.charge_one(usage(endpoint_id, 1 * MB))).outcome == Outcome.OUTCOME_CHARGED
    (payment,) = await until_settled(market, rule["id"], 1)
    assert (payment["state"], payment["endpoint_id"]) == ("PAYMENT_STATE_CREDITED", endpoint_id)
    balance = (await enterprise.get("/v1/balances", endpoint_id=endpoint_id))["balances"][-1]
    assert int(balance["remaining"]) > 9_000_000
    types = [event["type"] for event in (await enterprise.get("/v1/events", resource_id=payment["id"]))["events"]]
    assert types == ["wallet.charged", "wallet.low"]
    rested = await enterprise.patch(f"/v1/auto-refill-rules/{rule['id']}", {"enabled": False})
    assert rested["state"] == "REFILL_STATE_DISABLED"
    audited = (await enterprise.get("/v1/audit-logs/rating", resource_id=rule["id"]))["audit_entries"]
    assert [entry["method"].rpartition("/")[2] for entry in audited] == ["UpdateAutoRefillRule", "CreateAutoRefillRule"]
    used = await enterprise.problem("DELETE", f"/v1/payment-methods/{method['id']}")
    assert used["code"] == "METHOD_IN_USE"
    other = await build_market(market.operator)
    for path in (f"payments/{payment['id']}", f"auto-refill-rules/{rule['id']}", f"payment-methods/{method['id']}"):
        assert (await other.enterprise.problem("GET", f"/v1/{path}"))["status"] == 404


async def test_a_wallet_is_topped_up_by_card_once_for_one_request(market: Market):
    enterprise = market.enterprise
    before = await enterprise.get(f"/v1/wallets/{enterprise.account_id}")
    method = await enterprise.post("/v1/payment-methods", {"account_id": enterprise.account_id, "token": "tok_ok"})
    ask = {
        "account_id": enterprise.account_id, "payment_method_id": method["id"], "amount": eur(25),
        "request_id": fresh("pay"),
    }  # fmt: skip
    paid = await enterprise.post("/v1/payments", ask)
    assert paid["state"] == "PAYMENT_STATE_CREDITED"
    assert (await enterprise.post("/v1/payments", ask))["id"] == paid["id"]
    after = await enterprise.get(f"/v1/wallets/{enterprise.account_id}")
    units = [int(wallet["balance"].get("units", 0)) for wallet in (before, after)]
    assert units[1] - units[0] == 25
    other = await enterprise.problem("POST", "/v1/payments", {**ask, "amount": eur(26)})
    assert (other["status"], other["code"]) == (409, "REQUEST_ID_REUSED")
    broke = await enterprise.post(
        "/v1/payment-methods", {"account_id": enterprise.account_id, "token": "tok_insufficient_funds"}
    )
    refused = await enterprise.post(
        "/v1/payments", {**ask, "payment_method_id": broke["id"], "request_id": fresh("pay")}
    )
    assert (refused["state"], refused["decline_code"]) == ("PAYMENT_STATE_DECLINED", "insufficient_funds")
    bad = await enterprise.problem(
        "POST", "/v1/payment-methods", {"account_id": enterprise.account_id, "token": "4242424242424242"}
    )
    assert bad["status"] == 400


@pytest.mark.requirement("R300", "R301", "R303")
@pytest.mark.parametrize("source", ["REFILL_SOURCE_PAYMENT_METHOD", "REFILL_SOURCE_WALLET"])
async def test_a_bundle_that_runs_low_is_refilled_and_goes_on(market: Market, source: str):
    enterprise = market.enterprise
    endpoint_id = await bundled_endpoint(market)
    (balance, *_) = (await enterprise.get("/v1/balances", endpoint_id=endpoint_id))["balances"]
    asked = {
        "endpoint_id": endpoint_id, "balance_id": balance["id"], "threshold_quantity": str(40 * MB), "amount": eur(5),
        "product": {"quantity": str(200 * MB), "validity": "31536000s", "maximum": str(220 * MB)}, "source": source,
    }  # fmt: skip
    if source == "REFILL_SOURCE_PAYMENT_METHOD":
        method = {"account_id": enterprise.account_id, "token": "tok_ok"}
        asked["payment_method_id"] = (await enterprise.post("/v1/payment-methods", method))["id"]
    wrong = await enterprise.problem("POST", "/v1/auto-refill-rules", {**asked, "threshold_quantity": "0"})
    assert "threshold_quantity" in wrong["detail"], wrong
    rule = await enterprise.post("/v1/auto-refill-rules", asked)
    body = {"account_id": enterprise.account_id, "amount": eur(7), "request_id": fresh("top-up")}
    await market.reseller.post("/v1/topups", body)
    wallet = await enterprise.get(f"/v1/wallets/{enterprise.account_id}")
    assert (await market.operator.charge_one(usage(endpoint_id, 71 * MB))).outcome == Outcome.OUTCOME_CHARGED
    (payment,) = await until_settled(market, rule["id"], 1)
    assert (payment["state"], payment["balance_id"]) == ("PAYMENT_STATE_CREDITED", balance["id"]), payment
    assert payment["product"] == asked["product"]
    refilled = await enterprise.get(f"/v1/balances/{balance['id']}")
    assert refilled["remaining"] == str(220 * MB), "29 MB were left; 9 MB went over the maximum"
    after = await enterprise.get(f"/v1/wallets/{enterprise.account_id}")
    paid = int(wallet["balance"].get("units", 0)) - int(after["balance"].get("units", 0))
    assert paid == (5 if source == "REFILL_SOURCE_WALLET" else 0)
