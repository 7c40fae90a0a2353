"""Refunds, adjustments, transfers, dry runs and price enquiries over HTTP, as each level of the tree."""

import json

import pytest

from tests.system.market import GB, MB, Market, default_of, eur, plan, tariff, usage, zone
from tests.system.stranger import Stranger, fresh
from tests.system.test_worked_example import complete


async def prepaid_endpoint(market: Market, units: int) -> str:
    """An endpoint that pays 4 EUR/GB from a balance of so many euro."""
    enterprise = market.enterprise
    price = await tariff(enterprise, await zone(enterprise, ["BE", "DE"]), 4)
    fields = {
        "type": "PLAN_TYPE_BASE",
        "charging_mode": "CHARGING_MODE_PREPAID",
        "service_profile_id": (await default_of(enterprise, "service-profiles", "DEFAULT"))["id"],
        "roaming_profile_id": (await default_of(enterprise, "roaming-profiles", "DEFAULT"))["id"],
        "tariff_id": price,
    }
    plan_id = await plan(enterprise, **fields)
    endpoint_id = await market.endpoint(plan_id)
    body = {"endpoint_id": endpoint_id, "amount": eur(units), "request_id": fresh("top-up")}
    await enterprise.post("/v1/topups", body)
    return endpoint_id


async def money(caller: Stranger, endpoint_id: str) -> str:
    """The money of an endpoint, micros."""
    balances = (await caller.get("/v1/balances", endpoint_id=endpoint_id))["balances"]
    return str(balances[-1]["remaining"])


async def test_each_level_refunds_what_it_was_paid_and_the_sums_follow(market: Market):
    endpoint_id = await prepaid_endpoint(market, 1)
    record = (await market.enterprise.charge_one(usage(endpoint_id, 100 * MB))).usage_record_id
    ask = {"usage_record_id": record, "quantity": str(50 * MB), "reason": "outage", "request_id": fresh("refund")}
    would = await market.reseller.post("/v1/refunds", {**ask, "validate_only": True})
    assert (would["id"], "create_time" in would) == ("", False)
    back = await market.reseller.post("/v1/refunds", ask)
    assert back["steps"] == would["steps"]
    assert [(step["step"], step["payee_id"], step["amount_micros"]) for step in back["steps"]] == [
        (0, market.enterprise.account_id, "200000"),
        (1, market.reseller.account_id, "0"),
    ]
    assert back["steps"][1]["balances"][0]["restored_quantity"] == str(50 * MB)  # of the account's add-on
    assert await market.reseller.post("/v1/refunds", ask) == {**back, "replayed": True}
    other = {**ask, "request_id": fresh("refund"), "quantity": str(51 * MB)}
    refused = await market.reseller.problem("POST", "/v1/refunds", other)
    assert (refused["status"], refused["code"]) == (409, "REFUND_EXCEEDS_CHARGE")
    assert "50000000 units" in refused["detail"]
    rest = await market.operator.post("/v1/refunds", {**other, "quantity": "0"})
    assert [(step["step"], step["quantity"]) for step in rest["steps"]] == [
        (0, str(50 * MB)),
        (1, str(50 * MB)),
        (2, str(100 * MB)),
    ]
    assert await money(market.enterprise, endpoint_id) == "1000000"
    listed = await complete(market.operator, "/v1/refunds", usage_record_id=record)
    assert [refund["id"] for refund in listed["refunds"]] == [rest["id"], back["id"]]
    own = await market.enterprise.get("/v1/refunds", usage_record_id=record)
    assert [[step["step"] for step in refund["steps"]] for refund in own["refunds"]] == [[0, 1], [0, 1]]
    assert {refund["reason"] for refund in own["refunds"]} == {""}
    assert market.operator.account_id not in json.dumps(own)
    sums = await market.operator.get("/v1/usage-summaries", endpoint_id=endpoint_id)
    assert {(row["step"], row["amount_micros"], row["data_bytes"]) for row in sums["summaries"]} == {
        (step, "0", str(100 * MB)) for step in (0, 1, 2)
    }
    audit = await market.reseller.get("/v1/audit-logs/rating")
    assert [entry["request_id"] for entry in audit["audit_entries"] if entry["resource_id"] == record] == [
        ask["request_id"]
    ]


async def test_refunds_do_not_exist_for_strangers_and_roles_hold(market: Market):
    endpoint_id = await market.endpoint(addons=[market.addon_a])
    record = (await market.enterprise.charge_one(usage(endpoint_id, MB))).usage_record_id
    ask = {"usage_record_id": record, "reason": "outage", "request_id": fresh("refund")}
    viewer = await market.enterprise.act_as(market.enterprise.account_id, "ROLE_VIEWER")
    assert (await viewer.problem("POST", "/v1/refunds", ask))["code"] == "ROLE_NOT_PERMITTED"
    for field, wrong in (("reason", ""), ("request_id", ""), ("usage_record_id", "x"), ("quantity", "-1")):
        assert (await market.enterprise.problem("POST", "/v1/refunds", {**ask, field: wrong}))["status"] == 400
    back = await market.enterprise.post("/v1/refunds", ask)
    assert [step["step"] for step in back["steps"]] == [0]
    await complete(market.enterprise, "/v1/refunds", usage_record_id=record)
    assert (await market.enterprise.get(f"/v1/refunds/{back['id']}"))["steps"] == back["steps"]
    assert (await market.enterprise.problem("GET", "/v1/refunds/rfd_0.999999.0"))["code"] == "REFUND_NOT_FOUND"


