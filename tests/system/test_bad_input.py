"""Bad input over HTTP: each a problem with a stable code that names the field, and nothing half done."""

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
import pytest

from meterline.rating.v1 import charging_pb2
from services.common.clock import HOUR_MS
from tests.system.market import BE, EU, SERVICES, Market, default_of, eur, plan, service_profile, usage, zone
from tests.system.stranger import Json, Stranger, fresh

NOBODY = "01m7y8zsfqe7yasf881gnsnpjc"
JSON = {"content-type": "application/json"}


@dataclass(frozen=True, slots=True)
class Case:
    """A request that is wrong, and what must be said of it: status, code, and where the fault is."""

    name: str
    method: str
    path: str
    body: Any
    status: int
    code: str
    field: str = ""
    who: str = "enterprise"


def event(endpoint_id: str) -> Json:
    """An event as JSON, right in every field."""
    right = usage(endpoint_id, 1)
    body = {"event_id": right.event_id, "endpoint_id": endpoint_id, "service": "SERVICE_DATA", "network_id": BE}
    body |= {"access_type": "ACCESS_TYPE_4G", "usage_time_ms": str(right.usage_time_ms), "quantity": "1"}
    return {**body, "mode": "USAGE_MODE_ONLINE"}


def of_the_request(at: dict[str, str]) -> list[Case]:
    """What no service gets to see."""
    charge = "/v1/usage:charge"
    one = event(at["endpoint"])
    return [
        Case("JSON that breaks off", "POST", charge, b'{"events": [', 400, "JSON_MALFORMED"),
        Case("a list for an object", "POST", charge, [], 400, "FIELD_INVALID", "#"),
        Case("an unknown field", "POST", charge, {"events": [one | {"colour": 1}]}, 400, "FIELD_UNKNOWN", "#/events/0/colour"),
        Case("an unknown parameter", "GET", "/v1/endpoints?colour=red", None, 400, "PARAMETER_UNKNOWN", "colour"),
        Case("a number over 64 bits", "POST", charge, {"events": [one | {"quantity": str(2**70)}]}, 400, "FIELD_INVALID", "#/events/0/quantity"),
        Case("a fraction of a byte", "POST", charge, {"events": [one | {"quantity": 1.5}]}, 400, "FIELD_INVALID", "#/events/0/quantity"),
        Case("a service nobody knows", "POST", charge, {"events": [one | {"service": "SERVICE_FAX"}]}, 400, "FIELD_INVALID", "#/events/0/service"),
        Case("a path that leads nowhere", "GET", "/v1/nothing", None, 404, "ROUTE_NOT_FOUND"),
        Case("a method that is not there", "DELETE", "/v1/usage-summaries", None, 405, "METHOD_NOT_ALLOWED"),
        Case("no batch", "POST", charge, {"events": []}, 400, "BATCH_EMPTY", "#/events"),
        Case("a batch of 1001", "POST", charge, {"events": [one] * 1001}, 400, "BATCH_TOO_LARGE", "#/events"),
        Case("a page of 1001", "GET", "/v1/endpoints?page_size=1001", None, 400, "FIELD_INVALID", "page_size"),
        Case("a page of -1", "GET", "/v1/endpoints?page_size=-1", None, 400, "FIELD_INVALID", "page_size"),
        Case("a made-up page token", "GET", "/v1/endpoints?page_token=zzz", None, 400, "PAGE_TOKEN_INVALID", "page_token"),
    ]  # fmt: skip


