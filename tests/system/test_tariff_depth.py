"""Tariffs with tiers, fees, caps and time bands, made over HTTP and charged as a customer's traffic is."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from meterline.rating.v1.charging_pb2 import Outcome, Reason, UsageMode
from services.common.clock import HOUR_MS
from tests.system.market import BE, DE, MB, Market, default_of, eur, plan, usage
from tests.system.stranger import Json, Stranger, fresh
from tests.system.test_worked_example import complete

HOUR = timedelta(hours=1)


async def plan_with(owner: Stranger, tariff: Json) -> str:
    """A published base plan of an enterprise's own tariff."""
    made = await owner.post("/v1/tariffs", {"name": fresh("tariff"), "currency": "EUR", **tariff})
    await owner.post(f"/v1/tariffs/{made['id']}:publish")
    return await plan(
        owner,
        type="PLAN_TYPE_BASE",
        charging_mode="CHARGING_MODE_POSTPAID",
        tariff_id=made["id"],
        service_profile_id=(await default_of(owner, "service-profiles", "DEFAULT"))["id"],
        roaming_profile_id=(await default_of(owner, "roaming-profiles", "DEFAULT"))["id"],
    )


def data(**component: Any) -> Json:
    return {"services": ["SERVICE_DATA"], "components": [component]}


async def amounts(caller: Stranger, endpoint_id: str, *quantities: int, **fields: Any) -> list[int]:
    """What uses cost the endpoint, in micros."""
    results = [await caller.charge_one(usage(endpoint_id, quantity, **fields)) for quantity in quantities]
    return [result.amounts_micros[0] for result in results]


