"""The worked example of the model, section 6, made and charged through the doors that a customer has."""

import asyncio
import time
from datetime import datetime, timedelta

import pytest

from meterline.rating.v1.charging_pb2 import Outcome, Reason, UsageMode
from tests.system.market import BE, GB, MB, ZA, Market, usage
from tests.system.stranger import Json, Stranger

SETTLE_S = 20


async def complete(caller: Stranger, path: str, **query: object) -> Json:
    """What the books say once they hold everything that was acknowledged before this call."""
    now = time.time()
    async with asyncio.timeout(SETTLE_S):
        while True:
            answer = await caller.get(path, **query)
            if datetime.fromisoformat(answer["complete_until"]).timestamp() > now:
                return answer
            await asyncio.sleep(0.1)


async def left(caller: Stranger, **owner: str) -> list[tuple[str, int]]:
    """State and rest of each bucket of an owner, in the order of consumption."""
    listed = (await caller.get("/v1/balances", **owner))["balances"]
    return [
        (balance["state"].removeprefix("BALANCE_STATE_"), int(balance["remaining"]))
        for balance in listed
        if balance["unit"] == "UNIT_BYTES"
    ]


@pytest.mark.requirement("R076", "R078", "R082", "R270", "R276", "R278", "R284")
async def test_the_worked_example_of_the_model(market: Market):
    enterprise, reseller = market.enterprise, market.reseller
    endpoint_id = await market.endpoint(addons=[market.addon_a, market.addon_b])
    assert await left(enterprise, endpoint_id=endpoint_id) == [("ACTIVE", 500 * MB), ("PENDING", 500 * MB)]

    first = await market.operator.charge_one(usage(endpoint_id, 700 * MB))
    assert (first.outcome, list(first.amounts_micros)) == (Outcome.OUTCOME_CHARGED, [0, 0, 700_000])
    assert await left(enterprise, endpoint_id=endpoint_id) == [("DEPLETED", 0), ("ACTIVE", 300 * MB)]
    assert await left(enterprise, account_id=enterprise.account_id) == [("ACTIVE", 300 * MB)]
    listed = (await enterprise.get("/v1/balances", endpoint_id=endpoint_id))["balances"]
    began, ends = (datetime.fromisoformat(listed[1][name]) for name in ("activate_time", "expire_time"))
    assert ends - began == timedelta(days=7)
    assert await credit_used(market.operator, reseller) == 700_000

    session = await enterprise.post(
        "/v1/charging-sessions",
        {
            "session_ref": "s", "endpoint_id": endpoint_id, "network_id": BE, "access_type": "ACCESS_TYPE_4G",
            "units": [{"service": "SERVICE_DATA", "requested_quantity": str(400 * MB)}],
        },
    )  # fmt: skip
    (grant,) = session["grants"]
    assert (grant["granted_quantity"], grant["final_unit"]) == (str(300 * MB), True)
    assert (grant["reason"], grant["limiting_step"]) == ("REASON_NO_VALID_ADDON", 0)
    report = {"sequence_number": 1, "units": [{"service": "SERVICE_DATA", "used_quantity": str(300 * MB)}]}
    ended = await enterprise.post(f"/v1/charging-sessions/{session['id']}:release", report)
    assert ended["state"] == "SESSION_STATE_RELEASED"
    assert ended["grants"][0]["amounts_micros"] == ["0", "0"]  # its sale and its cost; not what its reseller pays
    assert await left(enterprise, account_id=enterprise.account_id) == [("DEPLETED", 0)]
    assert await credit_used(market.operator, reseller) == 1_000_000

    denied = await enterprise.charge_one(usage(endpoint_id, 100 * MB))
    assert (denied.outcome, denied.reason) == (Outcome.OUTCOME_REFUSED, Reason.REASON_NO_VALID_ADDON)
    elsewhere = await enterprise.charge_one(usage(await market.endpoint(addons=[market.addon_a]), 1, network_id=ZA))
    assert (elsewhere.outcome, elsewhere.reason) == (Outcome.OUTCOME_REFUSED, Reason.REASON_NO_VALID_ADDON)

    charges = (await complete(market.operator, "/v1/charges", endpoint_id=endpoint_id))["charges"]
    steps = sorted((int(charge["quantity"]), charge["step"]) for charge in charges)
    assert steps == [(quantity * MB, step) for quantity in (300, 700) for step in range(3)]
    by_record: dict[str, list[Json]] = {}
    for charge in sorted(charges, key=lambda one: one["step"]):
        by_record.setdefault(charge["usage_record_id"], []).append(charge)
    for chain in by_record.values():
        assert [charge["payer_id"] for charge in chain] == [endpoint_id, enterprise.account_id, reseller.account_id]
        assert [charge["payee_id"] for charge in chain[:-1]] == [charge["payer_id"] for charge in chain[1:]]
        assert chain[-1]["payee_id"] == market.operator.account_id