def of_the_objects(at: dict[str, str]) -> list[Case]:
    """Ids, states and ownership."""
    endpoint, topup = f"/v1/endpoints/{at['endpoint']}", {"endpoint_id": at["endpoint"], "request_id": "r"}
    return [
        Case("an id of no form", "GET", "/v1/endpoints/ep_1", None, 400, "FIELD_INVALID", "endpoint_id"),
        Case("an id of another kind", "GET", f"/v1/endpoints/{at['plan']}", None, 400, "FIELD_INVALID", "endpoint_id"),
        Case("an endpoint nobody has", "GET", f"/v1/endpoints/ep_{NOBODY}", None, 404, "ENDPOINT_NOT_FOUND"),
        Case("a plan nobody has", "POST", f"{endpoint}/addons", {"plan_id": f"pln_{NOBODY}"}, 404, "PLAN_NOT_FOUND"),
        Case("a base plan as an add-on", "POST", f"{endpoint}/addons", {"plan_id": at["plan"]}, 409, "PLAN_NOT_ADDON"),
        Case("deleting what is ACTIVE", "DELETE", endpoint, None, 409, "ENDPOINT_STATE"),
        Case("a name with a NUL", "PATCH", endpoint, {"name": "a\0b"}, 400, "FIELD_INVALID", "#/name"),
        Case("a name too long", "PATCH", endpoint, {"name": "a" * 201}, 400, "FIELD_INVALID", "#/name"),
        Case("a change of owner", "PATCH", endpoint, {"account_id": f"acc_{NOBODY}"}, 400, "FIELD_IMMUTABLE", "#/account_id"),
        Case("a top-up of nothing", "POST", "/v1/topups", topup | {"amount": eur(0)}, 400, "FIELD_INVALID", "#/amount"),
        Case("a negative top-up", "POST", "/v1/topups", topup | {"amount": eur(-1)}, 400, "FIELD_INVALID", "#/amount"),
        Case("a top-up over 2^53", "POST", "/v1/topups", topup | {"amount": eur(10**12)}, 400, "AMOUNT_OUT_OF_RANGE", "#/amount/units"),
        Case("less than a micro", "POST", "/v1/topups", topup | {"amount": eur(0, 1)}, 400, "FIELD_INVALID", "#/amount/nanos"),
        Case("another currency", "POST", "/v1/topups", topup | {"amount": eur(1) | {"currency_code": "USD"}}, 409, "CURRENCY_MISMATCH"),
        Case("a plan in other money than the endpoint's", "POST", f"{endpoint}:changePlan", {"plan_id": at["dollars"]}, 409, "CURRENCY_MISMATCH"),
        Case("a plan in other money than the account's", "POST", f"/v1/accounts/{at['account']}/plans", {"plan_id": at["wholesale dollars"]}, 409, "CURRENCY_MISMATCH", who="reseller"),
        Case("a wrong check digit", "POST", "/v1/sims:import", {"sims": [{"iccid": "89320000000000000001", "imsi": "206010000000000"}]}, 400, "FIELD_INVALID", "#/sims/0/iccid", "operator"),
        Case("no SIMs", "POST", "/v1/sims:import", {"sims": []}, 400, "FIELD_REQUIRED", "#/sims", "operator"),
    ]  # fmt: skip


def of_the_catalog(at: dict[str, str]) -> list[Case]:
    """Prices and plans."""
    rate = {"services": ["SERVICE_DATA"], "price": eur(1), "per_quantity": "1000", "rate_zone_id": at["zone"]}
    tariff: Callable[..., Json] = lambda **wrong: {"name": fresh("t"), "currency": "EUR", "rates": [rate | wrong]}  # noqa: E731
    plan = {"name": fresh("p"), "type": "PLAN_TYPE_ADDON", "service_profile_id": at["profile"]}
    return [
        Case("zones that overlap", "POST", f"/v1/tariffs/{at['overlapping']}:publish", {}, 409, "TARIFF_ZONES_OVERLAP", who="reseller"),
        Case("a negative price", "POST", "/v1/tariffs", tariff(price=eur(-1)), 400, "PRICE_OUT_OF_RANGE", "#/rates/0/price", "reseller"),
        Case("an absurd price", "POST", "/v1/tariffs", tariff(price=eur(9 * 10**18)), 400, "PRICE_OUT_OF_RANGE", "#/rates/0/price", "reseller"),
        Case("a price for no service", "POST", "/v1/tariffs", tariff(services=[]), 400, "FIELD_REQUIRED", "#/rates/0/services", "reseller"),
        Case("no service profile", "POST", "/v1/plans", plan | {"service_profile_id": ""}, 400, "FIELD_REQUIRED", "#/service_profile_id"),
        Case("a currency that nobody has", "POST", "/v1/plans", plan | {"currency": "ERU"}, 400, "CURRENCY_UNKNOWN", "#/currency"),
        Case("a negative benefit", "POST", "/v1/plans", plan | {"benefits": [{"services": ["SERVICE_DATA"], "quantity": "-5"}]}, 400, "FIELD_INVALID", "#/benefits/0/quantity"),
        Case("a profile of no services", "POST", "/v1/service-profiles", {"name": "n", "services": []}, 400, "FIELD_REQUIRED", "#/services"),
        Case("a profile with a service twice", "POST", "/v1/service-profiles", {"name": "n", "services": SERVICES + SERVICES[:1]}, 400, "SERVICE_TWICE", "#/services"),
    ]  # fmt: skip