async def test_money_is_adjusted_by_the_seller_and_moved_within_the_enterprise(market: Market):
    endpoint_id = await prepaid_endpoint(market, 1)
    wallet = f"bal_{market.enterprise.account_id.removeprefix('acc_')}.money"
    ask = {"balance_id": wallet, "change": "5000000", "reason": "welcome", "request_id": fresh("adjustment")}
    refused = await market.enterprise.problem("POST", "/v1/balance-adjustments", ask)
    assert (refused["status"], refused["code"]) == (403, "NOT_THE_SELLER")
    assert (await market.reseller.post("/v1/balance-adjustments", {**ask, "validate_only": True}))["id"] == ""
    made = await market.reseller.post("/v1/balance-adjustments", ask)
    assert (made["after"], made["target"]) == ("5000000", "ADJUSTMENT_TARGET_REMAINING")
    move = {
        "from": {"account_id": market.enterprise.account_id},
        "to": {"endpoint_id": endpoint_id},
        "amount": eur(2),
        "reason": "travel",
        "request_id": fresh("transfer"),
    }
    moved = await market.enterprise.post("/v1/balance-transfers", move)
    assert (moved["from_remaining"], moved["to_remaining"]) == ("3000000", "3000000")
    assert await market.enterprise.post("/v1/balance-transfers", move) == {**moved, "replayed": True}
    too_much = {**move, "amount": eur(4), "request_id": fresh("transfer")}
    assert (await market.enterprise.problem("POST", "/v1/balance-transfers", too_much))["code"] == "BALANCE_TOO_SMALL"
    await complete(market.operator, "/v1/usage-records")
    entries = (await market.enterprise.get(f"/v1/balances/{wallet}/ledger-entries"))["ledger_entries"]
    assert [(entry["kind"], entry["change"], entry["cause_id"]) for entry in entries] == [
        ("LEDGER_ENTRY_KIND_TRANSFER", "-2000000", moved["id"]),
        ("LEDGER_ENTRY_KIND_ADJUSTMENT", "5000000", made["id"]),
    ]
    owed = f"bal_{market.reseller.account_id.removeprefix('acc_')}.money"
    payment = {"balance_id": owed, "change": "-1", "target": "ADJUSTMENT_TARGET_CREDIT_USED", "reason": "paid"}
    assert list((await market.operator.charge_one(usage(endpoint_id, 100 * MB))).amounts_micros)[2] == 100_000
    paid = await market.operator.post("/v1/balance-adjustments", {**payment, "request_id": fresh("payment")})
    assert paid["after"] == "99999"


async def test_dry_runs_and_price_enquiries_change_nothing(market: Market):
    endpoint_id = await prepaid_endpoint(market, 1)
    event = {
        "event_id": "dry", "endpoint_id": endpoint_id, "service": "SERVICE_DATA", "network_id": "net_20601",
        "access_type": "ACCESS_TYPE_4G", "usage_time_ms": str(usage(endpoint_id, 1).usage_time_ms),
        "quantity": str(100 * MB), "mode": "USAGE_MODE_ONLINE",
    }  # fmt: skip
    would = await market.enterprise.post("/v1/events:charge", event, validate_only="true")
    assert (would["outcome"], would["amounts_micros"], would["usage_record_id"]) == (
        "OUTCOME_CHARGED",
        ["400000", "0"],
        "",
    )
    batch = {"events": [event, {**event, "event_id": "dry2", "quantity": str(200 * MB)}], "validate_only": True}
    answers = (await market.operator.post("/v1/usage:charge", batch))["results"]
    assert [answer["reason"] for answer in answers] == ["REASON_UNSPECIFIED", "REASON_BALANCE_DEPLETED"]
    check = {
        "session_ref": "check", "endpoint_id": endpoint_id, "network_id": "net_20601", "access_type": "ACCESS_TYPE_4G",
        "units": [{"service": "SERVICE_DATA", "requested_quantity": str(2**43)}], "validate_only": True,
    }  # fmt: skip
    (most,) = (await market.enterprise.post("/v1/charging-sessions", check))["grants"]
    assert (most["granted_quantity"], most["reason"], most["limiting_step"]) == (
        str(250 * MB),
        "REASON_BALANCE_DEPLETED",
        0,
    )
    use = {key: event[key] for key in ("endpoint_id", "service", "network_id", "access_type")}
    for caller, steps in ((market.enterprise, 2), (market.reseller, 3), (market.operator, 3)):
        told = await caller.post("/v1/rating:preview", {**use, "quantity": str(GB)})
        assert [step["charge"]["amount_micros"] for step in told["steps"]] == ["4000000", "0", "1000000"][:steps]
        assert all(step["sentences"] and not step["charge"]["id"] for step in told["steps"])
    elsewhere = await market.enterprise.post("/v1/rating:preview", {**use, "network_id": "net_65501", "quantity": "1"})
    assert (elsewhere["reason"], elsewhere["steps"][0]["charge"]["uncovered_quantity"]) == ("REASON_NO_RATE", "1")
    assert await money(market.enterprise, endpoint_id) == "1000000"
    real = await market.enterprise.post("/v1/events:charge", event)
    assert real == {**would, "usage_record_id": real["usage_record_id"]}


@pytest.mark.parametrize("path", ["refunds", "balance-adjustments", "balance-transfers", "rating:preview"])
async def test_the_new_paths_need_a_credential(path, market: Market):
    answer = await market.operator.http.post(f"/v1/{path}", json={})
    assert answer.status_code == 401
