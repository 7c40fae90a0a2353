"""What one account's key holder sees of another: its subtree, and nothing beside or above it."""

import asyncio
import json
from typing import Any

import pytest

from meterline.rating.v1.charging_pb2 import Outcome, Reason
from tests.system.market import MB, Market, account, usage
from tests.system.test_worked_example import complete


@pytest.mark.requirement("R285", "R286")
async def test_an_enterprise_never_sees_what_its_reseller_pays(market: Market):
    endpoint_id = await market.endpoint(addons=[market.addon_a])
    answer = await market.enterprise.charge_one(usage(endpoint_id, 100 * MB))
    assert list(answer.amounts_micros) == [0, 0]
    above = await market.operator.charge_one(usage(endpoint_id, 100 * MB))
    assert list(above.amounts_micros) == [0, 0, 100_000]
    await complete(market.operator, "/v1/charges", endpoint_id=endpoint_id)
    operator, reseller = market.operator.account_id, market.reseller.account_id
    seen: dict[str, Any] = {
        path: await market.enterprise.get(path)
        for path in (
            "/v1/charges", "/v1/usage-records", "/v1/usage-summaries?group_by=SUMMARY_DIMENSION_LEVEL", "/v1/accounts",
            "/v1/tariffs", "/v1/rate-zones", "/v1/plans", "/v1/sims", "/v1/endpoints", "/v1/companies", "/v1/me",
            "/v1/audit-logs/accounts", "/v1/audit-logs/catalog", "/v1/audit-logs/endpoints",
        )
    }  # fmt: skip
    assert [path for path, answer in seen.items() if operator in json.dumps(answer)] == []
    told = list(seen.values())
    charges, records, summary = told[0]["charges"], told[1]["usage_records"], told[2]["summaries"]
    assert {charge["step"] for charge in charges} == {row["step"] for row in summary} == {0, 1}
    assert {charge["payer_id"] for charge in charges} == {endpoint_id, market.enterprise.account_id}
    assert len(records) == 2
    with_reseller = [path for path, answer in seen.items() if reseller in json.dumps(answer)]
    assert with_reseller == [*list(seen)[:3:2], "/v1/companies"], "its seller is known as payee, and as who entered it"
    for charge in charges:
        explained = await market.enterprise.get(f"/v1/charges/{charge['id']}:explain")
        assert operator not in json.dumps(explained)
    for path in (f"accounts/{reseller}", f"balances?account_id={reseller}", f"usage-summaries?account_id={reseller}"):
        refused = await market.enterprise.problem("GET", f"/v1/{path}")
        assert (refused["status"], refused["code"]) == (404, "ACCOUNT_NOT_FOUND")


async def test_the_charge_of_a_step_above_does_not_exist_for_those_below(market: Market):
    endpoint_id = await market.endpoint(addons=[market.addon_a])
    await market.operator.charge_one(usage(endpoint_id, MB))
    charges = (await complete(market.operator, "/v1/charges", endpoint_id=endpoint_id))["charges"]
    (top,) = [charge["id"] for charge in charges if charge["step"] == 2]
    assert (await market.reseller.get(f"/v1/charges/{top}"))["amount_micros"] == "1000"
    for path in (f"/v1/charges/{top}", f"/v1/charges/{top}:explain"):
        assert (await market.enterprise.problem("GET", path))["code"] == "CHARGE_NOT_FOUND"