async def credit_used(caller: Stranger, account: Stranger) -> int:
    listed = (await caller.get("/v1/balances", account_id=account.account_id))["balances"]
    return int(listed[-1]["credit_used"])


@pytest.mark.requirement("R034")
async def test_unary_batch_stream_and_http_give_the_same_answer(market: Market):
    endpoint_id = await market.endpoint(addons=[market.addon_a])
    caller, event = market.enterprise, usage(endpoint_id, 10 * MB)
    body = {"events": [{"event_id": event.event_id, "endpoint_id": endpoint_id, "service": "SERVICE_DATA"}]}
    body["events"][0] |= {"network_id": BE, "access_type": "ACCESS_TYPE_4G", "mode": "USAGE_MODE_ONLINE"}
    body["events"][0] |= {"usage_time_ms": str(event.usage_time_ms), "quantity": str(event.quantity)}
    unary = await caller.charge_one(event)
    (batched,) = await caller.charge_batch([event])
    (streamed,) = (await caller.charge_stream({7: [event]}))[7]
    (over_http,) = (await caller.post("/v1/usage:charge", body))["results"]
    assert [unary.replayed, batched.replayed, streamed.replayed] == [False, True, True]
    assert batched == streamed
    assert {unary.usage_record_id, batched.usage_record_id, over_http["usage_record_id"]} == {unary.usage_record_id}
    assert over_http["amounts_micros"] == [str(amount) for amount in unary.amounts_micros]
    assert await left(caller, endpoint_id=endpoint_id) == [("ACTIVE", 490 * MB)]


async def test_a_session_reserves_reports_asks_again_and_gives_the_rest_back(market: Market):
    endpoint_id = await market.endpoint(addons=[market.addon_a])
    caller = market.enterprise
    where = {"endpoint_id": endpoint_id, "network_id": BE, "access_type": "ACCESS_TYPE_4G", "session_ref": "r"}
    asks = {"service": "SERVICE_DATA", "requested_quantity": str(200 * MB)}
    opened = await caller.post("/v1/charging-sessions", {**where, "units": [asks]})
    again = await caller.post("/v1/charging-sessions", {**where, "units": [asks]})
    assert (again["id"], again["replayed"]) == (opened["id"], True)
    assert (await reserved(caller, endpoint_id)) == 200 * MB
    used = {"sequence_number": 1, "units": [{**asks, "used_quantity": str(150 * MB)}]}
    updated = await caller.post(f"/v1/charging-sessions/{opened['id']}:update", used)
    assert updated["grants"][0]["granted_quantity"] == str(200 * MB)
    late = await caller.problem("POST", f"/v1/charging-sessions/{opened['id']}:update", {**used, "sequence_number": 9})
    assert (late["status"], late["code"]) == (409, "SESSION_OUT_OF_SEQUENCE")
    report = {"sequence_number": 2, "units": [{"service": "SERVICE_DATA", "used_quantity": str(50 * MB)}]}
    await caller.post(f"/v1/charging-sessions/{opened['id']}:release", report)
    assert await reserved(caller, endpoint_id) == 0
    assert await left(caller, endpoint_id=endpoint_id) == [("ACTIVE", 300 * MB)]
    assert (await caller.get(f"/v1/charging-sessions/{opened['id']}"))["state"] == "SESSION_STATE_RELEASED"


async def reserved(caller: Stranger, endpoint_id: str) -> int:
    listed = (await caller.get("/v1/balances", endpoint_id=endpoint_id))["balances"]
    return sum(int(balance["reserved"]) for balance in listed)