async def in_dollars(owner: Stranger, **fields: str) -> str:
    """A published base plan in USD, where everybody has EUR."""
    fields |= {"charging_mode": "CHARGING_MODE_PREPAID", "service_profile_id": await service_profile(owner)}
    return await plan(owner, type="PLAN_TYPE_BASE", currency="USD", **fields)


async def told(case: Case, market: Market) -> tuple[Any, ...]:
    """What the system says to a case."""
    who: Stranger = getattr(market, case.who)
    problem = await who.problem(case.method, case.path, case.body, headers=JSON if case.body is not None else {})
    assert problem["type"] == f"urn:meterline:problem:{problem['code']}"
    assert problem["detail"]
    assert problem["request_id"]
    first = problem.get("errors", [{}])[0]
    return problem["status"], problem["code"], first.get("pointer") or first.get("parameter") or ""


@pytest.mark.parametrize("table", [of_the_request, of_the_objects, of_the_catalog])
async def test_bad_input_is_told_by_code_and_field_and_changes_nothing(
    table: Callable[..., list[Case]], market: Market
):
    endpoint_id = await market.endpoint(addons=[market.addon_a])
    rates = [
        {"services": ["SERVICE_DATA"], "price": eur(1), "per_quantity": "1000", "rate_zone_id": of}
        for of in (await zone(market.reseller, EU), await zone(market.reseller, EU[:1]))
    ]
    tariff = {"name": fresh("overlapping"), "currency": "EUR", "rates": rates}
    roaming = (await default_of(market.enterprise, "roaming-profiles", "DEFAULT"))["id"]
    at = {
        "endpoint": endpoint_id,
        "plan": market.prepaid_plan,
        "zone": rates[0]["rate_zone_id"],
        "overlapping": (await market.reseller.post("/v1/tariffs", tariff))["id"],
        "profile": (await default_of(market.enterprise, "service-profiles", "DEFAULT"))["id"],
        "account": market.enterprise.account_id,
        "dollars": await in_dollars(market.enterprise, roaming_profile_id=roaming),
        "wholesale dollars": await in_dollars(market.reseller),
    }
    before = await everything(market)
    cases = table(at)
    wrong = {
        case.name: said
        for case in cases
        if (said := await told(case, market))[:2] != (case.status, case.code) or not said[2].startswith(case.field)
    }
    assert wrong == {}
    assert await everything(market) == before


async def everything(market: Market) -> list[Any]:
    """All that the cases might have changed."""
    seen = [
        await market.enterprise.get(f"/v1/{name}")
        for name in ("endpoints", "plans", "service-profiles", "assignments", "sims")
    ]
    seen += [await market.reseller.get(f"/v1/{name}?page_size=1000") for name in ("tariffs", "plans")]
    for endpoint in seen[0]["endpoints"]:
        seen.append(await market.enterprise.get("/v1/balances", endpoint_id=endpoint["id"]))
    return seen


async def test_one_bad_record_in_a_batch_spoils_only_itself(market: Market):
    endpoint_id = await market.endpoint(addons=[market.addon_a])
    now_ms = usage(endpoint_id, 1).usage_time_ms
    bad: dict[str, list[Json]] = {
        "REASON_QUANTITY_OUT_OF_RANGE": [
            *({"quantity": quantity} for quantity in ("0", "-1", str(2**43 + 1))),
            {"quantity": None, "mode": "USAGE_MODE_OFFLINE"},
        ],
        "REASON_USAGE_TIME_IN_FUTURE": [{"usage_time_ms": str(now_ms + HOUR_MS)}],
        "REASON_USAGE_TIME_TOO_OLD": [{"usage_time_ms": "1"}, {"usage_time_ms": str(now_ms - 401 * 24 * HOUR_MS)}],
        "REASON_NETWORK_NOT_FOUND": [{"network_id": "net_99999"}],
        "REASON_ENDPOINT_NOT_FOUND": [{"endpoint_id": f"ep_{NOBODY}"}],
        "REASON_FIELD_INVALID": [{"event_id": ""}, {"event_id": "two words"}, {"access_type": 0}, {"service": 0}],
    }
    events = [event(endpoint_id) | wrong for cases in bad.values() for wrong in cases]
    good = [event(endpoint_id), event(endpoint_id)]
    results = (await market.enterprise.post("/v1/usage:charge", {"events": [good[0], *events, good[1]]}))["results"]
    wanted = [reason for reason, cases in bad.items() for _ in cases]
    assert [result["reason"] for result in results[1:-1]] == wanted
    assert {result["outcome"] for result in results[1:-1]} == {"OUTCOME_INVALID"}
    assert all(result["detail"] for result in results[1:-1])
    assert [result["outcome"] for result in (results[0], results[-1])] == ["OUTCOME_CHARGED"] * 2
    reused = await market.enterprise.post("/v1/usage:charge", {"events": [good[0] | {"quantity": "2"}]})
    assert reused["results"][0]["reason"] == "REASON_EVENT_ID_REUSED"