@pytest.mark.requirement("R285")
async def test_for_another_enterprise_nothing_of_the_first_exists(market: Market):
    other = await account(market.reseller, "ENTERPRISE")
    endpoint_id = await market.endpoint(addons=[market.addon_a])
    endpoint = await market.enterprise.get(f"/v1/endpoints/{endpoint_id}")
    await market.enterprise.charge_one(usage(endpoint_id, MB))
    balance = (await market.enterprise.get("/v1/balances", endpoint_id=endpoint_id))["balances"][0]
    charges = (await complete(market.enterprise, "/v1/charges", endpoint_id=endpoint_id))["charges"]
    session: dict[str, Any] = {"session_ref": "x", "endpoint_id": endpoint_id, "network_id": "net_20601"}
    session |= {"access_type": "ACCESS_TYPE_4G", "units": [{"service": "SERVICE_DATA", "requested_quantity": "1"}]}
    theirs = (await market.enterprise.post("/v1/charging-sessions", session))["id"]
    base = endpoint["base_assignment"]["id"]
    not_there = [
        ("GET", f"/v1/endpoints/{endpoint_id}", None),
        ("PATCH", f"/v1/endpoints/{endpoint_id}", {"name": "mine"}),
        ("DELETE", f"/v1/endpoints/{endpoint_id}", None),
        ("POST", f"/v1/endpoints/{endpoint_id}:suspend", {}),
        ("POST", f"/v1/endpoints/{endpoint_id}/addons", {"plan_id": market.addon_a}),
        ("GET", f"/v1/sims/{endpoint['sim_id']}", None),
        ("GET", f"/v1/assignments/{base}", None),
        ("POST", f"/v1/assignments/{base}:remove", {}),
        ("GET", f"/v1/plans/{market.addon_a}", None),
        ("POST", f"/v1/plans/{market.addon_a}:clone", {"name": "mine"}),
        ("POST", f"/v1/plans/{market.addon_a}:retire", {}),
        ("GET", f"/v1/accounts/{market.enterprise.account_id}", None),
        ("POST", f"/v1/accounts/{market.enterprise.account_id}:suspend", {}),
        ("GET", f"/v1/balances/{balance['id']}", None),
        ("GET", f"/v1/balances/{balance['id']}/ledger-entries", None),
        ("GET", f"/v1/balances?endpoint_id={endpoint_id}", None),
        ("POST", "/v1/topups", {"endpoint_id": endpoint_id, "amount": {"currency_code": "EUR", "units": "1"}, "request_id": "r"}),
        ("GET", f"/v1/charges/{charges[0]['id']}", None),
        ("GET", f"/v1/charges/{charges[0]['id']}:explain", None),
        ("POST", "/v1/charging-sessions", session),
        ("GET", f"/v1/charging-sessions/{theirs}", None),
        ("POST", f"/v1/charging-sessions/{theirs}:release", {"sequence_number": 1}),
        ("POST", "/v1/api-keys", {"account_id": market.enterprise.account_id, "name": "spy", "role": "ROLE_ADMIN"}),
    ]  # fmt: skip
    told = {(verb, path): await other.problem(verb, path, body) for verb, path, body in not_there}
    assert {key: (t["status"], t["code"]) for key, t in told.items() if t["status"] != 404} == {}
    assert all(problem["code"].endswith("_NOT_FOUND") for problem in told.values())
    for name in ("endpoints", "sims", "charges", "usage-records"):
        assert (await other.get(f"/v1/{name}"))[name.replace("-", "_")] == []
    charged = await other.charge_one(usage(endpoint_id, 1))
    assert (charged.outcome, charged.reason) == (Outcome.OUTCOME_INVALID, Reason.REASON_ENDPOINT_NOT_FOUND)
    assert (await market.enterprise.get(f"/v1/endpoints/{endpoint_id}")) == endpoint


async def test_a_role_permits_what_it_says_and_no_more(market: Market):
    endpoint_id = await market.endpoint(addons=[market.addon_a])
    me = market.enterprise.account_id
    viewer, charger = [await market.enterprise.act_as(me, f"ROLE_{role}") for role in ("VIEWER", "CHARGER")]
    assert (await viewer.get(f"/v1/endpoints/{endpoint_id}"))["id"] == endpoint_id
    told = await viewer.problem("POST", f"/v1/endpoints/{endpoint_id}:suspend", {})
    assert (told["status"], told["code"]) == (403, "ROLE_NOT_PERMITTED")
    assert (await charger.charge_one(usage(endpoint_id, 1))).outcome == Outcome.OUTCOME_CHARGED
    assert (await charger.problem("POST", f"/v1/endpoints/{endpoint_id}:suspend", {}))["status"] == 403
    up = await market.enterprise.problem(
        "POST", "/v1/accounts", {"kind": "ACCOUNT_KIND_ENTERPRISE", "parent_id": me, "name": "x"}
    )
    assert (up["status"], up["code"]) == (403, "ACCOUNT_KIND_NOT_PERMITTED")


async def test_a_revoked_key_is_worth_nothing_in_any_service(market: Market):
    key = await market.enterprise.act_as(market.enterprise.account_id)
    for path in ("/v1/me", "/v1/plans", "/v1/endpoints", "/v1/charges"):
        await key.get(path)
    await market.enterprise.post(f"/v1/api-keys/{(await key.get('/v1/me'))['actor']}:revoke")
    async with asyncio.timeout(10):
        for path in ("/v1/me", "/v1/plans", "/v1/endpoints", "/v1/charges"):
            while (await key.ask("GET", path)).status_code == 200:
                await asyncio.sleep(0.1)
            assert (await key.problem("GET", path))["code"] == "CREDENTIAL_INVALID"