@pytest.mark.requirement("R255", "R256", "R286")
async def test_an_explanation_names_plan_tariff_zone_and_draws(market: Market):
    endpoint_id = await market.endpoint(addons=[market.addon_a])
    answer = await market.enterprise.charge_one(usage(endpoint_id, 20 * MB))
    query = {"usage_record_id": answer.usage_record_id}
    charges = (await complete(market.operator, "/v1/charges", **query))["charges"]
    explained = [await market.operator.get(f"/v1/charges/{charge['id']}:explain") for charge in charges]
    at = {one["charge"]["step"]: one for one in explained}
    assert at[0]["plan_id"] == market.prepaid_plan
    assert [draw["quantity"] for draw in at[0]["draws"]] == [str(20 * MB)]
    assert at[2]["tariff_id"].startswith("tar_")
    assert at[2]["rate_zone_id"].startswith("zon_")
    assert (at[2]["charge"]["amount_micros"], at[2]["charge"]["rated_quantity"]) == ("20000", str(20 * MB))
    assert all(one["sentences"] and one["program_id"] for one in explained)
    mine = (await market.enterprise.get("/v1/charges", **query))["charges"]
    assert sorted(charge["step"] for charge in mine) == [0, 1]


async def test_summaries_by_every_dimension_add_up_to_the_same(market: Market):
    one, two = await market.endpoints(2, addons=[market.addon_a])
    day_ms = 86_400_000
    events = [
        usage(one, 10 * MB),
        usage(one, 20 * MB, network_id="net_26201"),
        usage(two, 30 * MB),
        usage(two, 40 * MB, usage_time_ms=usage(two, 1).usage_time_ms - day_ms),
        usage(two, 1, network_id=ZA),
    ]
    results = await market.reseller.charge_batch(events)
    assert [result.outcome for result in results] == [1, 1, 1, 1, 2]
    wanted = {
        "ENDPOINT": {(one, 30), (two, 70)},
        "NETWORK": {(BE, 80), ("net_26201", 20)},
        "COUNTRY": {("BE", 80), ("DE", 20)},
    }
    for dimension, sums in wanted.items():
        query = {"group_by": f"SUMMARY_DIMENSION_{dimension}", "account_id": market.enterprise.account_id}
        told = await complete(market.reseller, "/v1/usage-summaries", **query)
        name = {"ENDPOINT": "endpoint_id", "NETWORK": "network_id", "COUNTRY": "country_code"}[dimension]
        at_0 = {(row[name], int(row["data_bytes"]) // MB) for row in told["summaries"] if row["step"] == 0}
        assert at_0 == sums
        assert [(r["reason"], r["record_count"]) for r in told["refusals"]] == [("REASON_NO_VALID_ADDON", "1")]
    by_day = await market.reseller.get("/v1/usage-summaries", group_by="SUMMARY_DIMENSION_DAY")
    assert sorted(int(row["data_bytes"]) for row in by_day["summaries"] if row["step"] == 0) == [40 * MB, 60 * MB]
    levels = await market.operator.get(
        "/v1/usage-summaries", group_by="SUMMARY_DIMENSION_LEVEL", account_id=market.reseller.account_id
    )
    rows = {row["step"]: row for row in levels["summaries"]}
    assert {step: row["data_bytes"] for step, row in rows.items()} == dict.fromkeys((0, 1, 2), str(100 * MB))
    assert rows[2]["amount_micros"] == "100000"  # 0.1 GB at 1 EUR
    assert rows[1]["benefit_quantity"] == str(100 * MB)
    assert (await left(market.enterprise, account_id=market.enterprise.account_id))[0][1] == GB - 100 * MB


@pytest.mark.requirement("R110", "R281")
async def test_an_enterprise_retrieves_usage_and_events_of_its_endpoint(market: Market):
    """Two uses and a refusal with the enterprise's own key; the add-on waits for its first use and is then used up."""
    endpoint_id = await market.endpoint(addons=[market.addon_a])
    reported = usage(endpoint_id, 2000 * MB, mode=UsageMode.USAGE_MODE_OFFLINE)
    await market.enterprise.charge_one(usage(endpoint_id, MB))
    await market.enterprise.charge_one(reported)
    await market.enterprise.charge_one(usage(endpoint_id, MB))
    found = await complete(market.enterprise, "/v1/usage-records", endpoint_id=endpoint_id)
    assert [(each["event"]["quantity"], each["outcome"]) for each in found["usage_records"]] == [
        (str(MB), "OUTCOME_REFUSED"),
        (str(2000 * MB), "OUTCOME_CHARGED"),
        (str(MB), "OUTCOME_CHARGED"),
    ]
    told = (await market.enterprise.get("/v1/events", endpoint_id=endpoint_id))["events"]
    assert {each["type"] for each in told} >= {"balance.threshold_reached", "balance.depleted", "endpoint.blocked"}, (
        told
    )