async def test_without_a_good_key_there_is_no_answer(market: Market):
    for headers in ({}, {"authorization": "Bearer mk_no"}, {"authorization": "Basic eDp5"}):
        answer = await market.operator.http.get("/v1/me", headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (401, "CREDENTIAL_INVALID")
        assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_a_batch_that_cannot_be_charged_does_not_end_its_stream(market: Market):
    endpoint_id = await market.endpoint()
    good = [usage(endpoint_id, 1) for _ in range(2)]
    batches = {1: good[:1], 2: [], 3: [usage(endpoint_id, 1)] * 1001, 4: good[1:]}
    answers = await market.enterprise.charge_stream(batches)
    assert {number: len(results) for number, results in answers.items()} == {1: 1, 2: 0, 3: 1001, 4: 1}
    assert answers[1][0].outcome == answers[4][0].outcome != charging_pb2.OUTCOME_INVALID
    assert {(each.outcome, each.reason) for each in answers[3]} == {
        (charging_pb2.OUTCOME_INVALID, charging_pb2.REASON_FIELD_INVALID)
    }
    assert "send at most 1000" in answers[3][0].detail


async def test_bytes_that_are_no_message_are_the_callers_fault(market: Market):
    channel, metadata = market.enterprise.rating, market.enterprise.metadata
    for name in ("ChargingService/ChargeEvent", "ChargingService/ChargeUsage", "BalanceService/GetBalance"):
        call: Any = channel.unary_unary(f"/meterline.rating.v1.{name}")
        with pytest.raises(grpc.aio.AioRpcError, match="is not a message of its contract") as told:
            await call(b"\xff\xff\xff", metadata=metadata)
        assert told.value.code() is grpc.StatusCode.INVALID_ARGUMENT


TOKENS = [["x"], [1, "x"], [1, 2, 3, 4], ["1", 2, 3, 4], [2**64, 0, 0, 0], ["o/", 0, "EUR", "", "", "", "", 0], [True]]
"""What next_page_token of one list or another may hold, or somebody may make up."""


async def test_a_page_token_that_somebody_made_up_is_refused_and_never_a_fault(market: Market):
    endpoint_id = await market.endpoint()
    balance = (await market.enterprise.get("/v1/balances", endpoint_id=endpoint_id))["balances"][0]["id"]
    lists = ["usage-records", "usage-summaries", "charges", "refunds", "events", "payments", "endpoints", "tariffs"]
    for path in (*lists, "accounts", f"balances/{balance}/ledger-entries"):
        for token in TOKENS:
            packed = base64.urlsafe_b64encode(json.dumps(token).encode()).decode()
            answer = await market.operator.ask("GET", f"/v1/{path}", params={"page_token": packed})
            assert (answer.status_code, answer.json()["code"]) == (400, "PAGE_TOKEN_INVALID"), (path, token)


async def test_a_page_token_is_of_its_list_and_filter_whatever_the_size_of_the_pages(market: Market):
    endpoints = [await market.endpoint() for _ in range(3)]
    asked = {"account_id": market.enterprise.account_id, "page_size": 1}
    first = await market.enterprise.get("/v1/endpoints", **asked)
    next_page = {**asked, "page_token": first["next_page_token"]}
    seen = [first, await market.enterprise.get("/v1/endpoints", **{**next_page, "page_size": 1000})]
    assert {each["id"] for page in seen for each in page["endpoints"]} >= set(endpoints)
    assert len(seen[0]["endpoints"]) == 1
    for path, wanted in (("sims", next_page), ("endpoints", {"page_token": next_page["page_token"]})):
        answer = await market.enterprise.ask("GET", f"/v1/{path}", params=wanted)
        assert (answer.status_code, answer.json()["code"]) == (400, "PAGE_TOKEN_INVALID"), answer.text