@pytest.mark.requirement("R322")
async def test_tiers_count_over_the_cycle_and_come_back_as_they_were_said(market: Market):
    tiers = [
        {"up_to": str(10 * MB), "price": eur(1), "per_quantity": str(MB), "flat_price": eur(5)},
        {"price": eur(0, 500_000_000), "per_quantity": str(MB)},
    ]
    said = data(scope="PRICE_SCOPE_CYCLE", increment=str(MB), free_quantity=str(MB), tiers=tiers)
    body = {"name": fresh("tiers"), "currency": "EUR", "rates": [said], "time_zone": "Europe/Brussels"}
    made = await market.enterprise.post("/v1/tariffs", body)
    assert (made["time_zone"], made["rates"][0]["components"][0]["tiers"][0]["up_to"]) == (
        "Europe/Brussels",
        "10000000",
    )
    endpoint_id = await market.endpoint(await plan_with(market.enterprise, {"rates": [said]}))
    found = await amounts(market.enterprise, endpoint_id, MB, MB // 2, MB // 2, 9 * MB, 2 * MB)
    assert found == [0, 6_000_000, 0, 9_000_000, 1_000_000]


async def test_tiers_of_the_cycle_count_sessions_that_each_are_rounded_up(market: Market):
    tiers = [
        {"up_to": str(2 * MB), "price": eur(1), "per_quantity": str(MB)},
        {"price": eur(3), "per_quantity": str(MB)},
    ]
    rounding = {"scope": "PRICE_SCOPE_SESSION", "increment": str(MB), "minimum": "0"}
    said = data(scope="PRICE_SCOPE_CYCLE", tiers=tiers, use_rounding=rounding)
    endpoint_id = await market.endpoint(await plan_with(market.enterprise, {"rates": [said]}))
    assert await amounts(market.enterprise, endpoint_id, 1, 1, session_ref="one") == [1_000_000, 0]
    assert await amounts(market.enterprise, endpoint_id, 1, 1, session_ref="") == [1_000_000, 3_000_000]


async def test_endpoints_that_are_used_are_priced_by_their_number(market: Market):
    tiers = [{"up_to": "1", "price": eur(1)}, {"price": eur(0, 500_000_000)}]
    rounding = {"scope": "PRICE_SCOPE_MONTH", "maximum": "1"}
    said = data(
        meter="PRICE_METER_RECORDS", scope="PRICE_SCOPE_MONTH", counted_per="COUNTED_PER_ACCOUNT", tiers=tiers,
        use_rounding=rounding,
    )  # fmt: skip
    base = await plan_with(market.enterprise, {"rates": [said]})
    first, second = await market.endpoint(base), await market.endpoint(base)
    found = [(await amounts(market.enterprise, endpoint_id, MB))[0] for endpoint_id in (first, first, second, second)]
    assert found == [1_000_000, 0, 500_000, 0]
    wrong = {**said["components"][0], "counted_per": "COUNTED_PER_ENDPOINT"}
    body = {"name": fresh("wrong"), "currency": "EUR", "rates": [{**said, "components": [wrong]}]}
    told = await market.enterprise.problem("POST", "/v1/tariffs", body)
    assert told["errors"][0]["code"] == "ROUNDING_SCOPE"


async def test_a_bundle_is_drawn_in_steps_and_at_a_weight(market: Market):
    profile = (await default_of(market.enterprise, "service-profiles", "DEFAULT"))["id"]
    far = await market.enterprise.post("/v1/rate-zones", {"name": fresh("far"), "network_ids": ["net_26201"]})
    benefit = {
        "services": ["SERVICE_DATA"], "quantity": str(10 * MB), "use_rounding": {"increment": str(MB)},
        "weights": [{"rate_zone_ids": [far["id"]], "quantity": 3}],
    }  # fmt: skip
    bundle = await plan(
        market.enterprise, type="PLAN_TYPE_BASE", charging_mode="CHARGING_MODE_POSTPAID", benefits=[benefit],
        service_profile_id=profile,
        roaming_profile_id=(await default_of(market.enterprise, "roaming-profiles", "DEFAULT"))["id"],
    )  # fmt: skip
    endpoint_id = await market.endpoint(bundle)
    assert await amounts(market.enterprise, endpoint_id, MB + 1) == [0]
    assert await amounts(market.enterprise, endpoint_id, 1, network_id="net_26201") == [0]
    listed = (await market.enterprise.get("/v1/balances", endpoint_id=endpoint_id))["balances"]
    assert listed[0]["remaining"] == str(5 * MB), listed


async def test_a_day_pass_is_bought_by_the_first_use_of_the_day(market: Market):
    day_pass = data(
        scope="PRICE_SCOPE_DAY",
        tiers=[{"up_to": str(500 * MB), "flat_price": eur(7, 500_000_000)}, {"price": eur(5), "per_quantity": str(MB)}],
    )
    endpoint_id = await market.endpoint(await plan_with(market.enterprise, {"rates": [day_pass]}))
    assert await amounts(market.enterprise, endpoint_id, MB, 499 * MB, MB) == [7_500_000, 0, 5_000_000]


async def test_a_pass_of_24_hours_is_bought_by_its_first_use(market: Market):
    def lasting(window: str) -> Json:
        tier = {"flat_price": eur(7)}
        return data(scope="PRICE_SCOPE_WINDOW", window=window, meter="PRICE_METER_RECORDS", tiers=[tier])

    endpoint_id = await market.endpoint(await plan_with(market.enterprise, {"rates": [lasting("86400s")]}))
    now_ms = time.time_ns() // 1_000_000
    hours = [0, 1, 23, 25, 0]
    times = [now_ms - (26 - hour) * HOUR_MS for hour in hours]
    found = [await amounts(market.enterprise, endpoint_id, MB, usage_time_ms=at_ms) for at_ms in times]
    assert found == [[7_000_000], [0], [0], [7_000_000], [0]]
    weekly = data(**{**lasting("60s")["components"][0], "scope": "PRICE_SCOPE_WEEK"})
    for said in (lasting("59s"), lasting("3456001s"), lasting("60.5s"), weekly):
        body = {"name": fresh("wrong"), "currency": "EUR", "rates": [said]}
        told = await market.enterprise.problem("POST", "/v1/tariffs", body)
        reason = "WINDOW_MISFIT" if said is weekly else "FIELD_INVALID"
        assert (told["status"], told["errors"][0]["pointer"], told["code"]) == (
            400, "#/rates/0/components/0/window", reason
        )  # fmt: skip


async def test_a_pass_ends_by_time_or_by_volume(market: Market):
    ends = data(
        scope="PRICE_SCOPE_WINDOW", window="86400s", window_quantity=str(5 * MB), tiers=[{"flat_price": eur(7)}]
    )
    endpoint_id = await market.endpoint(await plan_with(market.enterprise, {"rates": [ends]}))
    now_ms = time.time_ns() // 1_000_000
    used = [(0, 4), (1, 3), (24, 3), (25, 1)]  # hours, MB
    found = [
        await amounts(market.enterprise, endpoint_id, mb * MB, usage_time_ms=now_ms - (26 - hour) * HOUR_MS)
        for hour, mb in used
    ]
    assert found == [[7_000_000], [7_000_000], [0], [7_000_000]]  # the second began after an hour
    await complete(market.enterprise, "/v1/charges", endpoint_id=endpoint_id)
    charges = (await market.enterprise.get("/v1/charges", endpoint_id=endpoint_id))["charges"]
    (second,) = (
        each
        for each in charges
        if each["step"] == 0 and each["quantity"] == str(3 * MB) and each["amount_micros"] != "0"
    )
    told = await market.enterprise.get(f"/v1/charges/{second['id']}:explain")
    assert "a window also ends once it holds 5000000" in str(told)
    assert "from 4000000 (7.00 EUR) to 7000000 (14.00 EUR)" in str(told)


async def test_a_spending_cap_blocks_throttles_or_frees(market: Market):
    async def capped(action: str) -> list[Any]:
        rate = {"services": ["SERVICE_DATA"], "price": eur(1), "per_quantity": str(MB)}
        cap = {"scope": "PRICE_SCOPE_CYCLE", "amount": eur(3), "action": f"LIMIT_ACTION_{action}"}
        endpoint_id = await market.endpoint(
            await plan_with(market.enterprise, {"rates": [rate], "spending_caps": [cap]})
        )
        await amounts(market.enterprise, endpoint_id, 2 * MB)
        return [await market.enterprise.charge_one(usage(endpoint_id, 2 * MB)) for _ in range(2)]

    free = await capped("FREE")
    assert [each.amounts_micros[0] for each in free] == [1_000_000, 0]
    slowed = await capped("THROTTLE")
    assert [(each.amounts_micros[0], each.throttled) for each in slowed] == [(1_000_000, True), (0, True)]
    for each in await capped("BLOCK"):
        assert (each.outcome, each.reason, each.refused_step) == (
            Outcome.OUTCOME_REFUSED, Reason.REASON_USAGE_LIMIT, 0
        )  # fmt: skip


async def test_a_cap_bounds_the_rates_that_it_names_and_no_others(market: Market):
    def rate(name: str, price: int, **where: Any) -> Json:
        return {"rate_id": name, "services": ["SERVICE_DATA"], "price": eur(price), "per_quantity": str(MB), **where}

    rates = [rate("home", 1, network_ids=[BE]), rate("far", 5)]
    cap = {"scope": "PRICE_SCOPE_CYCLE", "amount": eur(2), "rate_ids": ["home"]}
    endpoint_id = await market.endpoint(await plan_with(market.enterprise, {"rates": rates, "spending_caps": [cap]}))
    uses = [(BE, MB), (DE, MB), (BE, 2 * MB), (BE, MB), (DE, MB)]
    found = [await amounts(market.enterprise, endpoint_id, used, network_id=network) for network, used in uses]
    assert found == [[1_000_000], [5_000_000], [1_000_000], [0], [5_000_000]]
    wrong = {**cap, "rate_ids": ["home", "x"]}
    body = {"name": fresh("wrong"), "currency": "EUR", "rates": rates, "spending_caps": [wrong]}
    told = await market.enterprise.problem("POST", "/v1/tariffs", body)
    assert (told["status"], told["errors"][0]["pointer"], told["code"]) == (
        400, "#/spending_caps/0/rate_ids/1", "RATE_UNKNOWN"
    )  # fmt: skip


async def test_a_mark_up_on_cost_has_a_least_price(market: Market):
    markup = data(
        meter="PRICE_METER_COST", minimum_price=eur(0, 50_000_000),
        tiers=[{"price": eur(1, 300_000_000), "per_quantity": "1000000"}],
    )  # fmt: skip
    endpoint_id = await market.endpoint(await plan_with(market.enterprise, {"rates": [markup]}))
    assert await amounts(market.enterprise, endpoint_id, MB, cost_micros=1_000_000) == [1_300_000]
    assert await amounts(market.enterprise, endpoint_id, MB, cost_micros=1_000) == [50_000]


async def test_a_session_pays_its_fee_once_and_rounds_once(market: Market):
    fee = {"meter": "PRICE_METER_RECORDS", "scope": "PRICE_SCOPE_SESSION", "tiers": [{"flat_price": eur(1)}]}
    volume = {
        "scope": "PRICE_SCOPE_SESSION",
        "increment": str(MB),
        "tiers": [{"price": eur(2), "per_quantity": str(MB)}],
    }
    rate = {"services": ["SERVICE_DATA"], "components": [fee, volume]}
    endpoint_id = await market.endpoint(await plan_with(market.enterprise, {"rates": [rate]}))
    opened = await market.enterprise.post(
        "/v1/charging-sessions",
        {
            "session_ref": "s", "endpoint_id": endpoint_id, "network_id": "net_20601", "access_type": "ACCESS_TYPE_4G",
            "units": [{"service": "SERVICE_DATA", "requested_quantity": str(MB)}],
        },
    )  # fmt: skip
    charged = []
    for number, verb in enumerate(("update", "update", "release"), 1):
        report = {"sequence_number": number, "units": [{"service": "SERVICE_DATA", "used_quantity": "600000"}]}
        answer = await market.enterprise.post(f"/v1/charging-sessions/{opened['id']}:{verb}", report)
        charged.append(int(answer["grants"][0]["amounts_micros"][0]))
    assert charged == [3_000_000, 2_000_000, 0]
    reported = {"mode": UsageMode.USAGE_MODE_OFFLINE, "session_ref": "of-records"}
    assert await amounts(market.enterprise, endpoint_id, 600_000, 600_000, 600_000, **reported) == charged


async def test_holidays_and_bundles_of_hours_hold_by_the_clock_of_their_place(market: Market):
    zone = ZoneInfo("Pacific/Auckland")
    today = datetime.now(zone)
    yesterday = today - timedelta(days=1)
    tariff = {
        "time_zone": zone.key,
        "holidays": [f"{yesterday:%Y-%m-%d}"],
        "rates": [
            {"services": ["SERVICE_DATA"], "price": eur(3), "per_quantity": str(MB)},
            {
                "services": ["SERVICE_DATA"], "price": eur(1), "per_quantity": str(MB),
                "time_bands": [{"weekdays": [8], "start": "00:00", "end": "24:00"}],
            },
        ],
    }  # fmt: skip
    base = await plan_with(market.enterprise, tariff)
    read = await market.enterprise.get("/v1/tariffs/" + (await market.enterprise.get(f"/v1/plans/{base}"))["tariff_id"])
    assert (read["holidays"], read["rates"][1]["time_bands"][0]["weekdays"]) == ([f"{yesterday:%Y-%m-%d}"], [8])
    endpoint_id = await market.endpoint(base)
    noons = [
        round(day.replace(hour=12, fold=0).timestamp()) * 1000 for day in (yesterday, yesterday - timedelta(days=1))
    ]
    found = [await amounts(market.enterprise, endpoint_id, MB, usage_time_ms=at_ms) for at_ms in noons]
    assert found == [[1_000_000], [3_000_000]]
    now = datetime.now(UTC)  # the enterprise's billing cycle is in UTC
    hours = {"now": (now - HOUR, now + HOUR), "later": (now + 2 * HOUR, now + 4 * HOUR)}
    left = {}
    for name, (start, end) in hours.items():
        bands = [{"start": f"{start:%H:%M}", "end": f"{end:%H:%M}"}]
        benefit = {"services": ["SERVICE_DATA"], "quantity": str(10 * MB), "time_bands": bands}
        service_profile = (await default_of(market.enterprise, "service-profiles", "DEFAULT"))["id"]
        bundle = await plan(
            market.enterprise, type="PLAN_TYPE_ADDON", service_profile_id=service_profile, benefits=[benefit]
        )
        assert (await market.enterprise.get(f"/v1/plans/{bundle}"))["benefits"][0]["time_bands"] == [
            {"weekdays": [], **bands[0]}
        ]
        endpoint_id = await market.endpoint(base, addons=[bundle])
        left[name] = (await amounts(market.enterprise, endpoint_id, MB))[0]
    assert left == {"now": 0, "later": 3_000_000}


@pytest.mark.parametrize(
    ("benefit", "code", "field"),
    [
        ({"time_bands": [{"weekdays": [8], "start": "08:00", "end": "18:00"}]}, "WEEKDAY_OF_TARIFFS", "weekdays"),
        ({"roll_over_maximum": "5"}, "NO_ROLL_OVER", "roll_over_maximum"),
    ],
)
async def test_what_is_wrong_with_a_benefit_is_said(market: Market, benefit: Json, code: str, field: str):
    profile = (await default_of(market.enterprise, "service-profiles", "DEFAULT"))["id"]
    body = {
        "name": fresh("wrong"), "type": "PLAN_TYPE_ADDON", "service_profile_id": profile,
        "benefits": [{"services": ["SERVICE_DATA"], "quantity": "5", **benefit}],
    }  # fmt: skip
    problem = await market.enterprise.problem("POST", "/v1/plans", body)
    assert (problem["status"], problem["code"]) == (400, code)
    assert problem["errors"][0]["pointer"].endswith(field), problem


async def test_a_holiday_is_a_day_of_the_calendar(market: Market):
    body = {"name": fresh("wrong"), "currency": "EUR", "rates": [data(tiers=[{}])], "holidays": ["2026-02-29"]}
    problem = await market.enterprise.problem("POST", "/v1/tariffs", body)
    assert (problem["status"], problem["code"], problem["errors"][0]["pointer"]) == (
        400,
        "DATE_INVALID",
        "#/holidays/0",
    )


@pytest.mark.parametrize(
    ("rate", "code", "field"),
    [
        (data(tiers=[{"up_to": "5"}]), "TIERS_OUT_OF_ORDER", "tariff.rates[0].components[0].tiers[0].up_to"),
        ({**data(tiers=[{}]), "price": eur(1)}, "PRICE_TWICE", "tariff.rates[0].components"),
        ({"services": ["SERVICE_DATA"]}, "FIELD_REQUIRED", "tariff.rates[0].price"),
        (
            {**data(tiers=[{}]), "time_bands": [{"weekdays": [9], "start": "08:00", "end": "18:00"}]},
            "FIELD_INVALID",
            "rates[0].time_bands[0].weekdays[0]",
        ),
        (
            {**data(tiers=[{}]), "time_bands": [{"start": "8:00", "end": "18:00"}]},
            "FIELD_INVALID",
            "time_bands[0].start",
        ),
    ],
)
async def test_what_is_wrong_with_a_tariff_is_said(market: Market, rate: Json, code: str, field: str):
    body = {"name": fresh("wrong"), "currency": "EUR", "rates": [rate]}
    problem = await market.enterprise.problem("POST", "/v1/tariffs", body)
    assert problem["status"] == 400
    assert code in str(problem)
    assert field.rpartition(".")[2] in str(problem), problem
